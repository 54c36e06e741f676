"""Ranks in galleries: the file, and the tables computed again from it without the toolkit."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from page_reader import Page
from pyarrow import parquet

from bench.protocol import metrics
from bench.store.store import Store
from reports.from_ranks import METRICS
from reports.gallery import build_gallery
from reports.recompute import CLAIMS, main

ROOT = Path(__file__).resolve().parents[2]
GALLERIES = sorted(path.parent for path in (ROOT / "reports" / "gallery").glob("*/ranks.parquet"))
OTHER = {"dataset": "other & more", "fingerprint": "00aa11bb22cc33dd"}


@pytest.fixture(scope="module")
def stored(full, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all methods of one data set, and few of another, whose seeds are not the same."""
    filler = type(full)(tmp_path_factory.mktemp("stored") / "out")
    filler.comparison()
    filler.accuracy("no-llm", 0.42, seeds=(0, 1, 2), risa=True, features=("image", "cf", "text"))
    other = type(full)(filler.store.out, **OTHER)
    for method, ndcg, seeds in (("illmrec", 0.31, (0, 1, 2)), ("tallrec", 0.28, (1, 2)), ("trsr", 0.3, (2,))):
        other.accuracy(method, ndcg, seeds=seeds, risa=True, features=("image",))
    return filler.store.out


@pytest.fixture(scope="module")
def made(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery of that store; for reading only."""
    folder = tmp_path_factory.mktemp("gallery") / "two"
    build_gallery(stored, folder)
    return folder


@pytest.fixture
def small(filler, tmp_path: Path) -> Path:
    """A gallery of two methods."""
    for method, ndcg in (("illmrec", 0.4), ("tallrec", 0.3)):
        filler.accuracy(method, ndcg, seeds=(0,), risa=True, features=("image",))
    return build_gallery(filler.store.out, tmp_path / "two").parent


def counts(output: str) -> dict[str, tuple[int, int]]:
    """Return how many values of each file were compared, and how many differ."""
    found = re.findall(r"^two/(\S+): (\d+) values compared, (\d+) mismatches", output, flags=re.MULTILINE)
    return {name: (int(compared), int(differ)) for name, compared, differ in found}


@pytest.mark.parametrize("folder", GALLERIES, ids=lambda path: path.name)
def test_galleries_equal_their_ranks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder)]) == 0, capsys.readouterr().out


def test_ranks_are_those_of_the_store_without_ids(stored: Path, made: Path) -> None:
    schema = parquet.read_schema(made / "ranks.parquet")
    assert schema.names == ["dataset", "method", "seed", "cell", "user", "rank_sampled", "rank_full"]
    assert [schema.field(name).type for name in ("user", "rank_sampled", "rank_full")] == [
        pyarrow.int32()
    ] * 3
    assert pyarrow.types.is_integer(schema.field("seed").type)
    ranks = pd.read_parquet(made / "ranks.parquet")
    order = ["dataset", "method", "seed", "cell", "user"]
    assert ranks.equals(ranks.sort_values(order, ignore_index=True))
    store = Store(stored)
    records = {record.key: record for record in store.records("accuracy")}
    assert set(ranks["cell"]) == set(records)
    named: dict[str, set[tuple[int, str]]] = {}
    for key, rows in ranks.groupby("cell"):
        record, frame = records[key], store.read_frame(records[key], "ranks")
        assert set(rows["method"]) == {record.method} and set(rows["seed"]) == {record.seed}
        assert set(rows["dataset"]) == {record.config["dataset"]["name"]}
        columns = ["rank_sampled", "rank_full"]
        assert np.array_equal(rows[columns].to_numpy(), frame[columns].to_numpy())
        named.setdefault(rows["dataset"].iloc[0], set()).update(
            zip(rows["user"], frame["user_id"], strict=True)
        )
    for pairs in named.values():
        assert len(pairs) == 400 and {number for number, _ in pairs} == set(range(400))
    assert b"user-1" not in (made / "ranks.parquet").read_bytes()
    # A rank in 101 is a byte and one in 600 two at most; texts and users are next to nothing.
    assert (made / "ranks.parquet").stat().st_size < 3 * len(ranks)


def test_the_manifest_names_rows_digest_and_cells(stored: Path, made: Path) -> None:
    facts = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    content = (made / "ranks.parquet").read_bytes()
    assert "ranks.parquet" in facts["files"]
    ranks = facts["ranks"]
    assert ranks["sha256"] == hashlib.sha256(content).hexdigest()
    assert ranks["rows"] == len(pd.read_parquet(made / "ranks.parquet"))
    assert ranks["file"] == "ranks.parquet" and ranks["without_ranks"] == []
    assert {f"tables/{name}.csv" for name in ranks["tables"]} <= set(facts["files"])
    seeds = {record.key: record.seed for record in Store(stored).records("accuracy")}
    (other,) = (methods for name, methods in ranks["tables"].items() if "other" in name)
    found = {method: [seeds[cell] for cell in cells] for method, cells in other.items()}
    assert found == {"illmrec": [0, 1, 2], "tallrec": [1, 2], "trsr": [2]}


def test_a_gallery_equals_its_ranks(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main([str(made)])
    output = capsys.readouterr().out
    assert status == 0, output
    found = counts(output)
    assert {differ for _, differ in found.values()} == {0}
    compared = {name: number for name, (number, _) in found.items()}
    first, second = "-toyshop-5f1c0a9b.csv", "-other-more-00aa11bb.csv"
    assert set(compared) == {
        "ranks.parquet",
        *(
            f"tables/{name}{ending}"
            for name in ("accuracy", "table1", "table1_full", "headline", "claims")
            for ending in (first, second)
        ),
    }
    # Mean, error, seeds and users of each metric among both kinds of candidates; the best method's p value.
    assert compared[f"tables/accuracy{first}"] == 11 * 2 * len(METRICS) * 4
    assert compared[f"tables/table1{first}"] == 11 * len(METRICS) * 4 + 1
    # Two means with intervals, and the difference to the control with its own.
    assert compared[f"tables/headline{first}"] == 11 * 2 * 3 + 10 * 3
    assert compared[f"tables/claims{first}"] == len(CLAIMS) * 2 * 7
    assert compared[f"tables/claims{second}"] == 3 * 2 * 7


def test_what_was_changed_is_named(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "two"
    shutil.copytree(made, folder)

    def change(name: str, row: dict[str, str], column: str, by: float) -> None:
        path = folder / "tables" / f"{name}-toyshop-5f1c0a9b.csv"
        table = pd.read_csv(path)
        line = np.logical_and.reduce([table[key] == value for key, value in row.items()])
        assert line.sum() == 1
        table.loc[line, column] += by
        table.to_csv(path, index=False)

    change("accuracy", {"method": "trsr", "candidates": "full", "metric": "ndcg@5"}, "mean", 1e-6)
    change("table1", {"method": "illmrec", "metric": "ndcg@10"}, "stderr", 1e-4)
    change("headline", {"method": "title"}, "full_low", -0.1)
    claim = {"claim": "over-attributes", "candidates": "sampled"}
    change("claims", claim, "high", 0.2)
    change("claims", claim, "p_value", 0.3)
    gone = folder / "tables" / "table1_full-toyshop-5f1c0a9b.csv"
    lines = gone.read_text(encoding="utf-8").splitlines()
    gone.write_text("\n".join(line for line in lines if "trsr,full,mrr" not in line), encoding="utf-8")
    assert main([str(folder)]) == 1
    output = capsys.readouterr().out
    listed = [line.strip() for line in output.splitlines() if line.startswith("  ")]
    places = [
        ("accuracy", "trsr, full, ndcg@5, mean"),
        ("table1", "illmrec, sampled, ndcg@10, stderr"),
        *(("table1_full", f"trsr, full, mrr, {column}") for column in ("mean", "stderr", "seeds", "users")),
        ("headline", "title, full_low"),
        ("claims", "over-attributes, sampled, high"),
        ("claims", "over-attributes, sampled, p_value"),
    ]
    expected = [f"two/tables/{name}-toyshop-5f1c0a9b.csv: {where}: " for name, where in places]
    assert len(listed) == len(expected), listed
    assert all(line.startswith(start) for line, start in zip(listed, expected, strict=True))
    assert {name for name, (_, differ) in counts(output).items() if differ} == {
        line.partition(":")[0].removeprefix("two/") for line in expected
    }


def test_changed_ranks_do_not_pass(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranks = pd.read_parquet(small / "ranks.parquet")
    ranks["rank_full"] += 1
    ranks.iloc[:-1].to_parquet(small / "ranks.parquet")
    assert main([str(small)]) == 1
    output = capsys.readouterr().out
    assert counts(output)["ranks.parquet"] == (2, 2)
    listed = [line for line in output.splitlines() if line.startswith("  ")]
    assert len(listed) == 11 and re.fullmatch(r"  and \d+ more", listed[-1])


def test_cells_without_ranks_are_left_out_and_named(
    filler, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for method, ndcg in (("illmrec", 0.4), ("tallrec", 0.3), ("trsr", 0.35)):
        written = filler.accuracy(method, ndcg, seeds=(0, 1), risa=True, features=("image",))
    (written[1].folder / "ranks.parquet").unlink()
    folder = tmp_path / "two"
    build_gallery(filler.store.out, folder)
    assert "trsr seed 1" in caplog.text
    facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["ranks"]
    assert facts["without_ranks"] == [written[1].key]
    assert written[1].key not in set(pd.read_parquet(folder / "ranks.parquet")["cell"])
    assert main([str(folder)]) == 0
    output = capsys.readouterr().out
    assert "trsr left out: not all of its cells have ranks" in output
    assert counts(output)["tables/accuracy.csv"] == (2 * 2 * len(METRICS) * 4, 0)
    # A later gallery of the same folder without any ranks keeps none of before.
    for path in filler.store.cells.rglob("ranks.parquet"):
        path.unlink()
    build_gallery(filler.store.out, folder)
    assert not (folder / "ranks.parquet").exists()
    assert main([str(folder)]) == 2


def test_users_with_several_targets_count_once(
    filler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method, ndcg in (("illmrec", 0.4), ("tallrec", 0.3)):
        for record in filler.accuracy(method, ndcg, seeds=(0, 1), risa=True, features=("image",)):
            ranks = Store(filler.store.out).read_frame(record, "ranks").assign(target=1)
            second = ranks.iloc[:150].assign(target=2, rank_sampled=30 - ranks["rank_sampled"].clip(upper=25))
            both = pd.concat([ranks, second], ignore_index=True)
            results = dict(record.results)
            for candidates in ("sampled", "full"):
                given = both[f"rank_{candidates}"].to_numpy()
                results[candidates] = metrics.summarise(given, users=both["user_id"])
            filler.write("accuracy", record.config, results, {"ranks": both})
    folder = build_gallery(filler.store.out, tmp_path / "two").parent
    frame = pd.read_parquet(folder / "ranks.parquet")
    assert frame.columns.tolist()[4:] == ["user", "target", "rank_sampled", "rank_full"]
    assert len(frame) == 4 * 550
    first = frame.iloc[:550]
    assert first["user"].tolist() == [*np.repeat(np.arange(150), 2), *range(150, 400)]
    assert first["target"].tolist() == [1, 2] * 150 + [1] * 250
    status = main([str(folder)])
    output = capsys.readouterr().out
    assert status == 0, output
    assert counts(output)["tables/claims.csv"] == (14, 0)


@pytest.fixture
def of_days(filler, tmp_path: Path) -> Path:
    """A gallery whose ranks tell days, of all methods but one."""
    days = np.arange(400) % 5
    shared = {"risa": True, "features": ("image",)}
    for method, ndcg, seeds in (("illmrec", 0.4, (0, 1)), ("no-llm", 0.38, (0, 1)), ("tallrec", 0.3, (1,))):
        for record in filler.accuracy(method, ndcg, seeds=seeds, **shared):
            path = record.folder / "ranks.parquet"
            pd.read_parquet(path).assign(gap=days * 86_400, days=days).to_parquet(path)
    filler.accuracy("trsr", 0.35, seeds=(0,), **shared)
    return build_gallery(filler.store.out, tmp_path / "two").parent


def test_whether_the_day_is_a_later_one_is_all_that_ranks_tell_of_times(of_days: Path) -> None:
    schema = parquet.read_schema(of_days / "ranks.parquet")
    assert schema.names[4:] == ["user", "rank_sampled", "rank_full", "later_day"]
    assert schema.field("later_day").type == pyarrow.bool_()
    ranks = pd.read_parquet(of_days / "ranks.parquet")
    assert ranks.loc[ranks["method"] == "trsr", "later_day"].isna().all()
    told = ranks[ranks["method"] != "trsr"]
    assert (told["later_day"].astype(bool) == (told["user"] % 5 > 0)).all()


def test_results_by_the_day_of_the_target_equal_the_ranks(
    of_days: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(of_days)]) == 0, capsys.readouterr().out
    # Users, runs, and a mean with its interval; for two methods the difference to the third with its own.
    assert counts(capsys.readouterr().out)["tables/multi_day.csv"] == (2 * 3 * (3 * 5 + 2 * 3), 0)


def test_what_was_changed_by_the_day_of_the_target_is_named(
    of_days: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = of_days / "tables" / "multi_day.csv"
    whole = pd.read_csv(path)
    row = (whole["method"] == "illmrec") & (whole["target"] == "later day") & (whole["candidates"] == "full")
    assert row.sum() == 1
    width = float((whole["less_no_llm_high"] - whole["less_no_llm_low"])[row].iloc[0])
    changes = {
        "users": 1, "seeds": 1, "ndcg@10": 1e-6, "ndcg@10_low": -0.05, "less_no_llm": 1e-6, "less_no_llm_high": width,
    }  # fmt: skip
    changed = whole.astype(dict.fromkeys(changes, float))
    for column, by in changes.items():
        changed.loc[row, column] += by
    changed.to_csv(path, index=False)
    assert main([str(of_days)]) == 1
    listed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(listed) == len(changes)
    for line, column in zip(listed, changes, strict=True):
        assert line.startswith(f"  two/tables/multi_day.csv: illmrec, later day, full, {column}: ")
    pd.concat([whole[~row], whole[row].assign(method="trsr")]).to_csv(path, index=False)
    assert main([str(of_days)]) == 1
    output = capsys.readouterr().out
    # What the row held, and a row of a method whose ranks tell no days.
    assert counts(output)["tables/multi_day.csv"][1] == 8 + 1
    assert "trsr, later day, full: no ranks tell of such users" in output


def test_galleries_that_tell_no_days_are_read_as_before(
    of_days: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, manifest = of_days / "ranks.parquet", of_days / "manifest.json"
    pd.read_parquet(path).drop(columns="later_day").to_parquet(path)
    facts = json.loads(manifest.read_text(encoding="utf-8"))
    facts["ranks"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(facts), encoding="utf-8")
    assert main([str(of_days)]) == 0
    output = capsys.readouterr().out
    assert counts(output)["tables/multi_day.csv"] == (0, 0) and counts(output)["tables/headline.csv"][0] > 0
    assert (
        "multi_day.csv: 0 values compared, 0 mismatches; left out: made before ranks said whether" in output
    )


def test_a_gallery_without_accuracy_has_no_ranks(
    filler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filler.efficiency(["illmrec"], [2])
    page = Page(build_gallery(filler.store.out, tmp_path / "gallery"))
    assert page.tables
    assert not (tmp_path / "gallery" / "ranks.parquet").exists()
    for folder in (tmp_path / "gallery", tmp_path / "nothing"):
        assert main([str(folder)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and folder.name in error


def test_nothing_of_the_toolkit_is_imported(small: Path) -> None:
    program = (
        "import runpy, sys; sys.argv = ['recompute', sys.argv[1]]\n"
        "try: runpy.run_module('reports.recompute', run_name='__main__')\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "ours = {'torch', 'bench', 'illmrec', 'baselines', 'matplotlib'} & set(sys.modules)\n"
        "reports = {name for name in sys.modules if name.startswith('reports.')}\n"
        "print(ours, sorted(reports))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(small)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set() ['reports.from_ranks', 'reports.later_days']"
    assert done.stderr == ""


def test_help_says_what_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    for said in ("ranks.parquet", "accuracy*.csv", "claims*.csv", "exit status", "2.5 ± 2 %", "ir-measures"):
        assert said in output
    assert max(map(len, output.splitlines())) <= 120
