"""``python -m bench scaling-out``: how long a grid would take on 1 to 100 workers, simulated from stored cells."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from bench.cluster.order import Job, Order, in_order
from bench.harness.sharing import needs_of
from bench.store.cell import Cell, Record
from bench.store.results import print_table
from bench.store.store import Store
from illmrec.errors import InputError
from illmrec.escaping import csv_text
from illmrec.files import atomic_write_text
from illmrec.model import processes

logger = logging.getLogger(__name__)

WORKERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 80, 100)
GAIN = 0.05
"""Scaling stops where the time is within this share of what any number of workers would take."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Jobs with how long each takes.

    Attributes:
        jobs: Cells, and what they share.
        seconds: By name of a job.
    """

    jobs: Sequence[Job]
    seconds: Mapping[str, float]

    @property
    def critical_path(self) -> float:
        """Seconds of the longest chain of jobs that come after each other: no number of workers is faster."""
        ends: dict[str, float] = {}
        left = {job.name: job for job in self.jobs}
        while left:
            for name in [name for name, job in left.items() if ends.keys() >= {*job.after}]:
                job = left.pop(name)
                ends[name] = max((ends[other] for other in job.after), default=0.0) + self.seconds[name]
        return max(ends.values(), default=0.0)


def main(
    *,
    out: Path = Path("reports/out"),
    cells: int = 1000,
    workers: tuple[int, ...] = WORKERS,
    start_seconds: float = 15.0,
    handing_seconds: float = 0.1,
    feature_seconds: float | None = None,
) -> int:
    """Simulate a grid of many cells on 1 to 100 workers, from times and dependencies of the cells in a store.

    The stored accuracy cells are repeated, each time with other seeds, until there are as many as wanted: what a seed
    does not change, features of contents and summaries, is computed once for all of them; states and models once for
    each seed. Jobs are handed out as to real workers. Writes tables/scaling_out.csv and figures/scaling_out.png under
    --out, and says where it stops scaling.

    Args:
        out: Folder with results.
        cells: Cells of the grid.
        workers: Numbers of workers.
        start_seconds: Until a new worker has loaded data and LLM.
        handing_seconds: Between two jobs of a worker.
        feature_seconds: What computing one kind of features or the summaries takes; "none" takes what
            bench.preparation has measured and, where there is nothing, the longest cell.
    """
    for name, value in {"cells": cells, "workers": min(workers, default=0)}.items():
        if value < 1:
            raise InputError(f"--{name}: give at least 1")
    for name, seconds in {"start-seconds": start_seconds, "handing-seconds": handing_seconds}.items():
        if not 0 <= seconds < float("inf"):
            raise InputError(f"--{name} {seconds}: give 0 or more")
    store = Store(out)
    records = store.records("accuracy")
    if not records:
        raise InputError(
            f"no accuracy cells in {out}: run python -m bench.comparison first, or give another --out"
        )
    shared = _feature_seconds(store, records) if feature_seconds is None else feature_seconds
    logger.info("features and summaries take %.1f s a kind, once (--feature-seconds)", shared)
    grid = grid_of(records, cells=cells, shared_seconds=shared)
    table = scaling(grid, workers, start=start_seconds, handing=handing_seconds)
    if processes.is_main():
        atomic_write_text(out / "tables" / "scaling_out.csv", csv_text(table, float_format="%.6g"))
        draw(table, grid, out / "figures" / "scaling_out.png")
    print_table(table, title=f"{cells:,} cells like the {len(records)} in {out}, simulated")
    print(verdict(table, grid, start=start_seconds, handing=handing_seconds), flush=True)
    return 0


def grid_of(records: Sequence[Record], *, cells: int, shared_seconds: float) -> Grid:
    """Return a grid of cells like stored ones.

    Args:
        records: Accuracy cells.
        cells: How many to make of them, by repeating all of them with other seeds.
        shared_seconds: What computing features or summaries takes.
    """
    # Of cells that share states or a model, the one that computed these took longest: it comes first.
    ordered = sorted(records, key=lambda record: -record.seconds)
    needs = {record.key: needs_of(_cell(record), {}) for record in ordered}
    names, parts, groups, seconds = [], {}, {}, {}
    for number in range(cells):
        repeat, record = number // len(ordered), ordered[number % len(ordered)]
        name = f"{record.key}/{repeat}"
        names.append(name)
        seconds[name] = record.seconds
        need = needs[record.key]
        parts[name] = [
            key if part not in ("cf", "aligned") else f"{key}/{repeat}" for part, key in need.parts.items()
        ]
        groups[name] = f"{need.group}/{repeat}" if need.group else ""
        seconds |= dict.fromkeys(parts[name], shared_seconds)
    return Grid(jobs=in_order(names, parts, groups, {}), seconds=seconds)


def simulated(grid: Grid, workers: int, *, start: float = 0.0, handing: float = 0.0) -> tuple[float, float]:
    """Return the seconds until the last job has ended, and those that workers were at work, in all.

    Args:
        grid: The jobs.
        workers: Workers that all come at the beginning.
        start: Seconds until a worker takes its first job.
        handing: Seconds between two jobs of a worker.
    """
    order = Order(grid.jobs)
    free = [(start, number) for number in range(workers)]
    going: list[tuple[float, int, Job]] = []
    idle: list[tuple[float, int]] = []
    now, busy = 0.0, 0.0
    numbered = {job.name: number for number, job in enumerate(grid.jobs)}
    running: dict[int, int] = {}
    heapq.heapify(free)
    while len(order) or going:
        if going and (not free or going[0][0] <= free[0][0]):
            now, number, job = _popped(going, running)
            order.finish(job)
            heapq.heappush(free, (now + handing, number))
            for since, other in idle:  # what came after it may be ready for them
                heapq.heappush(free, (max(since, now), other))
            idle.clear()
            continue
        at, number = heapq.heappop(free)
        now = max(now, at)
        taken = order.take(str(number))
        if taken is None:
            idle.append((at, number))
            continue
        length = grid.seconds[taken.name]
        busy += length
        running[numbered[taken.name]] = number
        heapq.heappush(going, (now + length, numbered[taken.name], taken))
    return now, busy


def _popped(going: list[tuple[float, int, Job]], running: dict[int, int]) -> tuple[float, int, Job]:
    """Return when the next job ends, on which worker, and the job."""
    at, place, job = heapq.heappop(going)
    return at, running.pop(place), job


def scaling(grid: Grid, workers: Sequence[int], *, start: float, handing: float) -> pd.DataFrame:
    """Return columns workers, seconds, hours, speedup, efficiency (of the workers' time, the share at work)."""
    alone, _ = simulated(grid, 1, start=start, handing=handing)
    rows = []
    for number in sorted(set(workers)):
        seconds, busy = simulated(grid, number, start=start, handing=handing)
        rows.append((number, seconds, seconds / 3600, alone / seconds, busy / (number * seconds)))
    return pd.DataFrame(rows, columns=["workers", "seconds", "hours", "speedup", "efficiency"])


def verdict(table: pd.DataFrame, grid: Grid, *, start: float, handing: float) -> str:
    """Return in one sentence from where on more workers are worth nothing, and what bounds them."""
    least, _ = simulated(grid, len(grid.jobs), start=start, handing=handing)
    bound = (
        f"no number of workers takes less than {least / 3600:.2f} h, of which the longest chain of cells that wait for "
        f"each other is {grid.critical_path / least:.0%}"
    )
    idle = table[table["efficiency"] < 0.5]
    half = (
        ""
        if idle.empty
        else f"; from {int(idle['workers'].iloc[0])} workers on they wait half of the time or more"
    )
    near = table[table["seconds"] <= (1 + GAIN) * least]
    if near.empty:
        last = table.iloc[-1]
        return (
            f"Up to {int(last['workers'])} workers more of them help: {last['hours']:.2f} h, {last['speedup']:.1f} "
            f"times as fast as one; {bound}{half}."
        )
    first = near.iloc[0]
    return (
        f"It stops scaling at {int(first['workers'])} workers: {first['hours']:.2f} h, {first['speedup']:.1f} times as "
        f"fast as one; {bound}{half}."
    )


def draw(table: pd.DataFrame, grid: Grid, path: Path) -> None:
    """Draw time against workers, both logarithmic, with what would be ideal and what nothing can be faster than."""
    with matplotlib.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        workers, hours = table["workers"], table["hours"]
        axes.plot(workers, hours, "o-", color="#0072B2", label="simulated")
        axes.plot(workers, hours.iloc[0] * workers.iloc[0] / workers, ":", color="#666666", label="ideal")
        chain = grid.critical_path / 3600
        axes.axhline(chain, color="#D55E00", linestyle="--", label="longest chain of cells")
        axes.set(xscale="log", yscale="log", xlabel="workers", ylabel="hours")
        shown = [number for number in (1, 2, 4, 8, 16, 32, 64, 100) if number in set(workers)]
        axes.set_xticks(shown, [str(number) for number in shown])
        axes.minorticks_off()
        axes.legend(frameon=False)
        axes.set_title(f"{len(grid.jobs):,} jobs on simulated workers", loc="left")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def _cell(record: Record) -> Cell:
    return Cell(
        experiment=record.experiment,
        version=record.version,
        config=record.config,
        method=record.method,
        seed=record.seed,
        dataset=record.dataset,
    )


def _feature_seconds(store: Store, records: Sequence[Record]) -> float:
    """Return what features of contents took where that was measured, else what the longest cell took."""
    measured = [
        float(record.results["seconds"])
        for record in store.records("preparation")
        if record.method in ("image", "text") and "seconds" in record.results
    ]
    return max(measured or [record.seconds for record in records])
