"""Run the cells of an experiment: find what is stored, compute the rest, keep each result at once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import filelock
from tqdm import tqdm

from bench.protocol.evaluation import ScoresError
from bench.store import provenance
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from illmrec.errors import InputError, UnsupportedError
from illmrec.model import processes

logger = logging.getLogger(__name__)

Overwrite = Literal["only-missing", "always", "never", "only-cache"]
"""What to do about results that are already in the store.

- ``only-missing``: keep them and compute the others.
- ``always``: compute every cell again; each replaces its stored result when it is done.
- ``never``: refuse to run if any of the cells has a result.
- ``only-cache``: compute nothing and write nothing; give what is there and say what is missing.
"""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell without a result, and why, in one line."""

    cell: Cell
    message: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """The outcome of ``run_cells``.

    Attributes:
        records: Stored results in the order of the cells, without those that are missing or failed.
        missing: Cells without a result that were not to be computed (``only-cache``).
        failures: Cells that failed.
        unsupported: Cells that need what the data or the installation lack.
    """

    records: list[Record]
    missing: list[Cell]
    failures: list[Failure]
    unsupported: list[Failure]

    @property
    def status(self) -> int:
        """Return the exit status: 1 where a cell failed, else 0."""
        return 1 if self.failures else 0


def run_cells(
    cells: Iterable[Cell],
    compute: Callable[[Cell], Outcome],
    store: Store,
    *,
    overwrite: Overwrite = "only-missing",
    progress: bool = True,
    track: Callable[[Record], None] | None = None,
) -> Run:
    """Compute cells one after the other and store each result as soon as it is there.

    Runs may share a store: a cell that another one is computing is left to it, and its result is taken
    when it is there. A cell that fails, or that the data cannot support, is reported at the end and does not stop the
    others.

    The processes of one run compute each cell together. The main one decides which, and stores the results; all return
    the same. There a cell that fails ends the run, because the others would wait for its process.

    Args:
        cells: What is wanted; equal cells are computed once.
        compute: Computes one cell.
        store: Where results are found and written.
        overwrite: See ``Overwrite``.
        progress: Show a progress bar over the cells to compute, with the time left.
        track: Is given each result, those that were found first, unless nothing is to be written (``only-cache``).

    Raises:
        InputError: If the store cannot be read or written, ``overwrite`` is ``never`` and there is a result,
            or a computation finds that the input cannot be used. Results of finished cells are kept.
            Or if the data support none of the cells.
            Or if several processes are to compute a cell that measures one, which has the machine in its key.
        KeyboardInterrupt: On Ctrl-C. Results of finished cells are kept.
    """
    wanted = list({cell.key: cell for cell in cells}.values())
    records: dict[str, Record] = {}
    if overwrite != "always":
        seen = [store.find(cell) for cell in wanted]
        found = processes.of_main([record is not None for record in seen])
        records = {
            cell.key: record or _stored(cell, store)
            for cell, record, there in zip(wanted, seen, found, strict=True)
            if there
        }
    if overwrite == "never" and records:
        first = next(iter(records.values()))
        raise InputError(
            f"{len(records)} of {len(wanted)} cells have a result, the first in {first.folder}; "
            "--overwrite only-missing keeps it, --overwrite always replaces it"
        )
    to_do = [cell for cell in wanted if cell.key not in records]
    if overwrite == "only-cache":
        logger.info("%d of %d cells found, none is computed", len(records), len(wanted))
        for cell in to_do if processes.is_main() else ():
            logger.warning("missing: %s (%s)", cell.label, cell.key)
        return Run(records=list(records.values()), missing=to_do, failures=[], unsupported=[])
    logger.info("%d of %d cells found, %d to compute", len(records), len(wanted), len(to_do))
    if track is not None:
        for record in records.values():
            track(record)
    failures: list[Failure] = []
    unsupported: list[Failure] = []
    measuring = [cell.experiment for cell in to_do if "machine" in cell.config]
    if processes.count() > 1 and measuring:
        raise InputError(
            f"{measuring[0]} measures what one process does, and {processes.count()} are running; "
            "start it without a launcher: models that are trained already are found"
        )
    if to_do:
        store.check_writable()
        # Read now: a commit made while the cells run is not the code that computes them.
        provenance.git_commit()
        with (
            tqdm(total=len(to_do), desc=to_do[0].experiment, unit="cell", disable=not progress) as bar,
            contextlib.closing(_in_turn(to_do, store)) as in_turn,
        ):
            for cell in in_turn:
                bar.set_postfix_str(cell.label)
                try:
                    result = _run_cell(cell, compute, store, keep=overwrite != "always")
                except UnsupportedError as error:
                    if processes.count() > 1:
                        raise
                    unsupported.append(Failure(cell=cell, message=str(error)))
                else:
                    if isinstance(result, Record):
                        records[cell.key] = result
                        if track is not None:
                            track(result)
                    else:
                        failures.append(result)
                bar.update()
    if unsupported and not records and not failures:
        raise UnsupportedError(unsupported[0].message)
    for failure in unsupported:
        logger.warning("left out: %s: %s", failure.cell.label, failure.message)
    for failure in failures:
        logger.error("failed: %s (%s): %s", failure.cell.label, failure.cell.key, failure.message)
    if failures:
        logger.error(
            "%d of %d cells failed; the same command tries only them again", len(failures), len(wanted)
        )
    in_order = [records[cell.key] for cell in wanted if cell.key in records]
    return Run(records=in_order, missing=[], failures=failures, unsupported=unsupported)


def _stored(cell: Cell, store: Store) -> Record:
    """Return the result that the main process found or wrote."""
    record = store.find(cell)
    if record is None:
        raise InputError(
            f"{cell.label}: the first process has its result in {store.out} and another does not see it; "
            "give an --out that all of them share"
        )
    return record


def _in_turn(cells: Sequence[Cell], store: Store) -> Generator[Cell]:
    """Yield each cell while its lock is held; several processes in the order in which the main one gets the locks."""
    if processes.is_main():
        numbers = {cell.key: number for number, cell in enumerate(cells)}
        for cell in _locked(cells, store):
            processes.of_main([numbers[cell.key]])
            yield cell
        processes.of_main([-1])
    else:
        while (number := int(processes.of_main([-1])[0])) >= 0:
            yield cells[number]


def _locked(cells: Iterable[Cell], store: Store) -> Generator[Cell]:
    """Yield each cell while its lock is held; those that another run holds come last."""
    held_elsewhere = []
    for cell in cells:
        lock = store.lock(cell)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            held_elsewhere.append((cell, lock))
            continue
        try:
            yield cell
        finally:
            lock.release()
    for cell, lock in held_elsewhere:
        logger.info("waiting for another run that computes %s", cell.label)
        with lock:
            yield cell


def _run_cell(
    cell: Cell, compute: Callable[[Cell], Outcome], store: Store, *, keep: bool
) -> Record | Failure:
    """Compute and store a cell whose lock is held, unless another run did while this one waited."""
    if keep and processes.of_main([store.find(cell) is not None])[0]:
        return _stored(cell, store)
    started = time.perf_counter()
    try:
        outcome = compute(cell)
        with processes.main_first():
            if not processes.is_main():
                return _stored(cell, store)
            return store.write(cell, outcome.results, outcome.frames, seconds=time.perf_counter() - started)
    except InputError:
        raise
    except (
        ScoresError
    ) as error:  # of the method, which it names: where in this toolkit it was found helps nobody
        if processes.count() > 1:
            raise
        return Failure(cell=cell, message=str(error))
    except Exception as error:
        logger.exception("%s failed", cell.label)
        if processes.count() > 1:
            raise
        first_line = next(iter(str(error).splitlines()), "")
        return Failure(cell=cell, message=f"{type(error).__name__}: {first_line}")
