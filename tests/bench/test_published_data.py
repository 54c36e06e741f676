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


@pytest.mark.slow
def test_the_ablation_runs_on_what_was_built(tmp_path: Path, tiny_llm: Path, monkeypatch) -> None:
    pytest.importorskip("recbole")
    from publishers import write_hm

    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / "cache"))
    write_hm(tmp_path)
    assert main(["get", "hm", "--source", str(tmp_path), "--no-progress"]) == 0
    small = [
        "--preset",
        "smoke",
        "--llm",
        str(tiny_llm),
        "--layers",
        "1",
        "--cf-epochs",
        "1",
        "--negatives",
        "2",
    ]
    options = ["--rows", "a-e", "--dataset", "hm", *small, "--out", str(tmp_path / "out"), "--no-progress"]
    assert run(ablation.main, prog="python -m bench.ablation", args=[*options, "--no-report"]) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "ablation.csv")
    assert set(table["row"]) == set("abcde") and table["dataset"].eq("hm").all()
