"""Where no cell has a result, what was said of the cells remains, and tables and page of before stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from noise_features import put_noise

from bench import comparison, sequence_length, tune, user_activity
from illmrec.command_line import run
from illmrec.errors import UnsupportedError

SMALL = [
    "--preset",
    "smoke",
    "--users",
    "60",
    "--items",
    "60",
    "--min-interactions",
    "1",
    "--negatives",
    "20",
]
SMALL += ["--layers", "1", "--max-steps", "2", "--no-progress"]


@pytest.fixture
def arguments(tiny_llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    put_noise(monkeypatch)
    return [*SMALL, "--llm", str(tiny_llm), "--out", str(tmp_path), "--methods", "illmrec"]


@pytest.mark.parametrize(
    ("experiment", "options"),
    [
        (comparison, []),
        (user_activity, ["--features", "image", "--min-users", "1"]),
        (sequence_length, ["--lengths", "2,4", "--min-users", "1", "--repeats", "1", "--group-users", "2"]),
    ],
)
def test_failed_cells_leave_their_line_alone(experiment, options, arguments, tmp_path, capfd):
    kept = tmp_path / "tables" / f"{experiment.__name__.removeprefix('bench.')}.csv"
    kept.parent.mkdir()
    kept.write_text("of before")
    command = [*arguments, *options, "--learning-rate", "1e9"]
    assert run(experiment.main, prog="bench", args=command) == 1
    out, err = capfd.readouterr()
    assert not out.strip()
    errors = [line for line in err.splitlines() if "ERROR" in line or line.startswith("error: ")]
    assert any("failed: illmrec" in line for line in errors) and "report" not in err
    assert errors[-1].endswith("cells failed; the same command tries only them again")
    assert [path.name for path in kept.parent.iterdir()] == [kept.name] and kept.read_text() == "of before"
    assert not (tmp_path / "index.html").exists()


def test_cells_that_are_not_to_be_computed_leave_their_line_alone(arguments, tmp_path, capfd):
    assert run(comparison.main, prog="bench", args=[*arguments, "--overwrite", "only-cache"]) == 0
    out, err = capfd.readouterr()
    assert not out.strip() and "missing: illmrec" in err and "report" not in err
    assert not (tmp_path / "tables").exists() and not (tmp_path / "index.html").exists()


def test_a_cell_with_a_result_has_its_table_beside_a_failed_one(arguments, tmp_path, capfd):
    command = [*arguments, "--learning-rate", "1e9", "--no-report"]
    command[command.index("illmrec")] = "illmrec,popularity"
    assert run(comparison.main, prog="bench", args=command) == 1
    assert "popularity" in capfd.readouterr().out
    assert "popularity" in (tmp_path / "tables" / "comparison.csv").read_text()


def test_methods_that_cannot_be_searched_leave_no_table(arguments, tmp_path, capfd, monkeypatch):
    pytest.importorskip("optuna", reason="searches")
    command = [*arguments, "--trials", "1"]
    command[command.index("illmrec")] = "illmrec-4-tokens"
    command += ["--features", "text"]

    def refused(*_: object, **__: object) -> None:
        raise UnsupportedError("the data lack what it shows")

    monkeypatch.setattr(tune.Study, "run", refused)
    assert run(tune.main, prog="bench", args=command) == 1
    out, err = capfd.readouterr()
    assert not out.strip() and "is left out" in err and "report" not in err
    assert not (tmp_path / "tables").exists()
