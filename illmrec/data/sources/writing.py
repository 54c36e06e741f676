"""The built data set as a folder that experiments read, and what is written beside it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from illmrec.data.picture_files import IMAGES
from illmrec.data.registry import TEXTS, Source
from illmrec.data.sources.filtering import Interactions
from illmrec.data.sources.picture_stores import PictureStore
from illmrec.errors import InputError
from illmrec.files import parsed_json, writing

NOTE = "build.json"
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
        pq.write_table(pa.table(columns), folder / "interactions.parquet", compression="zstd")
        shown = items[["item_id", *TEXTS]]
        pq.write_table(
            pa.Table.from_pandas(shown, preserve_index=False), folder / "items.parquet", compression="zstd"
        )


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
    """Write what was done as ``build.json``."""
    with writing(folder):
        (folder / NOTE).write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_note(folder: Path) -> dict[str, Any] | None:
    """Return what :func:`write_note` wrote, or None where there is none.

    Raises:
        InputError: If it is damaged.
    """
    path = folder / NOTE
    if not path.is_file():
        return None
    try:
        note: dict[str, Any] = parsed_json(path.read_text(encoding="utf-8"))
        if type(note["options"]["min_interactions"]) is not int:
            raise ValueError("min_interactions is no whole number")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"{path}: damaged ({error}); delete the folder and build it again: python -m illmrec.data get"
        ) from error
    return note


def terms(source: Source) -> dict[str, str | None]:
    """Return page, licence and citation, as they go beside the data."""
    return {
        "page": source.page,
        "version": source.version,
        "licence": source.licence,
        "licence_note": source.licence_note,
        "citation": source.citation,
    }
