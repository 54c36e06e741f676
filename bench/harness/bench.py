"""How every experiment begins and ends: settings, store and data first; tables, report and exit status last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pandas as pd

from bench.frames.experiment import Experiment
from bench.harness.accuracy import compute_accuracy
from bench.harness.plan import Work, current_plan
from bench.harness.runner import Overwrite, run_cells
from bench.harness.settings import Settings
from bench.harness.training import note_results
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome, Record
from bench.store.results import build_report, print_table, write_table
from bench.store.store import Store
from bench.trackers.tracking import Tracking


class Bench:
    """An experiment at work.

    While ``bench list`` plans, nothing is computed, written or shown: cells go to the plan, and none has a result.

    Args:
        about: The experiment.
        settings: As the user gave them.
        whole_llm: The LLM's cost is what is measured: it keeps the blocks that a preset would leave out, unless the
            preset is smoke or the user says --layers.

    Raises:
        InputError: If results cannot be written, or a tracker is wanted that is not there.
    """

    def __init__(self, about: Experiment, settings: Settings, *, whole_llm: bool = False) -> None:
        resolved = settings.resolved()
        if whole_llm and settings.preset != "smoke":
            resolved = replace(resolved, layers=settings.layers)
        self.about, self.settings = about, resolved
        self.plan = current_plan()
        self.store = Store(resolved.out)
        if self.plan is None:
            self.store.check_writable()
        self.tracking = None
        if self.plan is None and resolved.track is not None and resolved.overwrite != "only-cache":
            self.tracking = Tracking(resolved.track, self.store)
        self.workspace = self.load(resolved)
        self.status = 0

    def load(self, settings: Settings) -> Workspace:
        """Return the workspace of some settings, those of the run or what an experiment makes of them."""
        return Workspace(settings) if self.plan is None else self.plan.workspace(settings)

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
        done = run_cells(
            wanted,
            compute,
            self.store,
            overwrite=overwrite or self.settings.overwrite,
            progress=self.settings.progress if progress is None else progress,
            track=self.tracking.log if self.tracking else None,
        )
        self.status = max(self.status, done.status)
        return done.records

    def accuracy(self, cells: Iterable[Cell | tuple[Workspace, Cell]]) -> list[Record]:
        """Train and evaluate methods, or find them done.

        Args:
            cells: Accuracy cells, each with its workspace where that is not the run's.
        """
        places = dict(
            (entry[1].key, entry) if isinstance(entry, tuple) else (entry.key, (self.workspace, entry))
            for entry in cells
        )

        def compute(cell: Cell) -> Outcome:
            return compute_accuracy(places[cell.key][0], self.store)(cell)

        records = self.run(
            [cell for _, cell in places.values()], compute, place_of=lambda cell: places[cell.key][0]
        )
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

    def write(self, table: pd.DataFrame, name: str | None = None) -> None:
        """Write a table to ``tables/NAME.csv``, by default that of the experiment's name."""
        if not self.planning:
            write_table(table, self.store, name or self.about.name)

    def show(self, table: pd.DataFrame, title: str) -> None:
        """Print a table."""
        if not self.planning:
            print_table(table, title=title)

    def finish(self) -> int:
        """Build the report where that is wanted, and return the exit status: 1 where a cell failed."""
        if self.settings.report and not self.planning:
            build_report(self.settings.out)
        return self.status


def sampled_means(table: pd.DataFrame, keys: Sequence[str], shown: Sequence[str]) -> pd.DataFrame:
    """Return means over seeds, with sampled candidates, of some columns by some others."""
    sampled = table[table["candidates"] == "sampled"]
    return sampled.groupby(list(keys), sort=False, dropna=False)[list(shown)].mean().reset_index()
