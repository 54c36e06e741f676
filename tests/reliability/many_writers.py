"""Many writers: processes with overlapping work on one store and one cache, on this disk and on a simulated NFS."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from network_simulation import NetworkFolder
from programs import IMPORTED

from bench.harness.runner import run_cells
from bench.harness.study_storage import import_optuna, open_storage
from bench.store.cell import Cell, Outcome
from bench.store.store import Store
from illmrec import claims
from illmrec.command_line import run
from illmrec.data import load_dataset
from illmrec.data.candidates import negatives
from illmrec.features.computing import compute_table
from illmrec.files import atomic_directory
from illmrec.states.writing import TablePlan, compute_states

ITEMS, WIDTH, BATCH = 400, 6, 16
LEASE = 5.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the writers do.

    Attributes:
        folder: The folder that they share.
        notes: A folder of this machine's, for what each of them did.
        cells: How many cells there are.
        trials: How many trials each writer adds to a study.
        pause: Seconds that computing a cell or a batch takes.
        stale: Seconds for which a simulated machine goes by what it has seen; 0 is this disk as it is.
        lost: Share of answers of the simulated server that are lost.
        lease: Seconds without a sign of life after which a claim is free.
    """

    folder: Path
    notes: Path
    cells: int = 12
    trials: int = 3
    pause: float = 0.02
    stale: float = 0.0
    lost: float = 0.0
    lease: float = LEASE


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What came of many writers.

    Attributes:
        ended: Exit statuses of those that were not killed.
        cells: How many cells are stored.
        twice: Cells that were computed more than once.
        never: Cells that were computed by nobody.
        batches_twice: Batches of the two tables that were computed more than once.
        wrong: What differs from what one process gives, in words.
        left: Temporary files and folders that are left.
        seconds: How long all took.
    """

    ended: list[int | None]
    cells: int
    twice: int
    never: int
    batches_twice: int
    wrong: list[str]
    left: int
    seconds: float


def main(
    *,
    writers: int = 8,
    cells: int = 64,
    rounds: int = 5,
    stale: float = 3.0,
    lost: float = 0.05,
    network: bool = True,
) -> int:
    """Let many processes write to one folder, one of them killed while it computes, and count what came of it.

    Exit status 1 where a result is missing or differs from that of one process, or a process failed.

    Args:
        writers: Processes at a time.
        cells: Cells; every writer wants all of them, in an order of its own.
        rounds: How often all is done, in a new folder each time.
        stale: Seconds for which simulated machines go by what they have seen.
        lost: Share of answers of the simulated server that are lost.
        network: Simulate NFS; else the disk as it is.
    """
    rows = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryDirectory() as notes:
            task = Task(
                folder=Path(shared),
                notes=Path(notes),
                cells=cells,
                stale=stale if network else 0.0,
                lost=lost if network else 0.0,
            )
            counted = let_write(task, writers=writers, kill=True)
        failed = sum(status != 0 for status in counted.ended)
        rows.append({"round": number, "failed": failed, **counted.__dict__, "wrong": len(counted.wrong)})
        for line in counted.wrong:
            print(f"wrong: {line}", flush=True)
    table = pd.DataFrame(rows).drop(columns="ended")
    print(table.to_string(index=False), flush=True)
    return int(bool(table[["failed", "wrong", "never"]].to_numpy().any()))


def let_write(task: Task, *, writers: int, kill: bool) -> Counted:
    """Start writers, kill one while it holds a claim if asked to, wait for all, and compare with one process.

    Args:
        task: What they do.
        writers: How many.
        kill: Kill the first while it computes its first cell.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED, "bench.tune", "optuna"])
    began = time.monotonic()
    processes: list[BaseProcess] = [
        context.Process(target=write_as, args=(task, number, kill and number == 0))
        for number in range(writers)
    ]
    processes[0].start()
    if kill:
        _wait_for(task.notes / "hangs", processes[0])
    for process in processes[1:]:
        process.start()
    if kill:
        # The others have seen that it lives; now it does not.
        while not _notes(task, "cells") and processes[1].is_alive():
            time.sleep(0.02)
        os.kill(processes[0].pid or 0, signal.SIGKILL)
    for process in processes:
        process.join()
    ended = [process.exitcode for process in processes[int(kill) :]]
    seconds = time.monotonic() - began
    return _counted(task, ended, seconds=seconds)


def _wait_for(path: Path, process: BaseProcess) -> None:
    while not path.exists():
        if not process.is_alive():
            raise RuntimeError(f"the writer that was to be killed ended with {process.exitcode}")
        time.sleep(0.02)


def write_as(task: Task, number: int, hang: bool) -> None:
    """Be one of the writers: a machine of its own where a network is simulated.

    Args:
        task: What to do.
        number: Which of them.
        hang: Hold the claim of the first cell for ever.
    """
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    (claims.Claim.__init__.__kwdefaults__ or {})["lease"] = task.lease
    if task.stale:
        NetworkFolder(task.folder, machine=number, seconds=task.stale, lost=task.lost).install()
    order = random.Random(number)

    def note(what: str, key: object) -> None:
        # Of this machine, in one write: nothing of it is simulated.
        with (task.notes / f"{what}-{number}").open("a", encoding="utf-8") as file:
            file.write(f"{key}\n")

    def compute(cell: Cell) -> Outcome:
        note("cells", cell.seed)
        if hang:
            (task.notes / "hangs").touch()
            time.sleep(3600)
        time.sleep(task.pause)
        return result(cell)

    cells = made_cells(task.cells)
    order.shuffle(cells)
    store = Store(task.folder / "out")
    ended = run_cells(cells, compute, store, progress=False)
    if len(ended.records) != len(cells):
        raise RuntimeError(f"{[failure.message for failure in ended.failures]}")
    parts: list[Callable[[], object]] = [
        lambda: _features(task, lambda rows: note("features", rows[0])),
        lambda: _states(task, lambda batch: note("states", batch)),
        lambda: _candidates(task),
        lambda: _replaced(task),
        lambda: _study(task),
    ]
    order.shuffle(parts)
    for part in parts:
        part()
    table = store.table("accuracy")
    if table["results.seed"].tolist() != list(range(task.cells)):
        raise RuntimeError(f"the table has {len(table)} rows")


def made_cells(count: int) -> list[Cell]:
    """Return the cells that all writers want."""
    return [
        Cell(
            experiment="accuracy",
            version=1,
            config={"method": "m", "seed": seed},
            method="m",
            seed=seed,
            dataset={},
        )
        for seed in range(count)
    ]


def result(cell: Cell) -> Outcome:
    """Return what a cell gives, whoever computes it."""
    ranks = np.random.default_rng(cell.seed).integers(100, size=50)
    return Outcome(
        results={"seed": cell.seed, "mean": ranks.mean()}, frames={"ranks": pd.DataFrame({"rank": ranks})}
    )


def rows_of(rows: np.ndarray) -> np.ndarray:
    """Return the values of a table's rows, float32 [rows, width]; none of them is 0."""
    return (rows[:, None] * 7.0 + np.arange(WIDTH) + 0.5).astype(np.float32)


def _features(task: Task, note: Callable[[np.ndarray], None]) -> np.ndarray:
    def encode(rows: np.ndarray) -> np.ndarray:
        note(rows)
        time.sleep(task.pause)
        return rows_of(rows)

    table = compute_table(
        task.folder / "cache" / "features" / "key",
        n_items=ITEMS,
        width=WIDTH,
        present=np.ones(ITEMS, dtype=bool),
        encode_batch=encode,
        batch_size=BATCH,
        meta={"encoder": "made"},
        description="features",
        progress=False,
    )
    return np.array(table.values)


def _states(task: Task, note: Callable[[int], None]) -> np.ndarray:
    batches = [np.arange(first, first + BATCH) for first in range(0, ITEMS, BATCH)]

    def encode(number: int) -> torch.Tensor:
        note(number)
        time.sleep(task.pause)
        return torch.from_numpy(rows_of(batches[number]))

    plan = TablePlan(
        directory=task.folder / "cache" / "states" / "key",
        width=WIDTH,
        dtype="float32",
        batches=batches,
        tokens=[1] * len(batches),
        meta={"llm": "made"},
    )
    return compute_states(plan, encode, progress=False).values.numpy()


def _candidates(task: Task) -> np.ndarray:
    dataset = load_dataset("toyshop", users=40, items=60)
    return np.concatenate(
        [negatives(dataset, seed=seed, n=10, cache=task.folder / "cache") for seed in range(3)], axis=1
    )


def _replaced(task: Task) -> None:
    """Replace one folder again and again; what is there is always one writer's, whole."""
    target = task.folder / "cache" / "replaced"
    for turn in range(10):
        with atomic_directory(target) as folder:
            for name in ("first", "second"):
                (folder / name).write_text(f"{os.getpid()} {turn}")


def _study(task: Task) -> None:
    optuna = import_optuna()
    storage = open_storage(None, task.folder / "out")
    study = optuna.create_study(
        study_name="study", storage=storage, direction="maximize", load_if_exists=True
    )
    study.sampler = optuna.samplers.RandomSampler()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=task.trials)


def _notes(task: Task, what: str) -> list[str]:
    return [line for path in task.notes.glob(f"{what}-*") for line in path.read_text().split()]


def _counted(task: Task, ended: list[int | None], *, seconds: float) -> Counted:
    """Look at what was left, as one process on the machine of the disk."""
    store = Store(task.folder / "out")
    wrong = [f"a writer ended with {status}" for status in ended if status]
    records = store.records("accuracy")
    for record, cell in zip(
        sorted(records, key=lambda record: record.seed), made_cells(task.cells), strict=False
    ):
        outcome = result(cell)
        if record.results != dict(outcome.results) or not store.read_frame(record, "ranks").equals(
            outcome.frames["ranks"]
        ):
            wrong.append(f"cell {cell.seed} has other results")
    if [record.seed for record in sorted(records, key=lambda record: record.seed)] != list(range(task.cells)):
        wrong.append(f"{len(records)} of {task.cells} cells are stored")
    every = rows_of(np.arange(ITEMS))
    for name, part in (("features", _features(task, _refuse)), ("states", _states(task, _refuse))):
        if not np.array_equal(part, every):
            wrong.append(f"{int((part != every).any(axis=1).sum())} rows of {name} differ")
    with tempfile.TemporaryDirectory() as alone:
        once = _candidates(Task(folder=Path(alone), notes=task.notes))
    if not np.array_equal(_candidates(task), once):
        wrong.append("candidates differ")
    replaced = {path.read_text() for path in (task.folder / "cache" / "replaced").iterdir()}
    if len(replaced) != 1:
        wrong.append(f"the replaced folder holds parts of {len(replaced)} writers")
    optuna = import_optuna()
    study = optuna.load_study(study_name="study", storage=open_storage(None, task.folder / "out"))
    trials = [trial.number for trial in study.trials if trial.state.name == "COMPLETE"]
    if trials != list(range(task.trials * len(ended))):
        wrong.append(f"the study has {len(trials)} of {task.trials * len(ended)} trials")
    computed = Counter(_notes(task, "cells"))
    if ended and (task.notes / "hangs").exists():  # the killed writer's cell was computed by another as well
        computed -= Counter([(task.notes / "cells-0").read_text().split()[0]])
    tables = Counter(("features", key) for key in _notes(task, "features"))
    tables += Counter(("states", key) for key in _notes(task, "states"))
    return Counted(
        ended=ended,
        cells=len(records),
        twice=sum(count > 1 for count in computed.values()),
        never=sum(computed[str(seed)] == 0 for seed in range(task.cells)),
        batches_twice=sum(count > 1 for count in tables.values()),
        wrong=wrong,
        left=sum(1 for _ in task.folder.rglob(".tmp-*")),
        seconds=seconds,
    )


def _refuse(_: object) -> None:
    raise AssertionError("it was computed already")


if __name__ == "__main__":
    sys.exit(run(main, prog="python tests/reliability/many_writers.py"))
