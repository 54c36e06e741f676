"""Where the cells of a command are computed: one after the other in this process, or on workers side by side."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.cluster.task import Answer, Task
from bench.harness.runner import Failure, Overwrite, Run, run_cells
from bench.harness.settings import Settings
from bench.harness.sharing import needs_of
from bench.store.cell import Cell, Outcome, Record
from bench.store.provenance import command
from bench.store.store import Store
from illmrec.command_line import invocation
from illmrec.errors import InputError, UnsupportedError

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from bench.cluster.connection import Connection
    from bench.cluster.spread import Spread


class Grid:
    """The cells of one command, stage by stage: each call of :meth:`run` is one.

    Args:
        settings: Whether there are workers, and what cells ask of them.
        store: Where results are.
        track: Is given each result that was found or computed, in this process.
    """

    def __init__(
        self, settings: Settings, store: Store, *, track: Callable[[Record], None] | None = None
    ) -> None:
        self._settings, self._store, self._track = settings, store, track
        self._run_cells = partial(run_cells, track=track)
        self._stages: list[tuple[tuple[str, str], ...]] = []
        self._connection: Connection | None = None

    @property
    def wanted(self) -> bool:
        """Whether cells are to be computed on workers."""
        return self._settings.workers > 0 or self._settings.scheduler is not None

    def run(
        self,
        cells: Sequence[Cell],
        compute: Callable[[Cell], Outcome],
        *,
        overwrite: Overwrite,
        progress: bool,
    ) -> Run:
        """Find cells in the store or compute them.

        Args:
            cells: What is wanted.
            compute: Computes one cell in this process.
            overwrite: What is done about stored results.
            progress: Show progress.

        Raises:
            InputError: As :func:`~bench.harness.runner.run_cells`, or if the scheduler cannot be reached or went away,
                or no worker can be used. Results of finished cells are kept.
        """
        if not self.wanted or overwrite == "only-cache":
            done = self._run_cells(cells, compute, self._store, overwrite=overwrite, progress=progress)
        else:
            try:
                done = self._on_workers(cells, compute, overwrite=overwrite, progress=progress)
            except BaseException:
                self.close()
                raise
        self._stages.append(tuple((record.experiment, record.key) for record in done.records))
        return done

    def finish(self) -> None:
        """Leave the scheduler at the end of the command; say so where it had nothing for workers."""
        if self.wanted and not self._stages:
            logger.warning("--workers and --scheduler: this command computes nothing on workers")
        self.close()

    def close(self) -> None:
        """Leave the scheduler; workers of this machine end."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _on_workers(
        self,
        cells: Sequence[Cell],
        compute: Callable[[Cell], Outcome],
        *,
        overwrite: Overwrite,
        progress: bool,
    ) -> Run:
        measuring = [cell for cell in cells if "machine" in cell.config]
        others = [cell for cell in cells if "machine" not in cell.config]
        if overwrite == "never" and any(self._store.find(cell) for cell in cells):
            return run_cells(cells, compute, self._store, overwrite=overwrite)  # says which
        runs = []
        if measuring and self._settings.scheduler is not None:
            runs.append(self._measured(measuring, overwrite))
        elif measuring:  # this machine is measured while its workers rest
            runs.append(
                self._run_cells(measuring, compute, self._store, overwrite=overwrite, progress=progress)
            )

        def spread(missing: Sequence[Cell]) -> Iterator[tuple[Cell, Answer]]:
            yield from self._spread(missing, overwrite).run(missing)

        if others or not runs:
            runs.append(
                self._run_cells(
                    others, compute, self._store, overwrite=overwrite, progress=progress, spread=spread
                )
            )
        return _joined(cells, runs)

    def _measured(self, cells: Sequence[Cell], overwrite: Overwrite) -> Run:
        """Let one worker measure its own machine; its results are keyed by that machine."""
        answer = self._spread(cells, overwrite).measure()
        if answer.kind == "unsupported":
            raise UnsupportedError(answer.message)
        if answer.kind != "done":
            raise InputError(f"{cells[0].experiment}: {answer.message}")
        by_label = {cell.label: cell for cell in cells}
        records = [self._store.read(experiment, key) for experiment, key in answer.keys]
        if self._track is not None:
            for record in records:
                self._track(record)
        return Run(
            records=records,
            missing=[],
            failures=[
                Failure(cell=by_label.get(label, cells[0]), message=reason)
                for label, reason in answer.failures
            ],
            unsupported=[],
        )

    def _spread(self, cells: Sequence[Cell], overwrite: Overwrite) -> Spread:
        from bench.cluster.connection import connect  # dask is an extra
        from bench.cluster.spread import Spread

        settings, called = self._settings, invocation()
        if called is None:
            raise InputError("--workers and --scheduler are options of commands: python -m bench.NAME")
        if self._connection is None:
            self._connection = connect(
                workers=settings.workers, scheduler=settings.scheduler, out=settings.out
            )
        task = Task(
            module=called.module,
            args=called.args,
            folder=os.getcwd(),
            command=command(),
            stage=len(self._stages),
            known=tuple(self._stages),
            keep=overwrite != "always",
        )
        resources = settings.worker_resources()
        needs = {cell.key: needs_of(cell, resources) for cell in cells}
        return Spread(self._connection, task, needs=needs, store=self._store)


def _joined(cells: Sequence[Cell], runs: Sequence[Run]) -> Run:
    """Return several outcomes as one, records in the order of the cells; those that a worker has keyed come first."""
    order = {cell.key: place for place, cell in enumerate(cells)}
    records = [record for run in runs for record in run.records]
    return Run(
        records=sorted(records, key=lambda record: order.get(record.key, -1)),
        missing=[cell for run in runs for cell in run.missing],
        failures=[failure for run in runs for failure in run.failures],
        unsupported=[failure for run in runs for failure in run.unsupported],
    )
