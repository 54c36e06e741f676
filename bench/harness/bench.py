"""How every experiment begins and ends: settings, store and data first; tables, report and exit status last."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.cluster.replay import Stage, current_replay
from bench.frames.costs import energy_note
from bench.frames.experiment import Experiment
from bench.harness.accuracy import compute_accuracy
from bench.harness.grid import Grid
from bench.harness.plan import Work, current_plan
from bench.harness.positions import warn_of_dropped
from bench.harness.runner import Overwrite, Run, run_cells
from bench.harness.settings import Settings
from bench.harness.sharing import prepare
from bench.harness.training import note_results
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome, Record
from bench.store.results import build_report, print_table, write_table
from bench.store.shared import open_store
from illmrec.model import processes

logger = logging.getLogger(__name__)


class Bench:
    """An experiment at work.

    While ``bench list`` plans, nothing is computed, written or shown: cells go to the plan, and none has a result. On a
    worker the program is replayed up to the cells that are wanted of it (:mod:`bench.cluster.replay`).

    Where no cell has a result, what was said of the cells is all that there is: tables without rows and the report are
    left out, so that those of before stay.

    Args:
        about: The experiment.
        settings: As the user gave them.
        whole_llm: The LLM's cost is what is measured: it keeps the blocks that a preset would leave out, unless the
            preset is smoke or the user says --layers.

    Attributes:
        status: The exit status: 1 where a cell failed.
        barren: Whether no cell that was asked for last has a result.
        wrote: Whether a table was written.

    Raises:
        InputError: If results cannot be written, or a tracker is wanted that is not there.
    """

    def __init__(self, about: Experiment, settings: Settings, *, whole_llm: bool = False) -> None:
        resolved = settings.resolved()
        if whole_llm and settings.preset != "smoke":
            resolved = replace(resolved, layers=settings.layers)
        self.plan, self.replay = current_plan(), current_replay()
        if self.replay is not None:
            resolved = replace(resolved, workers=0, scheduler=None, progress=False, report=False)
        self.about, self.settings = about, resolved
        self.store = open_store(resolved.out, resolved.store)
        if self.plan is None:
            self.store.check_writable()
        track = None
        tracks = self.plan is None and self.replay is None and resolved.overwrite != "only-cache"
        if resolved.track is not None and tracks:  # of a command and its workers the command alone
            from bench.trackers.tracking import Tracking  # late: it draws figures, and --help draws none

            track = Tracking(resolved.track, self.store).log
        self.workspace = self.load(resolved)
        self.grid = Grid(resolved, self.store, track=track)
        self.status = 0
        self.barren = self.wrote = False

    def load(self, settings: Settings) -> Workspace:
        """Return the workspace of some settings, those of the run or what an experiment makes of them."""
        if self.plan is not None:
            return self.plan.workspace(settings)
        if self.replay is None:
            return Workspace(settings)
        loaded = self.replay.loaded
        if settings not in loaded:
            loaded[settings] = Workspace(settings)
        found: Workspace = loaded[settings]
        return found

    def run(
        self,
        cells: Iterable[Cell],
        compute: Callable[[Cell], Outcome],
        *,
        place_of: Callable[[Cell], Workspace] | None = None,
        work: Callable[[Cell], Work | None] | None = None,
        overwrite: Overwrite | None = None,
        progress: bool | None = None,
    ) -> list[Record]:
        """Find cells in the store or compute them; return those that have a result, in the order of the cells.

        Args:
            cells: What is wanted.
            compute: Computes one cell.
            place_of: Returns where a cell is computed; by default the workspace of the run.
            work: Returns what a cell takes, for estimates; None where the cell itself says so.
            overwrite: Instead of what the settings say.
            progress: Instead of what the settings say.
        """
        wanted = list(cells)
        if self.plan is not None:
            self.plan.add(wanted, place_of or (lambda cell: self.workspace), work)
            return []
        chosen = overwrite or self.settings.overwrite
        if self.replay is not None:
            where = place_of or (lambda cell: self.workspace)
            return self.replay.pass_through(lambda: self._stage(wanted, compute, where), self.store)
        shown = self.settings.progress if progress is None else progress
        done = self.grid.run(wanted, compute, overwrite=chosen, progress=shown)
        self.status = max(self.status, done.status)
        if wanted:
            self.barren = not done.records
        return done.records

    def _stage(
        self, cells: Sequence[Cell], compute: Callable[[Cell], Outcome], where: Callable[[Cell], Workspace]
    ) -> Stage:
        """Return what a worker computes of a call of :meth:`run`."""

        def run(cells: Iterable[Cell], *, keep: bool, **options: Any) -> Run:
            overwrite: Overwrite = "only-missing" if keep else "always"
            return run_cells(cells, compute, self.store, overwrite=overwrite, progress=False, **options)

        return Stage(
            cells={cell.key: cell for cell in cells},
            run=run,
            prepare=lambda cell, part: prepare(where(cell), cell, part),
        )

    def accuracy(self, cells: Iterable[Cell | tuple[Workspace, Cell]]) -> list[Record]:
        """Train and evaluate methods, or find them done.

        Args:
            cells: Accuracy cells, each with its workspace where that is not the run's.
        """
        places = dict(
            (entry[1].key, entry) if isinstance(entry, tuple) else (entry.key, (self.workspace, entry))
            for entry in cells
        )

        def seeds_to_come(cell: Cell) -> list[int]:
            """Return the seeds of cells that follow, differ in nothing else and have no result."""
            place, keys = places[cell.key][0], list(places)
            following = [places[key] for key in keys[keys.index(cell.key) + 1 :]]
            alike = [
                other for where, other in following if where is place and _unseeded(other) == _unseeded(cell)
            ]
            # One look for all processes, which encode together.
            missing = processes.of_main([self.store.find(other) is None for other in alike])
            return [other.base_seed for other, wanted in zip(alike, missing, strict=True) if wanted]

        def compute(cell: Cell) -> Outcome:
            # On a worker one cell is computed, and others may have the rest.
            others: Callable[[Cell], Sequence[int]] = (
                seeds_to_come if self.replay is None else lambda cell: ()
            )
            return compute_accuracy(places[cell.key][0], self.store, other_seeds=others)(cell)

        records = self.run(
            [cell for _, cell in places.values()], compute, place_of=lambda cell: places[cell.key][0]
        )
        for record in records:  # what was found, or computed by a worker
            place, _ = places.get(record.key, (self.workspace, None))
            warn_of_dropped(record, record.results.get("prompt") or {}, workspace=place)
        if self.settings.overwrite != "only-cache":  # which writes nothing
            for record in records:
                note_results(self.store, record)
        return records

    def expect(self, work: Work) -> None:
        """Note work that is in no cell, where a plan is made."""
        if self.plan is not None:
            self.plan.besides.append(work)

    @property
    def planning(self) -> bool:
        """Whether a plan is made and nothing is computed."""
        return self.plan is not None

    @property
    def silent(self) -> bool:
        """Whether tables are neither written nor shown: where a plan is made, and on a worker."""
        return self.planning or self.replay is not None

    def write(self, table: pd.DataFrame, name: str | None = None) -> None:
        """Write a table to ``tables/NAME.csv``, by default that of the experiment's name."""
        if not self.silent and not (self.barren and table.empty):
            write_table(table, self.store, name or self.about.name)
            self.wrote = True

    def show(self, table: pd.DataFrame, title: str) -> None:
        """Print a table."""
        if not self.silent and not (self.barren and table.empty):
            print_table(table, title=title)

    def tell_costs(self, records: Sequence[Record]) -> None:
        """Say where energy and money of timed cells are from: measured or assumed, at which price."""
        if self.silent or not records:
            return
        pricing = self.settings.pricing()
        logger.info("%s", energy_note(records, pricing))
        if pricing.hourly is not None:
            logger.info("Money is time at %s.", pricing.words())

    def finish(self) -> int:
        """Build the report where that is wanted, and return the exit status: 1 where a cell failed."""
        if not self.silent:
            self.grid.finish()
        if self.settings.report and not self.silent and (self.wrote or not self.barren):
            build_report(self.settings.out, self.settings.pricing().options())
        return self.status


def sampled_means(table: pd.DataFrame, keys: Sequence[str], shown: Sequence[str]) -> pd.DataFrame:
    """Return means over seeds, with sampled candidates, of some columns by some others."""
    sampled = table[table["candidates"] == "sampled"]
    return sampled.groupby(list(keys), sort=False, dropna=False)[list(shown)].mean().reset_index()


def _unseeded(cell: Cell) -> dict[str, Any]:
    return {name: value for name, value in cell.config.items() if name not in ("seed", "base_seed")}
