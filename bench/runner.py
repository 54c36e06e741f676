"""Run the cells of an experiment: find what is stored, compute the rest, keep each result at once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Literal

import filelock
from tqdm import tqdm

from bench import provenance
from bench.cell import Cell, Outcome, Record
from bench.store import Store
from illmrec.errors import InputError

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
    """A cell whose computation failed, and the error in one line."""

    cell: Cell
    message: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """The outcome of ``run_cells``.

    Attributes:
        records: Stored results in the order of the cells, without those that are missing or failed.
        missing: Cells without a result that were not to be computed (``only-cache``).
        failures: Cells that failed.
    """

    records: list[Record]
    missing: list[Cell]
    failures: list[Failure]

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
) -> Run:
    """Compute cells one after the other and store each result as soon as it is there.

    Processes may share a store: a cell that another one is computing is left to it, and its result is taken
    when it is there. A cell that fails is reported at the end and does not stop the others.

    Args:
        cells: What is wanted; equal cells are computed once.
        compute: Computes one cell.
        store: Where results are found and written.
        overwrite: See ``Overwrite``.
        progress: Show a progress bar over the cells to compute, with the time left.

    Raises:
        InputError: If the store cannot be read or written, ``overwrite`` is ``never`` and there is a result,
            or a computation finds that the input cannot be used. Results of finished cells are kept.
        KeyboardInterrupt: On Ctrl-C. Results of finished cells are kept.
    """
    wanted = list({cell.key: cell for cell in cells}.values())
    records: dict[str, Record] = {}
    if overwrite != "always":
        for cell in wanted:
            record = store.find(cell)
            if record is not None:
                records[cell.key] = record
    if overwrite == "never" and records:
        first = next(iter(records.values()))
        raise InputError(
            f"{len(records)} of {len(wanted)} cells have a result, the first in {first.folder}; "
            "--overwrite only-missing keeps it, --overwrite always replaces it"
        )
    to_do = [cell for cell in wanted if cell.key not in records]
    if overwrite == "only-cache":
        logger.info("%d of %d cells found, none is computed", len(records), len(wanted))
        for cell in to_do:
            logger.warning("missing: %s (%s)", cell.label, cell.key)
        return Run(records=list(records.values()), missing=to_do, failures=[])
    logger.info("%d of %d cells found, %d to compute", len(records), len(wanted), len(to_do))
    failures: list[Failure] = []
    if to_do:
        store.check_writable()
        # Read now: a commit made while the cells run is not the code that computes them.
        provenance.git_commit()
        with (
            tqdm(total=len(to_do), desc=to_do[0].experiment, unit="cell", disable=not progress) as bar,
            contextlib.closing(_locked(to_do, store)) as locked,
        ):
            for cell in locked:
                bar.set_postfix_str(cell.label)
                result = _run_cell(cell, compute, store, keep=overwrite != "always")
                if isinstance(result, Record):
                    records[cell.key] = result
                else:
                    failures.append(result)
                bar.update()
    for failure in failures:
        logger.error("failed: %s (%s): %s", failure.cell.label, failure.cell.key, failure.message)
    if failures:
        logger.error(
            "%d of %d cells failed; the same command tries only them again", len(failures), len(wanted)
        )
    in_order = [records[cell.key] for cell in wanted if cell.key in records]
    return Run(records=in_order, missing=[], failures=failures)


def _locked(cells: Iterable[Cell], store: Store) -> Generator[Cell]:
    """Yield each cell while its lock is held; those that another process holds come last."""
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
        logger.info("waiting for another process that computes %s", cell.label)
        with lock:
            yield cell


def _run_cell(
    cell: Cell, compute: Callable[[Cell], Outcome], store: Store, *, keep: bool
) -> Record | Failure:
    """Compute and store a cell whose lock is held, unless another process did while this one waited."""
    if keep:
        record = store.find(cell)
        if record is not None:
            return record
    started = time.perf_counter()
    try:
        outcome = compute(cell)
        return store.write(cell, outcome.results, outcome.frames, seconds=time.perf_counter() - started)
    except InputError:
        raise
    except Exception as error:
        logger.exception("%s failed", cell.label)
        first_line = next(iter(str(error).splitlines()), "")
        return Failure(cell=cell, message=f"{type(error).__name__}: {first_line}")
