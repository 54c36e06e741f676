"""The built data set as a folder that experiments read, and what is written beside it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from illmrec import checksums
from illmrec.data.picture_files import IMAGES
from illmrec.data.registry import TEXTS, Source
from illmrec.data.sources.filtering import Interactions
from illmrec.data.sources.picture_stores import PictureStore
from illmrec.errors import DamagedError
from illmrec.files import writing
from illmrec.parquet_files import write_parquet

NOTE = "build.json"
TABLES = ("interactions.parquet", "items.parquet")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same pictures give the same zip file


def ordered(found: Interactions) -> np.ndarray:
    """Return the rows that are left, user by user as they first come, in the order of (time, place in the file)."""
    left = np.flatnonzero(found.kept)
    users, _ = pd.factorize(found.users[left])
    return left[np.lexsort((found.times[left], users))]


def item_order(found: Interactions) -> pa.Array:
    """Return the ids of the items that are left, in the order in which they first come in the file."""
    return found.item_ids.take(pa.array(pd.unique(found.items[found.kept])))


def write_tables(folder: Path, found: Interactions, items: pd.DataFrame) -> None:
    """Write ``interactions.parquet`` and ``items.parquet``.

    Args:
        folder: Where.
        found: The interactions.
        items: The rows of their items.
    """
    rows = ordered(found)
    columns = {
        "user_id": found.user_ids.take(pa.array(found.users[rows])),
        "item_id": found.item_ids.take(pa.array(found.items[rows])),
        "timestamp": pa.array(found.times[rows]),
    }
    with writing(folder):
        write_parquet(pa.table(columns), folder / TABLES[0])
        shown = items[["item_id", *TEXTS]]
        write_parquet(pa.Table.from_pandas(shown, preserve_index=False), folder / TABLES[1])


def write_pictures(folder: Path, store: PictureStore, item_ids: Iterable[str], *, name: str = IMAGES) -> int:
    """Write the pictures of items into ``NAME.zip`` and return how many there are; without any there is no file."""
    have = [item_id for item_id in item_ids if item_id in store.suffixes]
    if not have:
        return 0
    with writing(folder), zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_STORED) as archive:
        for item_id in have:
            info = zipfile.ZipInfo(f"{item_id}{store.suffixes[item_id]}", date_time=_DATE)
            archive.writestr(info, store.read(item_id))
    return len(have)


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Write what was done as ``build.json``, and checksums of all but the pictures: a zip file has its own."""
    with writing(folder):
        checksums.write_json(folder / NOTE, note)
        checksums.seal(folder, NOTE, *TABLES)


def read_note(folder: Path) -> dict[str, Any] | None:
    """Return what :func:`write_note` wrote, or None where there is none.

    Raises:
        DamagedError: If it is not what was written.
    """
    path = folder / NOTE
    if not path.is_file():
        return None
    checksums.check(folder, NOTE, remedy=_again(folder))
    note = checksums.read_json(path, remedy=_again(folder))
    try:
        if type(note["options"]["min_interactions"]) is not int:
            raise ValueError("min_interactions is no whole number")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedError(f"{path}: damaged ({error}); {_again(folder)}") from error
    return note


def check_tables(folder: Path) -> None:
    """Make sure that the tables of a built data set are those that were written.

    Raises:
        DamagedError: If one is not; the message names it.
    """
    checksums.check(folder, *TABLES, remedy=_again(folder))


def _again(folder: Path) -> str:
    return f"run: python -m illmrec.data get {folder.name}"


def terms(source: Source) -> dict[str, str | None]:
    """Return page, licence and citation, as they go beside the data."""
    return {
        "page": source.page,
        "version": source.version,
        "licence": source.licence,
        "licence_note": source.licence_note,
        "citation": source.citation,
    }
