"""Run the cells of an experiment: find what is stored, compute the rest, keep each result at once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tqdm import tqdm

from bench.cluster.task import Answer
from bench.protocol.evaluation import ScoresError
from bench.store import provenance
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from illmrec.claims import Claim
from illmrec.errors import DivergedError, InputError, UnsupportedError
from illmrec.files import is_of_disk
from illmrec.model import processes

logger = logging.getLogger(__name__)

Overwrite = Literal["only-missing", "always", "never", "only-cache"]
"""What to do about results that are already in the store.

- ``only-missing``: keep them and compute the others.
- ``always``: compute every cell again; each replaces its stored result when it is done.
- ``never``: refuse to run if any of the cells has a result.
- ``only-cache``: compute nothing and write nothing; give what is there and say what is missing.
"""

Spread = Callable[[Sequence[Cell]], Iterator[tuple[Cell, Answer]]]
"""Computes cells on workers; yields each with how it ended. Results are in the store."""

SEEN_SECONDS = 15.0
"""How long a result that another machine has written may take to be seen here, on a slow shared file system."""


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
        held: Cells that another run computes and that were not to be waited for: who holds them, by key.
    """

    records: list[Record]
    missing: list[Cell]
    failures: list[Failure]
    unsupported: list[Failure]
    held: dict[str, str] = field(default_factory=dict)

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
    wait: bool = True,
    abandoned: Collection[str] = (),
    spread: Spread | None = None,
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
        wait: Wait for cells that another run computes; else they are named in the outcome.
        abandoned: Holders of claims that were watched for the length of their lease.
        spread: Computes cells elsewhere, in place of one after the other here, and leaves their results in the store.
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
    named = ", ".join(sorted({cell.experiment for cell in wanted}))
    if overwrite == "only-cache":
        if wanted:
            logger.info("%s: %d of %d cells found, none is computed", named, len(records), len(wanted))
        for cell in to_do if processes.is_main() else ():
            logger.warning("missing: %s (%s)", cell.label, cell.key)
        return Run(records=list(records.values()), missing=to_do, failures=[], unsupported=[])
    if wanted:
        logger.info("%s: %d of %d cells found, %d to compute", named, len(records), len(wanted), len(to_do))
    if track is not None:
        for record in records.values():
            track(record)
    failures: list[Failure] = []
    unsupported: list[Failure] = []
    held: dict[str, str] = {}
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
            contextlib.closing(
                _here(to_do, compute, store, keep=overwrite != "always", wait=wait, abandoned=abandoned)
                if spread is None
                else _elsewhere(to_do, store, spread)
            ) as answers,
        ):
            for cell, answer in answers:
                bar.set_postfix_str(cell.label)
                if isinstance(answer, Record):
                    records[cell.key] = answer
                    if track is not None:
                        track(answer)
                elif answer.kind == "held" and not wait:
                    held[cell.key] = answer.message
                elif answer.kind == "held":
                    reason = "another run took it over while this one stood still; the same command takes its result"
                    failures.append(Failure(cell=cell, message=reason))
                else:
                    ended = unsupported if answer.kind == "unsupported" else failures
                    ended.append(Failure(cell=cell, message=answer.message))
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
    return Run(records=in_order, missing=[], failures=failures, unsupported=unsupported, held=held)


def _stored(cell: Cell, store: Store) -> Record:
    """Return the result that the main process found or wrote."""
    record = store.find(cell)
    if record is None:
        raise InputError(
            f"{cell.label}: the first process has its result in {store.out} and another does not see it; "
            "give an --out that all of them share"
        )
    return record


def _elsewhere(
    cells: Sequence[Cell], store: Store, spread: Spread
) -> Generator[tuple[Cell, Record | Answer]]:
    """Yield each cell with its result, once workers have left it in the store."""
    for cell, answer in spread(cells):
        if answer.kind == "input":
            raise InputError(answer.message)
        if answer.kind == "done":
            yield cell, _seen(cell, store, answer.worker)
        else:
            yield cell, answer


def _seen(cell: Cell, store: Store, worker: str) -> Record:
    """Return the result that a worker has written."""
    deadline = time.monotonic() + SEEN_SECONDS
    while (record := store.refresh(cell)) is None:
        if time.monotonic() > deadline:
            raise InputError(
                f"{cell.label}: the worker at {worker} has written its result to {store.out}, and it is not seen here; "
                "give an --out that all of them share, or a --store"
            )
        time.sleep(0.2)
    return record


def _here(
    cells: Sequence[Cell],
    compute: Callable[[Cell], Outcome],
    store: Store,
    *,
    keep: bool,
    wait: bool,
    abandoned: Collection[str],
) -> Generator[tuple[Cell, Record | Answer]]:
    """Compute each cell while its claim is held; several processes in the order in which the main one gets claims."""
    if processes.is_main():
        numbers = {cell.key: number for number, cell in enumerate(cells)}
        with contextlib.closing(_claimed(cells, store, wait=wait, abandoned=abandoned)) as claimed:
            for cell, claim in claimed:
                if not claim.taken:
                    yield cell, Answer(kind="held", message=claim.holder)
                    continue
                processes.of_main([numbers[cell.key]])
                yield cell, _run_cell(cell, compute, store, keep=keep, claim=claim)
        processes.of_main([-1])
    else:
        while (number := int(processes.of_main([-1])[0])) >= 0:
            yield cells[number], _run_cell(cells[number], compute, store, keep=keep, claim=None)


def _claimed(
    cells: Iterable[Cell], store: Store, *, wait: bool, abandoned: Collection[str]
) -> Generator[tuple[Cell, Claim]]:
    """Yield each cell while its claim is held; those of another run come last, or unclaimed without ``wait``."""
    held_elsewhere = []
    for cell in cells:
        claim = store.claim(cell)
        if not claim.acquire(wait=False, abandoned=abandoned):
            held_elsewhere.append((cell, claim))
            continue
        with contextlib.closing(claim):
            yield cell, claim
    for cell, claim in held_elsewhere:
        if wait:
            logger.info("waiting for another run that computes %s", cell.label)
            claim.acquire()
        with contextlib.closing(claim):
            yield cell, claim


def _run_cell(
    cell: Cell, compute: Callable[[Cell], Outcome], store: Store, *, keep: bool, claim: Claim | None
) -> Record | Answer:
    """Compute and store a cell whose claim is held, unless another run did while this one waited."""
    look = store.find if claim is None or claim.generation == 1 else store.refresh
    if keep and processes.of_main([look(cell) is not None])[0]:
        return _stored(cell, store)
    started = time.perf_counter()
    try:
        outcome = compute(cell)
        with processes.main_first():
            if not processes.is_main():
                return _stored(cell, store)
            if claim is not None and not claim.held():
                logger.warning(
                    "%s: its claim expired while this process stood still; another run has it", cell.label
                )
                return Answer(kind="held", message=claim.holder)
            return store.write(cell, outcome.results, outcome.frames, seconds=time.perf_counter() - started)
    except UnsupportedError as error:
        if processes.count() > 1:
            raise
        return Answer(kind="unsupported", message=str(error))
    except InputError:
        raise
    except (
        ScoresError,
        DivergedError,
    ) as error:  # of the method: where in this toolkit it was found helps nobody
        if processes.count() > 1:
            raise
        named = "" if isinstance(error, ScoresError) else f"{cell.method}: "
        return Answer(kind="failed", message=f"{named}{error}")
    except Exception as error:
        if is_of_disk(error):  # which the next cell would meet as well
            raise
        logger.exception("%s failed", cell.label)
        if processes.count() > 1:
            raise
        first_line = next(iter(str(error).splitlines()), "")
        return Answer(kind="failed", message=f"{type(error).__name__}: {first_line}")
