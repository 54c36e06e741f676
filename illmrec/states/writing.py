"""Writing state tables: computed once, in batches, resumable, by one process or several, one table or some together."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from illmrec import checksums
from illmrec.errors import DamagedError, InputError
from illmrec.files import allocate, atomic_write_text, hash_json, move_directory, writing
from illmrec.locks import exclusive
from illmrec.model import processes
from illmrec.network_folders import remove_directory
from illmrec.states.table import FORMAT, NUMPY_DTYPES, TORCH_DTYPES, StateDtype, StateTable

logger = logging.getLogger(__name__)

_SUMS = "sums.npy"
"""Of an unfinished table: a CRC-32 of each batch's rows."""
_RECORD_SECONDS = 1.0  # a killed run loses at most this much work and the batch it was in


@dataclass(frozen=True, kw_only=True, eq=False)
class TablePlan:
    """A table that is to be written, and which of its rows are encoded together.

    Attributes:
        directory: Where it goes; its name is the key.
        width: Numbers a row.
        dtype: Data type on disk.
        batches: Per batch, int64 [n], its rows; all of them together are every row once.
        tokens: Tokens of each batch, for progress.
        meta: What the values depend on, as JSON values; seconds, tokens and error are added to it.
    """

    directory: Path
    width: int
    dtype: StateDtype
    batches: Sequence[np.ndarray]
    tokens: Sequence[int]
    meta: Mapping[str, Any]

    @property
    def partial(self) -> Path:
        """Where the table is until it is whole."""
        return self.directory.with_name(self.directory.name + ".partial")

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return sum(len(rows) for rows in self.batches), self.width

    @cached_property
    def key(self) -> str:
        """What an unfinished table of this plan is known by."""
        sizes = [len(rows) for rows in self.batches]
        return hash_json([FORMAT, *self.shape, self.dtype, sizes, dict(self.meta)])


def compute_states(plan: TablePlan, encode: Callable[[int], Tensor], *, progress: bool = True) -> StateTable:
    """Compute a table batch by batch, or continue or open the one that is already there.

    Finished batches are kept in :attr:`TablePlan.partial` until the table is whole. Several processes of one run share
    the batches; of two runs that want the same table the second waits for the first.

    Args:
        plan: The table.
        encode: Takes a batch's number and gives float32 [n, width], finite.
        progress: Show a progress bar over positions with an estimate of the time left.

    Raises:
        InputError: If the disk has no room, is full or cannot be written.
    """
    with _open([plan]) as writers:
        _run(writers, lambda number, _: [encode(number)], batches=len(plan.batches), progress=progress)
        processes.wait()
        for writer in writers if processes.is_main() else ():
            writer.finish()
        processes.wait()
    return StateTable.open(plan.directory)


def begin_together(
    plans: Sequence[TablePlan],
    encode: Callable[[int, Sequence[int]], Sequence[Tensor]],
    *,
    batches: int,
    progress: bool = True,
) -> None:
    """Write the first batches of several tables in one go; :func:`compute_states` completes each when it is wanted.

    The seconds that this takes are divided among the tables.

    Args:
        plans: The tables, of equal first batches. Those that are whole are left alone.
        encode: Takes a batch's number and the numbers of plans, and gives float32 [n, width] of each of these.
        batches: How many are written.
        progress: Show a progress bar over positions with an estimate of the time left.

    Raises:
        InputError: If the disk has no room, is full or cannot be written.
    """
    with _open(plans) as writers:
        numbers = [plans.index(writer.plan) for writer in writers]
        _run(
            writers,
            lambda number, wanted: encode(number, [numbers[place] for place in wanted]),
            batches=batches,
            progress=progress,
        )
        processes.wait()


@contextlib.contextmanager
def _open(plans: Sequence[TablePlan]) -> Iterator[list[_Writer]]:
    """Yield writers of the tables that are not whole, while no other run computes them."""
    with contextlib.ExitStack() as held:
        # In one order everywhere: two runs that want some of the same would else wait for each other.
        for plan in sorted(plans, key=lambda plan: plan.directory) if processes.is_main() else ():
            held.enter_context(exclusive(plan.directory, "states"))
        # One look for all: another run may finish it between theirs.
        there = processes.of_main([processes.is_main() and _is_there(plan.directory) for plan in plans])
        missing = [plan for plan, found in zip(plans, there, strict=True) if not found]
        for plan in missing if processes.is_main() else ():
            _prepare(plan)
        processes.wait()
        yield [_Writer(plan, among=len(missing)) for plan in missing]


def _run(
    writers: Sequence[_Writer],
    encode: Callable[[int, Sequence[int]], Sequence[Tensor]],
    *,
    batches: int,
    progress: bool,
) -> None:
    """Encode what is not done of this process's share of the first batches, each for all writers that lack it."""
    if not writers:
        return
    plan = writers[0].plan
    lacking = {
        int(number): [place for place, writer in enumerate(writers) if not writer.has(int(number))]
        for number in processes.share(np.asarray(plan.tokens[:batches]))
    }
    share = [number for number, wanted in lacking.items() if wanted]
    rest = sum(len(plan.batches[number]) for number in share)
    shown = progress and processes.is_main()
    try:
        with tqdm(total=rest, desc="states", unit="position", unit_scale=True, disable=not shown) as bar:
            for number in share:
                for place, states in zip(lacking[number], encode(number, lacking[number]), strict=True):
                    writers[place].store(number, states)
                bar.update(len(plan.batches[number]))
    finally:
        for writer in writers:
            writer.record()


def _is_there(directory: Path) -> bool:
    """Tell whether there is a table; one that is damaged is named and removed."""
    if not directory.exists():
        return False
    try:
        StateTable.open(directory)
    except DamagedError as error:
        checksums.renew(directory, error)
        return False
    return True


def _prepare(plan: TablePlan) -> None:
    """Make the files of an unfinished table, unless those of the same plan are there."""
    folder, rows = plan.partial, plan.shape[0]
    needed = rows * plan.width * np.dtype(NUMPY_DTYPES[plan.dtype]).itemsize
    try:
        if checksums.read_json(folder / "progress.json")["plan"] == plan.key:
            done = _still_done(plan)
            logger.info("states: continuing after %d of %d batches already encoded", done, len(plan.batches))
            return
    except checksums.ARRAY_ERRORS as error:
        # Cut off before its files were whole, or damaged: made anew.
        if folder.exists():
            logger.warning(
                "%s: cannot be continued (%s); it is begun anew",
                folder,
                next(iter(str(error).splitlines()), ""),
            )
    with writing(folder):
        if folder.exists():
            remove_directory(folder)
        free = shutil.disk_usage(folder.parent).free
        if needed > free:
            raise InputError(
                f"states of {rows:,} positions take {needed / 1e9:,.2f} GB and {free / 1e9:,.2f} are free in "
                f"{folder.parent}; read fewer (--last-targets), or choose another folder (ILLMREC_CACHE)"
            )
        folder.mkdir(exist_ok=True)
        allocate(folder / "values.npy", shape=plan.shape, dtype=NUMPY_DTYPES[plan.dtype])
        allocate(folder / "done.npy", shape=(len(plan.batches),), dtype=np.uint8)
        allocate(folder / _SUMS, shape=(len(plan.batches),), dtype=np.uint32)
        checksums.write_json(folder / "progress.json", {"plan": plan.key})


def _still_done(plan: TablePlan) -> int:
    """Return how many batches of an unfinished table are on disk; what is not as it was written is to be done again.

    Raises:
        OSError, ValueError: If its files are not those of the table.
    """
    folder, batches = plan.partial, plan.batches
    values = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
    done = np.lib.format.open_memmap(folder / "done.npy", mode="r+")
    if not (folder / _SUMS).exists():  # of an earlier version: taken as it is
        allocate(folder / _SUMS, shape=done.shape, dtype=np.uint32)
        known = np.lib.format.open_memmap(folder / _SUMS, mode="r+")
        for number in np.flatnonzero(done).tolist():
            known[number] = _sum(values[batches[int(number)]])
    known = np.lib.format.open_memmap(folder / _SUMS, mode="r+")
    found = [(values.shape, values.dtype), (done.shape, done.dtype), (known.shape, known.dtype)]
    counts = (len(batches),)
    wanted = [(plan.shape, NUMPY_DTYPES[plan.dtype]), (counts, np.uint8), (counts, np.uint32)]
    if found != wanted:
        raise ValueError("its files have another shape")
    lost = [
        number for number in np.flatnonzero(done).tolist() if _sum(values[batches[number]]) != known[number]
    ]
    if lost:
        logger.warning(
            "%s: %d batches are not as they were written; they are encoded again", folder, len(lost)
        )
        done[lost] = 0
        done.flush()
    return int(np.count_nonzero(done))


def _sum(rows: np.ndarray) -> int:
    return zlib.crc32(rows.tobytes())


class _Writer:
    """Writes this process's share of the batches and keeps a record of those that are on disk.

    Args:
        plan: The table, whose files :func:`_prepare` made.
        among: How many tables are written at a time: seconds are divided among them.
    """

    def __init__(self, plan: TablePlan, *, among: int) -> None:
        self.plan = plan
        self._values = np.lib.format.open_memmap(plan.partial / "values.npy", mode="r+")
        self._done = np.lib.format.open_memmap(plan.partial / "done.npy", mode="r+")
        self._sums = np.lib.format.open_memmap(plan.partial / _SUMS, mode="r+")
        self._progress = checksums.read_json(plan.partial / "progress.json")
        self._pending: list[int] = []
        self._among = among
        self._since = time.monotonic()

    def has(self, number: int) -> bool:
        """Whether a batch was on disk when this began."""
        return bool(self._done[number])

    def store(self, number: int, states: Tensor) -> None:
        """Write the states of a batch.

        Raises:
            InputError: If one of them is not finite, or exceeds what the data type can hold.
        """
        if not bool(torch.isfinite(states).all()):
            raise InputError(
                "the LLM gave a state that is not finite; give --dtype float32, or train with a lower learning rate"
            )
        states = states.detach().cpu()
        kept = states.to(TORCH_DTYPES[self.plan.dtype])
        error = (kept.float() - states).square()
        if not bool(torch.isfinite(error).all()):
            raise InputError(
                f"states exceed what {self.plan.dtype} can hold; store them as bfloat16 or float32"
            )
        raw = kept.view(torch.uint16) if self.plan.dtype == "bfloat16" else kept
        self._values[self.plan.batches[number]] = raw.numpy()
        self._sums[number] = _sum(raw.numpy())
        for name, value in (("squares", error.sum()), ("numbers", error.numel())):
            self._progress[name] = self._progress.get(name, 0) + float(value)
        self._progress["largest"] = max(self._progress.get("largest", 0.0), float(error.max()) ** 0.5)
        self._pending.append(number)
        if time.monotonic() - self._since >= _RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        """Advance the record, only after the rows it counts are on disk."""
        now = time.monotonic()
        seconds = (now - self._since) / self._among
        self._progress["seconds"] = self._progress.get("seconds", 0.0) + seconds
        self._since = now
        with writing(self.plan.partial):
            self._values.flush()
            self._sums.flush()
            self._done[self._pending] = 1
            self._done.flush()
            if processes.is_main():
                checksums.write_json(self.plan.partial / "progress.json", self._progress)
        self._pending = []

    def finish(self) -> None:
        """Give the table its name once every process has written its share."""
        plan = self.plan
        if not self._done.all():
            raise RuntimeError(f"{plan.partial}: {int((self._done == 0).sum())} batches are missing")
        numbers = max(1.0, self._progress.get("numbers", 0.0))
        measured = {
            "seconds": round(self._progress.get("seconds", 0.0), 3),
            "rms_error": (self._progress.get("squares", 0.0) / numbers) ** 0.5,
            "largest_error": self._progress.get("largest", 0.0),
        }
        described = {
            "format": FORMAT,
            "key": plan.directory.name,
            "positions": plan.shape[0],
            "width": plan.width,
            "dtype": plan.dtype,
            "meta": {**plan.meta, **measured},
        }
        with writing(plan.directory):
            atomic_write_text(plan.partial / "meta.json", json.dumps(described, indent=1) + "\n")
            for name in ("progress.json", "done.npy", _SUMS):
                (plan.partial / name).unlink(missing_ok=True)
            checksums.seal(plan.partial)
            move_directory(plan.partial, plan.directory)
        logger.info(
            "states: %d positions in %.1f s, stored as %s with an error of %.2g of their spread",
            plan.shape[0],
            measured["seconds"],
            plan.dtype,
            measured["rms_error"],
        )
