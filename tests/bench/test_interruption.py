"""Runs of real processes that are killed or that share a store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.store.store import Store

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, pathlib, sys, time
import pandas as pd
from bench.store.cell import Cell, Outcome
from illmrec.command_line import run
from bench.harness.runner import run_cells
from bench.store.store import Store

here = pathlib.Path(os.environ["HERE"])
hang = os.environ.get("HANG")

def hang_here():
    (here / "hanging").touch()
    time.sleep(120)

write_parquet = pd.DataFrame.to_parquet

def half_written(frame, path, **options):
    write_parquet(frame, path, **options)
    if hang == "writing" and frame["rank"][0] == 1:
        hang_here()

pd.DataFrame.to_parquet = half_written

def compute(cell):
    with open(here / "computed", "a") as file:
        file.write(f"{cell.seed}\\n")
    if hang == "computing" and cell.seed == 1:
        hang_here()
    time.sleep(float(os.environ.get("PAUSE", "0")))
    return Outcome(results={"seed": cell.seed}, frames={"ranks": pd.DataFrame({"rank": [cell.seed]})})

def main() -> int:
    '''Compute three cells.'''
    cells = [
        Cell(
            experiment="accuracy",
            version=1,
            config={"method": "m", "seed": seed},
            method="m",
            seed=seed,
            dataset={},
        )
        for seed in range(3)
    ]
    return run_cells(cells, compute, Store(here / "out")).status

sys.exit(run(main, prog="example"))
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "example.py").write_text(SCRIPT)
    return Store(tmp_path / "out")


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(folder / "example.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HERE": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("moment", ["computing", "writing"])
def test_a_killed_run_is_completed_by_the_same_command(store: Store, tmp_path: Path, moment: str) -> None:
    process = start(tmp_path, HANG=moment)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "hanging").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -9
    (first,) = store.records()
    assert first.seed == 0
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.folder.iterdir()}
    assert before.keys() == {"cell.json", "checksums.json", "ranks.parquet"}

    again = start(tmp_path)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert "1 of 3 cells found, 2 to compute" in errors
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.folder.iterdir()}
    assert after == before
    records = store.records()
    assert sorted(record.seed for record in records) == [0, 1, 2]
    for record in records:
        assert store.read_frame(record, "ranks")["rank"].tolist() == [record.seed]
    assert (tmp_path / "computed").read_text().split() == ["0", "1", "1", "2"]


def test_two_processes_share_the_work_on_one_store(store: Store, tmp_path: Path) -> None:
    processes = [start(tmp_path, PAUSE="0.5") for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert sorted((tmp_path / "computed").read_text().split()) == ["0", "1", "2"]
    assert sorted(record.seed for record in store.records()) == [0, 1, 2]
    assert not list(store.cells.glob("*/.tmp-*"))
