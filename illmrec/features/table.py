"""Feature tables: one memory-mapped row per item, computed once, in batches, resumable."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from illmrec.errors import InputError
from illmrec.files import allocate, atomic_directory, atomic_write_text, exclusive, hash_json, writing

logger = logging.getLogger(__name__)

_FORMAT = 1
_RECORD_SECONDS = 1.0  # a killed run loses at most this much work and the batch it was in


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """One feature vector per item of a data set, and which items have one.

    Attributes:
        values: float32 [n_items, width], read-only and memory-mapped; zeros where ``present`` is False.
        present: bool [n_items], True where the item has a feature.
        key: 16 hexadecimal digits over everything the values depend on; also the name of the folder.
        meta: Encoder, its version, preprocessing, data fingerprint, seconds.
    """

    values: np.ndarray
    present: np.ndarray
    key: str
    meta: Mapping[str, object]

    @property
    def width(self) -> int:
        """Length of one row."""
        return int(self.values.shape[1])

    @property
    def vectors(self) -> int:
        """How many vectors a row holds, side by side: more than one where parts of a picture have their own."""
        return int(str(self.meta.get("vectors", 1)))

    @property
    def embeddings(self) -> bool:
        """Whether vectors are input embeddings of an LLM, which enter it as they are."""
        return bool(self.meta.get("embeddings", False))

    @classmethod
    def open(cls, directory: Path) -> FeatureTable:
        """Open a finished table; the values stay on disk until they are read.

        Raises:
            InputError: If the folder is not a whole feature table.
        """
        try:
            described = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
            values = np.load(directory / "values.npy", mmap_mode="r", allow_pickle=False)
            present = np.load(directory / "present.npy", allow_pickle=False)
            if described["format"] != _FORMAT:
                raise ValueError(f"format {described['format']}, this version reads {_FORMAT}")
            shape = (described["items"], described["width"])
            if values.shape != shape or values.dtype != np.float32 or present.shape != shape[:1]:
                raise ValueError(f"values {values.dtype} {values.shape}, expected float32 {shape}")
            present.flags.writeable = False
            return cls(values=values, present=present, key=described["key"], meta=described["meta"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{directory} is not a whole feature table ({_one_line(error)});"
                " delete the folder to compute it again"
            ) from error

    @classmethod
    def save(
        cls, directory: Path, values: np.ndarray, present: np.ndarray, meta: Mapping[str, object]
    ) -> FeatureTable:
        """Write a table that is already in memory, whole or not at all, and open it.

        Args:
            directory: Where it goes; its name is the table's key.
            values: [n_items, width], finite; rows of absent items are written as zeros.
            present: bool [n_items].
            meta: JSON-serialisable description.

        Raises:
            InputError: If the disk is full or the folder cannot be written.
            ValueError: If shapes disagree or a value is not finite.
        """
        present = np.asarray(present, dtype=bool)
        if values.ndim != 2 or present.shape != values.shape[:1]:
            raise ValueError(
                f"values {values.shape} and present {present.shape} do not describe the same items"
            )
        rows = np.where(present[:, None], values, 0.0).astype(np.float32)
        _check_finite(rows, np.arange(len(rows)))
        with atomic_directory(directory) as folder:
            np.save(folder / "values.npy", rows)
            np.save(folder / "present.npy", present)
            _write_meta(folder, key=directory.name, shape=rows.shape, meta=meta)
        return cls.open(directory)


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
    load_batch: Callable[[np.ndarray], Any] | None = None,
    conditions: Mapping[str, object] | None = None,
) -> FeatureTable:
    """Compute a feature table batch by batch, or continue or open the one that is already there.

    Finished batches are kept in ``<directory>.partial`` until the table is whole, so an interruption or an
    error in one item loses the batch it was in, and a killed process about a second of work more. Of two
    processes that want the same table the second waits for the first.

    Args:
        directory: Where the table goes; its name is the key.
        n_items: Number of rows.
        width: Length of one feature vector.
        present: bool [n_items]; only these rows are computed, the others stay zero.
        encode_batch: Takes row numbers int64 [batch], or what ``load_batch`` made of them, and gives
            [batch, width], finite.
        batch_size: Rows a batch.
        meta: JSON-serialisable description; "seconds", "seconds_per_item" and when it was "finished" are added to it.
        description: What is computed, for the progress bar and the log.
        progress: Show a progress bar.
        order: int64, the present rows in the order to compute them, if not by number.
        load_batch: Reads what a batch needs; runs in a thread, one batch ahead of ``encode_batch``.
        conditions: What the time depends on and the values do not, such as the device: kept with the description.

    Raises:
        InputError: If an item cannot be encoded, the disk is full or the folder cannot be written.
    """
    if directory.exists():
        return FeatureTable.open(directory)
    present = np.asarray(present, dtype=bool)
    rows = np.flatnonzero(present) if order is None else np.asarray(order, dtype=np.int64)
    if present.shape != (n_items,) or not np.array_equal(np.sort(rows), np.flatnonzero(present)):
        raise ValueError(f"order and present must name the same rows of {n_items}")
    with exclusive(directory, description):
        if directory.exists():  # another process finished it while this one waited
            return FeatureTable.open(directory)
        partial = _Partial.open(
            directory, shape=(n_items, width), rows=rows, meta=meta, description=description
        )
        batches = [rows[i : i + batch_size] for i in range(partial.done, len(rows), batch_size)]
        bar = tqdm(total=len(rows), initial=partial.done, desc=description, unit="item", disable=not progress)
        try:
            with bar, contextlib.closing(_read_ahead(batches, load_batch)) as loaded:
                for batch, content in loaded:
                    partial.store(batch, encode_batch(content))
                    bar.update(len(batch))
        finally:
            partial.record()
        described = {**meta, **(conditions or {})}
        return partial.finish(directory, present=present, meta=described, description=description)


class _Partial:
    """The values computed so far and how many rows, in the order of computation, are done."""

    def __init__(self, *, folder: Path, values: np.memmap, plan: str, done: int, seconds: float) -> None:
        self.folder = folder
        self.values = values
        self.plan = plan
        self.done = done
        self.seconds = seconds
        self._since = time.monotonic()
        self._recorded = self._since

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        shape: tuple[int, int],
        rows: np.ndarray,
        meta: Mapping[str, object],
        description: str,
    ) -> _Partial:
        folder = directory.with_name(directory.name + ".partial")
        plan = hash_json([_FORMAT, list(shape), hashlib.sha256(rows.tobytes()).hexdigest(), dict(meta)])
        done, seconds = _recorded_progress(folder, plan, shape)
        if done:
            logger.info("%s: continuing after %d of %d items already computed", description, done, len(rows))
        else:
            with writing(folder):
                if folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir()
                allocate(folder / "values.npy", shape=shape, dtype=np.float32)
        values = np.lib.format.open_memmap(folder / "values.npy", mode="r+")
        return cls(folder=folder, values=values, plan=plan, done=done, seconds=seconds)

    def store(self, rows: np.ndarray, features: np.ndarray) -> None:
        if features.shape != (len(rows), self.values.shape[1]):
            raise ValueError(
                f"the encoder gave {features.shape}, expected {(len(rows), self.values.shape[1])}"
            )
        _check_finite(features, rows)
        self.values[rows] = features
        self.done += len(rows)
        if time.monotonic() - self._recorded >= _RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        """Advance the record of progress, only after the rows it counts are on disk."""
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = self._recorded = now
        with writing(self.folder):
            self.values.flush()
            record = {"plan": self.plan, "done": self.done, "seconds": self.seconds}
            atomic_write_text(self.folder / "progress.json", json.dumps(record))

    def finish(
        self, directory: Path, *, present: np.ndarray, meta: Mapping[str, object], description: str
    ) -> FeatureTable:
        n = self.done
        cost = {"seconds": round(self.seconds, 3), "seconds_per_item": self.seconds / n if n else 0.0}
        finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
        with writing(directory):
            np.save(self.folder / "present.npy", present)
            _write_meta(
                self.folder,
                key=directory.name,
                shape=self.values.shape,
                meta={**meta, **cost, "finished": finished},
            )
            (self.folder / "progress.json").unlink()
            os.replace(self.folder, directory)
        logger.info(
            "%s: %d items in %.1f s (%.1f ms an item)",
            description,
            n,
            self.seconds,
            1e3 * cost["seconds_per_item"],
        )
        return FeatureTable.open(directory)


def _recorded_progress(folder: Path, plan: str, shape: tuple[int, int]) -> tuple[int, float]:
    """Return rows done and seconds spent, or zeros where there is nothing of the same plan to continue."""
    try:
        record = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        values = np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):  # never started, or cut off before the first record was whole
        return 0, 0.0
    if record["plan"] != plan or values.shape != shape:
        return 0, 0.0
    return int(record["done"]), float(record["seconds"])


def _read_ahead(
    batches: list[np.ndarray], load_batch: Callable[[np.ndarray], Any] | None
) -> Generator[tuple[np.ndarray, Any], None, None]:
    if load_batch is None or not batches:
        yield from ((batch, batch) for batch in batches)
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="features") as executor:
        ahead: Future[Any] = executor.submit(load_batch, batches[0])
        try:
            for batch, following in zip(batches, [*batches[1:], None], strict=True):
                content = ahead.result()
                if following is not None:
                    ahead = executor.submit(load_batch, following)
                yield batch, content
        finally:
            ahead.cancel()


def _write_meta(folder: Path, *, key: str, shape: tuple[int, ...], meta: Mapping[str, object]) -> None:
    described = {"format": _FORMAT, "key": key, "items": shape[0], "width": shape[1], "meta": dict(meta)}
    atomic_write_text(folder / "meta.json", json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def _check_finite(features: np.ndarray, rows: np.ndarray) -> None:
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise ValueError(
            f"feature of item row {int(rows[bad][0])} is not finite ({int(bad.sum())} such rows)"
        )


def _one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
