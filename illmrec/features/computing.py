"""Feature tables computed batch by batch on disk: resumable at any batch, by one process or by shards."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from illmrec import checksums
from illmrec.features import rates
from illmrec.features.shards import Part, Shard, finished_parts, owned, part_folder, remove, split
from illmrec.features.table import FORMAT, FeatureTable, Stored, rounded, rounding, write_meta
from illmrec.files import allocate, check_space, hash_json, loaded_npy, move_directory, writing
from illmrec.locks import exclusive
from illmrec.network_folders import remove_directory

logger = logging.getLogger(__name__)

_RECORD_SECONDS = 1.0  # a killed run loses at most this much work and the batch it was in
_COPIED = 4096  # rows of another shard's part that are copied at a time


def compute_table(
    directory: Path,
    *,
    n_items: int,
    width: int,
    present: np.ndarray,
    encode_batch: Callable[[Any], np.ndarray],
    batch_size: int,
    meta: Mapping[str, object],
    description: str,
    progress: bool = True,
    order: np.ndarray | None = None,
    read: rates.Reader | None = None,
    conditions: Mapping[str, object] | None = None,
    dtype: Stored = "float32",
    shard: Shard | None = None,
) -> FeatureTable:
    """Compute a feature table batch by batch, or continue or open the one that is already there.

    Finished batches are kept in ``<directory>.partial`` until the table is whole, so an interruption or an
    error in one item loses the batch it was in, and a killed process about a second of work more. Of two
    processes that want the same table the second waits for the first. A shard's part lies beside the table; the run
    without a shard takes the parts that are there and computes the rest.

    Args:
        directory: Where the table goes; its name is the key.
        n_items: Number of rows.
        width: Length of one feature vector.
        present: bool [n_items]; only these rows are computed, the others stay zero.
        encode_batch: Takes row numbers int64 [batch], or what ``read`` made of them, and gives
            [batch, width], finite.
        batch_size: Rows a batch.
        meta: JSON-serialisable description; "seconds", "seconds_per_item" and when it was "finished" are added to it,
            the rates of reading and encoding where they were measured, and what rounding changed.
        description: What is computed, for the progress bar and the log.
        progress: Show a progress bar.
        order: int64, the present rows in the order to compute them, if not by number.
        read: Reads what batches need, ahead of ``encode_batch``.
        conditions: What the time depends on and the values do not, such as the device: kept with the description.
        dtype: How values are stored.
        shard: Compute every n-th batch, from the i-th, and return that part alone; None for the whole table.

    Raises:
        InputError: If an item cannot be encoded, the disk is too small or full, or the folder cannot be written.
    """
    if (table := FeatureTable.found(directory)) is not None:
        return table
    present = np.asarray(present, dtype=bool)
    rows = np.flatnonzero(present) if order is None else np.asarray(order, dtype=np.int64)
    if present.shape != (n_items,) or not np.array_equal(np.sort(rows), np.flatnonzero(present)):
        raise ValueError(f"order and present must name the same rows of {n_items}")
    places = rows
    if shard is not None:
        rows = owned(rows, batch_size=batch_size, shard=shard)
        places, present, n_items = np.arange(len(rows)), np.ones(len(rows), dtype=bool), len(rows)
        meta = {**meta, "part": {"shard": list(shard), "batch_size": batch_size}}
        directory = part_folder(directory, shard)
        description = f"{description}, shard {shard[0]}/{shard[1]}"
    with exclusive(directory, description):
        if (
            table := FeatureTable.found(directory)
        ) is not None:  # another process finished it, or it was there before
            return table
        parts = [] if shard is not None else finished_parts(directory, rows)
        if parts:
            rows = places = _with_parts_first(rows, parts)
        partial = _Partial.open(
            directory, shape=(n_items, width), rows=rows, places=places, dtype=dtype, meta=meta,
            description=description,
        )  # fmt: skip
        bar = tqdm(total=len(rows), initial=partial.done, desc=description, unit="item", disable=not progress)
        try:
            with bar:
                partial.take(parts, bar)
                _encode(partial, rows, read=read, encode_batch=encode_batch, batch_size=batch_size, bar=bar)
        finally:
            partial.record()
        table = partial.finish(
            directory,
            present=present,
            meta={**meta, **(conditions or {})},
            description=description,
            elsewhere=sum(float(str(part.table.meta["seconds"])) for part in parts),
        )
        remove(parts)
        return table


def _with_parts_first(rows: np.ndarray, parts: Sequence[Part]) -> np.ndarray:
    """Return the rows so that those of the parts come first, and the rest in order."""
    taken = np.concatenate([part.rows for part in parts])
    return np.concatenate([taken, rows[~np.isin(rows, taken)]])


def _encode(
    partial: _Partial,
    rows: np.ndarray,
    *,
    read: rates.Reader | None,
    encode_batch: Callable[[Any], np.ndarray],
    batch_size: int,
    bar: tqdm,
) -> None:
    """Encode the rows that are not done, some first with readers and encoder apart."""
    batches = split(rows[partial.done :], batch_size)

    def store(batch: np.ndarray, features: np.ndarray) -> None:
        partial.store(batch, features)
        bar.update(len(batch))

    if read is None:
        for batch in batches:
            store(batch, encode_batch(batch))
        return
    if len(batches) >= rates.ENOUGH:
        first, batches = batches[: rates.ALONE], batches[rates.ALONE :]
        partial.rates = rates.alone(read, encode_batch, first, store)
    with contextlib.closing(read(batches)) as loaded:
        for batch, content in zip(batches, loaded, strict=True):
            store(batch, encode_batch(content))


class _Partial:
    """The values computed so far and how many rows, in the order of computation, are done."""

    def __init__(
        self,
        *,
        folder: Path,
        values: np.memmap,
        dtype: Stored,
        places: np.ndarray,
        plan: str,
        record: Mapping[str, Any],
    ) -> None:
        self.folder = folder
        self.values = values
        self.dtype = dtype
        self.places = places
        self.plan = plan
        self.done = int(record["done"])
        self.seconds = float(record["seconds"])
        self.rounding = float(record.get("rounding", 0.0))
        self.rates: dict[str, float] = dict(record.get("rates", {}))
        self.sum = int(record["sum"])
        self._since = time.monotonic()
        self._recorded = self._since

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        shape: tuple[int, int],
        rows: np.ndarray,
        places: np.ndarray,
        dtype: Stored,
        meta: Mapping[str, object],
        description: str,
    ) -> _Partial:
        folder = directory.with_name(directory.name + ".partial")
        plan = hash_json([FORMAT, list(shape), hashlib.sha256(rows.tobytes()).hexdigest(), dict(meta)])
        record = _recorded_progress(folder, plan, shape=shape, dtype=dtype, places=places)
        if record["done"]:
            logger.info(
                "%s: continuing after %d of %d items already computed", description, record["done"], len(rows)
            )
        else:
            with writing(folder):
                if folder.exists():
                    remove_directory(folder)
                needed = (shape[0] * shape[1]) * np.dtype(dtype).itemsize
                check_space(folder.parent, needed, what=f"{description} of {shape[0]:,} items")
                folder.mkdir(exist_ok=True)
                allocate(folder / "values.npy", shape=shape, dtype=dtype)
        values = np.lib.format.open_memmap(folder / "values.npy", mode="r+")
        return cls(folder=folder, values=values, dtype=dtype, places=places, plan=plan, record=record)

    def take(self, parts: Sequence[Part], bar: tqdm) -> None:
        """Copy what shards have computed."""
        first = 0
        for part in parts:
            for start in range(0, len(part.rows), _COPIED):
                own = slice(start, min(start + _COPIED, len(part.rows)))
                if first + start >= self.done:
                    self._put(part.table.stored[own])
                    bar.update(own.stop - own.start)
            first += len(part.rows)
            self.rounding = max(self.rounding, float(str(part.table.meta.get("rounding", 0.0))))
            self.rates = self.rates or _rates(part.table.meta)

    def store(self, rows: np.ndarray, features: np.ndarray) -> None:
        if features.shape != (len(rows), self.values.shape[1]):
            raise ValueError(
                f"the encoder gave {features.shape}, expected {(len(rows), self.values.shape[1])}"
            )
        stored = rounded(features, rows, self.dtype)
        self.rounding = max(self.rounding, rounding(features, stored))
        self._put(stored)

    def _put(self, stored: np.ndarray) -> None:
        self.values[self.places[self.done : self.done + len(stored)]] = stored
        self.sum = zlib.crc32(stored.tobytes(), self.sum)
        self.done += len(stored)
        if time.monotonic() - self._recorded >= _RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        """Advance the record of progress, only after the rows it counts are on disk."""
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = self._recorded = now
        with writing(self.folder):
            self.values.flush()
            record = {
                "plan": self.plan, "done": self.done, "seconds": self.seconds, "rounding": self.rounding,
                "rates": self.rates, "sum": self.sum,
            }  # fmt: skip
            checksums.write_json(self.folder / "progress.json", record)

    def finish(
        self,
        directory: Path,
        *,
        present: np.ndarray,
        meta: Mapping[str, object],
        description: str,
        elsewhere: float,
    ) -> FeatureTable:
        n, seconds = self.done, self.seconds + elsewhere
        cost = {"seconds": round(seconds, 3), "seconds_per_item": seconds / n if n else 0.0, **self.rates}
        changed = {} if self.dtype == "float32" else {"rounding": self.rounding}
        finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with writing(directory):
            np.save(self.folder / "present.npy", present)
            write_meta(
                self.folder,
                key=directory.name,
                shape=self.values.shape,
                dtype=self.dtype,
                meta={**meta, **cost, **changed, "finished": finished},
            )
            (self.folder / "progress.json").unlink(missing_ok=True)
            checksums.seal(self.folder)
            move_directory(self.folder, directory)
        logger.info(
            "%s: %d items in %.1f s (%.1f ms an item)",
            description,
            n,
            seconds,
            1e3 * cost["seconds_per_item"],
        )
        return FeatureTable.open(directory)


def _recorded_progress(
    folder: Path, plan: str, *, shape: tuple[int, int], dtype: Stored, places: np.ndarray
) -> dict[str, Any]:
    """Return what is recorded, or that nothing is done where there is nothing of the same plan to continue.

    Rows that are done are compared with the checksum that was recorded with them.
    """
    nothing = {"done": 0, "seconds": 0.0, "sum": 0}
    if not (folder / "progress.json").is_file():  # never started, or cut off before the first record
        return nothing
    try:
        record = checksums.read_json(folder / "progress.json")
        values = loaded_npy(folder / "values.npy", mode="r")
        if record["plan"] != plan:
            return nothing
        if values.shape != shape or values.dtype != dtype:
            raise ValueError(f"values {values.dtype} {values.shape}, expected {dtype} {shape}")
        record["sum"] = _sum_of(values, places[: record["done"]], expected=record.get("sum"))
        return record
    except checksums.ARRAY_ERRORS as error:
        said = next(iter(str(error).splitlines()), "damaged")
        logger.warning("%s: cannot be continued (%s); it is begun anew", folder, said)
        return nothing


def _sum_of(values: np.ndarray, places: np.ndarray, *, expected: int | None) -> int:
    """Return the checksum of rows in the order in which they were computed; earlier versions kept none to compare."""
    found = 0
    for first in range(0, len(places), _COPIED):
        found = zlib.crc32(values[places[first : first + _COPIED]].tobytes(), found)
    if expected not in (None, found):
        raise ValueError("rows are not as they were written")
    return found


def _rates(meta: Mapping[str, object]) -> dict[str, float]:
    names = ("decoder_items_per_second", "encoder_items_per_second")
    return {name: float(str(meta[name])) for name in names if name in meta}
