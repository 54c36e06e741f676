"""Feature tables: one memory-mapped row per item, and how they lie on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from illmrec import checksums
from illmrec.errors import DamagedError, InputError
from illmrec.files import atomic_write_text, loaded_npy, parsed_json

FORMAT = 1
_REMEDY = "delete the folder to compute it again"
NARROW_FROM = 100_000
"""Image and text features of so many items and more are stored as float16: half the disk; what it changes is noted."""

Stored = Literal["float32", "float16"]
"""How values lie on disk."""


def stored_as(n_items: int) -> Stored:
    """Return how image and text features of so many items are stored; the number of items alone decides."""
    return "float16" if n_items >= NARROW_FROM else "float32"


class FeatureTable:
    """One feature vector per item of a data set, and which items have one.

    Attributes:
        stored: float32 or float16 [n_items, width], read-only and memory-mapped where it was opened; zeros where
            ``present`` is False.
        present: bool [n_items], True where the item has a feature.
        key: 16 hexadecimal digits over everything the values depend on; also the name of the folder.
        meta: Encoder, its version, preprocessing, data fingerprint, seconds.
    """

    def __init__(
        self, *, values: np.ndarray, present: np.ndarray, key: str, meta: Mapping[str, object]
    ) -> None:
        """Take a table that is in memory, or mapped.

        Args:
            values: float32 or float16 [n_items, width].
            present: bool [n_items].
            key: Identifies the values.
            meta: What they are.
        """
        self.stored = values
        self.present = present
        self.key = key
        self.meta = meta

    @property
    def values(self) -> np.ndarray:
        """float32 [n_items, width]: what is stored, widened in memory where that is float16; take it once."""
        return self.stored if self.stored.dtype == np.float32 else self.stored.astype(np.float32)

    @property
    def width(self) -> int:
        """Length of one row."""
        return int(self.stored.shape[1])

    @property
    def item_bytes(self) -> int:
        """Bytes that one item takes on disk, its mark of being present included."""
        return int(self.stored.dtype.itemsize * self.stored.shape[1]) + 1

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
        """Open a finished table; the first time in a process all of it is read, for its checksums.

        Raises:
            DamagedError: If the folder is not a whole feature table.
            InputError: If it is of another version.
        """
        try:
            checksums.check(directory, remedy=_REMEDY)
            described = parsed_json((directory / "meta.json").read_text(encoding="utf-8"))
            if described["format"] != FORMAT:
                raise InputError(
                    f"{directory}: its format is {described['format']}, this version reads {FORMAT}; {_REMEDY}"
                )
            values = loaded_npy(directory / "values.npy", mode="r")
            present = loaded_npy(directory / "present.npy")
            shape, dtype = (described["items"], described["width"]), described.get("dtype", "float32")
            if (
                dtype not in get_args(Stored)
                or values.ndim != 2
                or values.shape != shape
                or values.dtype != dtype
            ):
                raise ValueError(f"values {values.dtype} {values.shape}, expected {dtype} {shape}")
            if present.dtype != bool or present.shape != shape[:1]:
                raise ValueError(
                    f"marks of what is present are {present.dtype} {present.shape}, not bool {shape[:1]}"
                )
            meta = described["meta"]
            if not isinstance(meta, dict) or not isinstance(described["key"], str):
                raise ValueError("what it says of itself is of the wrong type")
            if type(meta.get("vectors", 1)) is not int or meta.get("vectors", 1) < 1:
                raise ValueError(f"vectors is {meta['vectors']!r}")
            present.flags.writeable = False
            return cls(values=values, present=present, key=described["key"], meta=described["meta"])
        except InputError:
            raise
        except checksums.ARRAY_ERRORS as error:
            raise DamagedError(
                f"{directory} is not a whole feature table ({_one_line(error)}); {_REMEDY}"
            ) from error

    @classmethod
    def found(cls, directory: Path) -> FeatureTable | None:
        """Return a table that is there; None where there is none, or where it is damaged: it is named and removed.

        Raises:
            InputError: If it is of another version, or cannot be removed.
        """
        if not directory.exists():
            return None
        try:
            return cls.open(directory)
        except DamagedError as error:
            checksums.renew(directory, error)
            return None

    @classmethod
    def save(
        cls,
        directory: Path,
        values: np.ndarray,
        present: np.ndarray,
        meta: Mapping[str, object],
        *,
        dtype: Stored = "float32",
    ) -> FeatureTable:
        """Write a table that is already in memory, whole or not at all, and open it.

        Args:
            directory: Where it goes; its name is the table's key.
            values: [n_items, width], finite; rows of absent items are written as zeros.
            present: bool [n_items].
            meta: JSON-serialisable description.
            dtype: How values are stored.

        Raises:
            InputError: If the disk is full or the folder cannot be written, or a value is too large for float16.
            ValueError: If shapes disagree or a value is not finite.
        """
        present = np.asarray(present, dtype=bool)
        if values.ndim != 2 or present.shape != values.shape[:1]:
            raise ValueError(
                f"values {values.shape} and present {present.shape} do not describe the same items"
            )
        rows = rounded(np.where(present[:, None], values, 0.0), np.arange(len(values)), dtype)
        with checksums.sealed_directory(directory) as folder:
            np.save(folder / "values.npy", rows)
            np.save(folder / "present.npy", present)
            write_meta(folder, key=directory.name, shape=rows.shape, dtype=dtype, meta=meta)
        return cls.open(directory)


def rounded(features: np.ndarray, rows: np.ndarray, dtype: Stored) -> np.ndarray:
    """Return features as they are stored.

    Args:
        features: [rows, width], of any float type.
        rows: Their row numbers in the table, for the message.
        dtype: How they are stored.

    Raises:
        InputError: If a value is too large for float16.
        ValueError: If a value is not finite.
    """
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise ValueError(
            f"feature of item row {int(rows[bad][0])} is not finite ({int(bad.sum())} such rows)"
        )
    with np.errstate(over="ignore"):  # named below, with the row
        stored = np.asarray(features).astype(dtype)
    beyond = ~np.isfinite(stored).all(axis=1)
    if beyond.any():
        raise InputError(
            f"feature of item row {int(rows[beyond][0])} has values above {np.finfo(dtype).max:,.0f}, too large for "
            f"{dtype}, in which features of {NARROW_FROM:,} items and more are stored; choose another encoder"
        )
    return stored


def rounding(features: np.ndarray, stored: np.ndarray) -> float:
    """Return by how much of its length rounding has changed the row that it changed most."""
    if stored.dtype == features.dtype or not len(features):
        return 0.0
    exact = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(exact, axis=1)
    changed = np.linalg.norm(exact - stored, axis=1)
    return float((changed / np.maximum(lengths, np.finfo(np.float64).tiny)).max())


def write_meta(
    folder: Path, *, key: str, shape: tuple[int, ...], dtype: Stored, meta: Mapping[str, object]
) -> None:
    """Write what a table is beside its values."""
    described: dict[str, Any] = {"format": FORMAT, "key": key, "items": shape[0], "width": shape[1]}
    if dtype != "float32":  # tables of before say nothing of it
        described["dtype"] = dtype
    described["meta"] = dict(meta)
    atomic_write_text(folder / "meta.json", json.dumps(described, indent=2, ensure_ascii=False) + "\n")


def _one_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
