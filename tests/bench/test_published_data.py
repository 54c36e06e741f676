"""A published data set by its name in an experiment: from the publisher's files to the table of the ablation."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from bench import ablation
from illmrec.command_line import run
from illmrec.data.__main__ import main

sys.path.append(str(Path(__file__).resolve().parents[1] / "illmrec"))

from publishers import N_ITEMS, WRITERS, picture

PAPERS = "amazon18-art"
"""The paper's own runs with the fast tests; the layouts of the others are parsed there, and trained on here."""


def pictures(name: str, folder: Path) -> list[str]:
    """Write pictures under the items' ids, where a publisher's files have none; return the option that reads them."""
    if name in ("hm", "microlens"):
        return []
    folder.mkdir()
    for item in range(N_ITEMS):
        if name.startswith("amazon"):
            names = [f"B{item:09d}"]
        elif name == "hm-article":
            names = [f"01{item:05d}{colour:03d}" for colour in (1, 2)]
        else:
            names = [str(item + 1)]
        for one in names:
            (folder / f"{one}.jpg").write_bytes(picture(item))
    return ["--picture-folder", str(folder)]


@pytest.mark.parametrize(
    "name", [name if name == PAPERS else pytest.param(name, marks=pytest.mark.slow) for name in WRITERS]
)
def test_the_ablation_runs_on_what_was_built(
    name: str, tmp_path: Path, tiny_llm: Path, tiny_encoders: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("recbole")
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / "cache"))
    files = tmp_path / "files"
    files.mkdir()
    WRITERS[name](files)
    core = ["--min-interactions", "3"] if name == "hm-article" else []  # its items are half as often bought
    got = [
        "get",
        name,
        "--source",
        str(files),
        *pictures(name, tmp_path / "pictures"),
        *core,
        "--no-progress",
    ]
    assert main(got) == 0
    small = ["--preset", "smoke", "--llm", str(tiny_llm), *tiny_encoders, "--layers", "1", "--cf-epochs", "1"]
    small += ["--negatives", "2", "--no-progress", "--no-report", "--out", str(tmp_path / "out")]
    options = ["--rows", "a-e", "--dataset", name, *core, *small]
    assert run(ablation.main, prog="python -m bench.ablation", args=options) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "ablation.csv")
    assert set(table["row"]) == set("abcde") and table["dataset"].eq(name).all()
