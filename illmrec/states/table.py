"""State tables: one memory-mapped row a position, computed once, in batches, resumable, by one process or several."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from illmrec import checksums
from illmrec.errors import DamagedError, InputError
from illmrec.files import (
    allocate,
    atomic_write_text,
    hash_json,
    loaded_npy,
    move_directory,
    parsed_json,
    writing,
)
from illmrec.locks import exclusive
from illmrec.model import processes
from illmrec.network_folders import remove_directory

logger = logging.getLogger(__name__)

_FORMAT = 1
_REMEDY = "delete the folder to compute it again"
_SUMS = "sums.npy"
"""Of an unfinished table: a CRC-32 of each batch's rows."""
_RECORD_SECONDS = 1.0  # a killed run loses at most this much work and the batch it was in

StateDtype = Literal["float16", "bfloat16", "float32"]
STATE_DTYPES: tuple[str, ...] = get_args(StateDtype)
_STORED: dict[str, Any] = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32}
_TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True)
class StateTable:
    """What was read out at each position, standardised.

    Attributes:
        values: [positions, width] in a state data type, on disk until it is read.
        key: 16 hexadecimal digits over everything the values depend on; also the name of the folder.
        meta: What they depend on, seconds, tokens, and the error of the data type.
    """

    values: Tensor
    key: str
    meta: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Numbers a position."""
        return int(self.values.shape[1])

    def rows(self, at: np.ndarray | slice, device: torch.device | str = "cpu") -> Tensor:
        """Return some rows, float32 [rows, width], on a device."""
        index = at if isinstance(at, slice) else torch.from_numpy(at)
        return self.values[index].to(device).float()

    @classmethod
    def open(cls, directory: Path) -> StateTable:
        """Open a finished table; the first time in a process all of it is read, for its checksums.

        Raises:
            DamagedError: If the folder is not a whole table.
            InputError: If it is another one, or of another version.
        """
        try:
            checksums.check(directory, remedy=_REMEDY)
            described = parsed_json((directory / "meta.json").read_text(encoding="utf-8"))
            for name, wanted in (("format", _FORMAT), ("key", directory.name)):
                if described[name] != wanted:
                    raise InputError(
                        f"{directory} is no state table of this version's: its {name} is {described[name]}, not "
                        f"{wanted}; {_REMEDY}"
                    )
            values = loaded_npy(directory / "values.npy", mode="c")
            shape, dtype = (described["positions"], described["width"]), described["dtype"]
            if values.ndim != 2 or values.shape != shape or values.dtype != _STORED[dtype]:
                raise ValueError(f"values {values.dtype} {values.shape}, expected {dtype} {shape}")
            if not values.flags.c_contiguous:
                raise ValueError("values lie column by column")
            if not isinstance(described["meta"], dict):
                raise ValueError("what it says of itself is of the wrong type")
        except InputError:
            raise
        except checksums.ARRAY_ERRORS as error:
            raise DamagedError(
                f"{directory} is not a whole state table ({next(iter(str(error).splitlines()), 'damaged')}); {_REMEDY}"
            ) from error
        return cls(
            values=torch.from_numpy(values).view(_TORCH[dtype]),
            key=described["key"],
            meta=described["meta"],
        )


def compute_states(
    directory: Path,
    *,
    positions: int,
    width: int,
    dtype: StateDtype,
    batches: Sequence[np.ndarray],
    tokens: Sequence[int],
    encode: Callable[[int], Tensor],
    meta: Mapping[str, Any],
    progress: bool = True,
) -> StateTable:
    """Compute a table batch by batch, or continue or open the one that is already there.

    Finished batches are kept in ``<directory>.partial`` until the table is whole. Several processes of one run share
    the batches; of two runs that want the same table the second waits for the first.

    Args:
        directory: Where the table goes; its name is the key.
        positions: Rows.
        width: Numbers a row.
        dtype: Data type on disk.
        batches: Per batch, int64 [n], its rows; all of them together are every row once.
        tokens: Tokens of each batch, for progress.
        encode: Takes a batch's number and gives float32 [n, width], finite.
        meta: What the values depend on, as JSON values; seconds, tokens and error are added to it.
        progress: Show a progress bar over positions with an estimate of the time left.

    Raises:
        InputError: If the disk has no room, is full or cannot be written.
    """
    with exclusive(directory, "states") if processes.is_main() else contextlib.nullcontext():
        # One look for all: another run may finish it between theirs.
        if not processes.of_main([processes.is_main() and _is_there(directory)])[0]:
            plan = hash_json([_FORMAT, positions, width, dtype, [len(rows) for rows in batches], dict(meta)])
            if processes.is_main():
                _prepare(_partial(directory), plan, shape=(positions, width), dtype=dtype, batches=batches)
            processes.wait()
            written = _Writer(_partial(directory), dtype=dtype)
            written.run(batches, tokens, encode, progress=progress)
            processes.wait()
            if processes.is_main():
                written.finish(directory, meta=meta)
            processes.wait()
    return StateTable.open(directory)


def in_memory(values: Tensor, *, meta: Mapping[str, Any]) -> StateTable:
    """Return a table of states that are not stored.

    Args:
        values: Float32 [positions, width].
        meta: What they depend on.
    """
    measured = {"seconds": 0.0, "rms_error": 0.0, "largest_error": 0.0}
    return StateTable(values=values, key=hash_json(dict(meta)), meta={**measured, **meta})


def _partial(directory: Path) -> Path:
    return directory.with_name(directory.name + ".partial")


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


def _prepare(
    folder: Path, plan: str, *, shape: tuple[int, int], dtype: StateDtype, batches: Sequence[np.ndarray]
) -> None:
    """Make the files of an unfinished table, unless those of the same plan are there."""
    needed = shape[0] * shape[1] * np.dtype(_STORED[dtype]).itemsize
    try:
        if checksums.read_json(folder / "progress.json")["plan"] == plan:
            done = _still_done(folder, shape=shape, dtype=dtype, batches=batches)
            logger.info("states: continuing after %d of %d batches already encoded", done, len(batches))
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
                f"states of {shape[0]:,} positions take {needed / 1e9:,.2f} GB and {free / 1e9:,.2f} are free in "
                f"{folder.parent}; read fewer (--last-targets), or choose another folder (ILLMREC_CACHE)"
            )
        folder.mkdir(exist_ok=True)
        allocate(folder / "values.npy", shape=shape, dtype=_STORED[dtype])
        allocate(folder / "done.npy", shape=(len(batches),), dtype=np.uint8)
        allocate(folder / _SUMS, shape=(len(batches),), dtype=np.uint32)
        checksums.write_json(folder / "progress.json", {"plan": plan})


def _still_done(
    folder: Path, *, shape: tuple[int, int], dtype: StateDtype, batches: Sequence[np.ndarray]
) -> int:
    """Return how many batches of an unfinished table are on disk; what is not as it was written is to be done again.

    Raises:
        OSError, ValueError: If its files are not those of the table.
    """
    values = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
    done = np.lib.format.open_memmap(folder / "done.npy", mode="r+")
    if not (folder / _SUMS).exists():  # of an earlier version: taken as it is
        allocate(folder / _SUMS, shape=done.shape, dtype=np.uint32)
        known = np.lib.format.open_memmap(folder / _SUMS, mode="r+")
        for number in np.flatnonzero(done).tolist():
            known[number] = _sum(values[batches[int(number)]])
    known = np.lib.format.open_memmap(folder / _SUMS, mode="r+")
    found = [(values.shape, values.dtype), (done.shape, done.dtype), (known.shape, known.dtype)]
    wanted = [(shape, _STORED[dtype]), ((len(batches),), np.uint8), ((len(batches),), np.uint32)]
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
        folder: What :func:`_prepare` made.
        dtype: Data type on disk.
    """

    def __init__(self, folder: Path, *, dtype: StateDtype) -> None:
        self._folder = folder
        self._dtype = dtype
        self._values = np.lib.format.open_memmap(folder / "values.npy", mode="r+")
        self._done = np.lib.format.open_memmap(folder / "done.npy", mode="r+")
        self._sums = np.lib.format.open_memmap(folder / _SUMS, mode="r+")
        self._progress = checksums.read_json(folder / "progress.json")
        self._pending: list[int] = []
        self._since = time.monotonic()

    def run(
        self,
        batches: Sequence[np.ndarray],
        tokens: Sequence[int],
        encode: Callable[[int], Tensor],
        *,
        progress: bool,
    ) -> None:
        """Encode what is not done of this process's share."""
        share = [int(number) for number in processes.share(np.asarray(tokens)) if not self._done[number]]
        rest = sum(len(batches[number]) for number in share)
        shown = progress and processes.is_main()
        try:
            with tqdm(total=rest, desc="states", unit="position", unit_scale=True, disable=not shown) as bar:
                for number in share:
                    self._store(number, batches[number], encode(number))
                    bar.update(len(batches[number]))
        finally:
            self._record()

    def _store(self, number: int, rows: np.ndarray, states: Tensor) -> None:
        if not bool(torch.isfinite(states).all()):
            raise InputError(
                "the LLM gave a state that is not finite; give --dtype float32, or train with a lower learning rate"
            )
        states = states.detach().cpu()
        kept = states.to(_TORCH[self._dtype])
        error = (kept.float() - states).square()
        if not bool(torch.isfinite(error).all()):
            raise InputError(f"states exceed what {self._dtype} can hold; store them as bfloat16 or float32")
        raw = kept.view(torch.uint16) if self._dtype == "bfloat16" else kept
        self._values[rows] = raw.numpy()
        self._sums[number] = _sum(raw.numpy())
        for name, value in (("squares", error.sum()), ("numbers", error.numel())):
            self._progress[name] = self._progress.get(name, 0) + float(value)
        self._progress["largest"] = max(self._progress.get("largest", 0.0), float(error.max()) ** 0.5)
        self._pending.append(number)
        if time.monotonic() - self._since >= _RECORD_SECONDS:
            self._record()

    def _record(self) -> None:
        """Advance the record, only after the rows it counts are on disk."""
        now = time.monotonic()
        self._progress["seconds"] = self._progress.get("seconds", 0.0) + now - self._since
        self._since = now
        with writing(self._folder):
            self._values.flush()
            self._sums.flush()
            self._done[self._pending] = 1
            self._done.flush()
            if processes.is_main():
                checksums.write_json(self._folder / "progress.json", self._progress)
        self._pending = []

    def finish(self, directory: Path, *, meta: Mapping[str, Any]) -> None:
        """Give the table its name once every process has written its share."""
        if not self._done.all():
            raise RuntimeError(f"{self._folder}: {int((self._done == 0).sum())} batches are missing")
        numbers = max(1.0, self._progress.get("numbers", 0.0))
        measured = {
            "seconds": round(self._progress.get("seconds", 0.0), 3),
            "rms_error": (self._progress.get("squares", 0.0) / numbers) ** 0.5,
            "largest_error": self._progress.get("largest", 0.0),
        }
        described = {
            "format": _FORMAT,
            "key": directory.name,
            "positions": self._values.shape[0],
            "width": self._values.shape[1],
            "dtype": self._dtype,
            "meta": {**meta, **measured},
        }
        with writing(directory):
            atomic_write_text(self._folder / "meta.json", json.dumps(described, indent=1) + "\n")
            for name in ("progress.json", "done.npy", _SUMS):
                (self._folder / name).unlink(missing_ok=True)
            checksums.seal(self._folder)
            move_directory(self._folder, directory)
        logger.info(
            "states: %d positions in %.1f s, stored as %s with an error of %.2g of their spread",
            len(self._values),
            measured["seconds"],
            self._dtype,
            measured["rms_error"],
        )
