"""From two tables to a Dataset: validation, k-core, ordering, compact arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd

from illmrec.data.dataset import ITEM_COLUMNS, Dataset, ImageSource, content_fingerprint
from illmrec.data.images import SelectedImages
from illmrec.errors import InputError

REQUIRED_ITEM_COLUMNS = ("item_id", "title")
REQUIRED_INTERACTION_COLUMNS = ("user_id", "item_id", "timestamp")


def build_dataset(
    *,
    name: str,
    items: pd.DataFrame,
    interactions: pd.DataFrame,
    images: ImageSource | None = None,
    low_resolution: ImageSource | None = None,
    min_interactions: int = 5,
    max_users: int | None = None,
    seed: int = 0,
    items_file: str = "items",
    interactions_file: str = "interactions",
) -> Dataset:
    """Validate two tables and turn them into a Dataset (paper E.1: iterative k-core on users and items).

    Repeated interactions of a user with an item are repeat purchases: they are kept and counted. Users and
        items with
    fewer than ``min_interactions`` interactions are dropped, again and again until none is left, and counted
    in :attr:`Dataset.dropped`; items that nobody interacted with are dropped with them.

    Args:
        name: Name of the data set.
        items: Columns item_id and title; brand, category, description and summary default to ""; others are
            kept.
        interactions: Columns user_id, item_id and timestamp (numbers, any unit); others are ignored.
        images: Pictures by row of ``items``; they follow the rows that are kept.
        low_resolution: Smaller pictures of the same items, likewise.
        min_interactions: The k of the k-core, at least 1.
        max_users: Keep a random sample of this many users, drawn after the k-core. The catalogue stays whole,
            so items may then have fewer than ``min_interactions`` interactions. The sample is part of name
            and fingerprint.
        seed: Of that sample.
        items_file: What error messages call the items table.
        interactions_file: What error messages call the interactions table.

    Raises:
        InputError: If a column is missing, a cell cannot be used, an item is unknown, or nothing is left.
    """
    if min_interactions < 1:
        raise InputError(f"min_interactions is {min_interactions}: give 1 or more (5 in the paper)")
    if max_users is not None and max_users < 1:
        raise InputError(f"max_users is {max_users}: give 1 or more, or leave it out to keep all users")
    items = clean_items(items, file=items_file)
    user_codes, user_ids, item_codes, timestamps = _clean_interactions(
        interactions, item_ids=items["item_id"].to_numpy(dtype=object), file=interactions_file
    )

    kept = k_core(user_codes, item_codes, k=min_interactions)
    if not kept.any():
        raise InputError(
            f"{interactions_file}: of {len(kept)} interactions none is left where every user and item has "
            f"{min_interactions} or more; lower min_interactions or bring more data"
        )
    kept_items = np.unique(item_codes[kept])
    kept_users = np.unique(user_codes[kept])
    dropped = {
        "users": len(user_ids) - len(kept_users),
        "items": len(items) - len(kept_items),
        "interactions": int(len(kept) - kept.sum()),
    }

    if max_users is not None and max_users < len(kept_users):
        sample = np.random.default_rng(seed).choice(len(kept_users), size=max_users, replace=False)
        kept_users = kept_users[np.sort(sample)]
        kept &= np.isin(user_codes, kept_users)
        name = f"{name}-{max_users}users"

    users = np.searchsorted(kept_users, user_codes[kept])
    rows = np.searchsorted(kept_items, item_codes[kept]).astype(np.int32)
    order = np.lexsort((timestamps[kept], users))  # stable: equal timestamps stay in the order of the table
    offsets = np.zeros(len(kept_users) + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=len(kept_users)), out=offsets[1:])
    sequence_items = rows[order]
    sequence_items.flags.writeable = False
    offsets.flags.writeable = False

    if len(kept_items) < len(items):
        items = items.iloc[kept_items].reset_index(drop=True)
        images, low_resolution = (
            None if source is None else SelectedImages(source=source, rows=kept_items)
            for source in (images, low_resolution)
        )
    kept_user_ids = user_ids[kept_users]
    return Dataset(
        name=name,
        items=items,
        user_ids=kept_user_ids,
        sequence_items=sequence_items,
        offsets=offsets,
        images=images,
        fingerprint=content_fingerprint(
            items=items,
            user_ids=kept_user_ids,
            sequence_items=sequence_items,
            offsets=offsets,
            images=images,
        ),
        dropped=dropped,
        low_resolution=low_resolution,
    )


def k_core(users: np.ndarray, items: np.ndarray, *, k: int) -> np.ndarray:
    """Return which interactions are in the k-core: every user and every item left has at least k of them.

    Args:
        users: int [n] user of each interaction, numbered from 0.
        items: int [n] item of each interaction, numbered from 0.
        k: Least number of interactions, repeated ones counted.

    Returns:
        bool [n].
    """
    kept = np.ones(len(users), dtype=bool)
    while True:
        of_user = np.bincount(users[kept], minlength=users.max(initial=-1) + 1)
        of_item = np.bincount(items[kept], minlength=items.max(initial=-1) + 1)
        smaller = kept & (of_user[users] >= k) & (of_item[items] >= k)
        if smaller.sum() == kept.sum():
            return kept
        kept = smaller


def clean_items(items: pd.DataFrame, *, file: str = "items") -> pd.DataFrame:
    """Return the items table with all of :data:`ITEM_COLUMNS` first, as text, and a RangeIndex.

    Null cells in text columns become "", lists become one text; HTML and any script stay as they are.

    Raises:
        InputError: If a required column is missing, an id is missing or used twice, or a title is empty.
    """
    _require_columns(items, REQUIRED_ITEM_COLUMNS, file=file)
    if len(items) == 0:
        raise InputError(f"{file}: the table has no rows; bring at least one item")
    columns: dict[str, object] = {"item_id": _ids(items["item_id"], column="item_id", file=file)}
    for column in ITEM_COLUMNS[1:]:
        columns[column] = _text(items[column]) if column in items else np.full(len(items), "", dtype=object)
    for column in items.columns:
        if str(column) not in columns:
            values = items[column]
            columns[str(column)] = values.to_numpy() if _is_plain(values) else _text(values)
    cleaned = pd.DataFrame(columns, index=pd.RangeIndex(len(items)))

    ids = cleaned["item_id"]
    duplicated = np.flatnonzero(ids.duplicated())
    if len(duplicated):
        second = int(duplicated[0])
        first = int(np.flatnonzero((ids == ids.iloc[second]).to_numpy())[0])
        raise InputError(
            f"{file}, row {second + 1}: item_id {_quote(ids.iloc[second])} is already used in row "
            f"{first + 1} ({len(duplicated)} such rows); keep one row for each item"
        )
    untitled = np.flatnonzero((cleaned["title"].str.strip() == "").to_numpy(dtype=bool))
    if len(untitled):
        row = int(untitled[0])
        raise InputError(
            f"{file}, row {row + 1}: item {_quote(ids.iloc[row])} has an empty title "
            f"({len(untitled)} such rows); every method names items by title: fill it in or remove the item"
        )
    return cleaned


def _clean_interactions(
    interactions: pd.DataFrame, *, item_ids: np.ndarray, file: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return user codes [n], the users' ids, item rows [n] and timestamps [n]."""
    _require_columns(interactions, REQUIRED_INTERACTION_COLUMNS, file=file)
    if len(interactions) == 0:
        raise InputError(f"{file}: the table has no rows; bring at least one interaction")
    users = _ids(interactions["user_id"], column="user_id", file=file)
    items = _ids(interactions["item_id"], column="item_id", file=file)
    timestamps = _timestamps(interactions["timestamp"], file=file)
    item_codes = pd.Index(item_ids).get_indexer(pd.Index(items))
    unknown = np.flatnonzero(item_codes < 0)
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            f"{file}, row {row + 1}: item_id {_quote(items[row])} is not in the items table "
            f"({len(unknown)} such rows); add the item or remove these interactions"
        )
    user_codes, user_ids = pd.factorize(users)
    return user_codes, np.asarray(user_ids, dtype=object), item_codes, timestamps


def _require_columns(table: pd.DataFrame, required: tuple[str, ...], *, file: str) -> None:
    missing = [column for column in required if column not in table]
    if missing:
        found = ", ".join(str(column) for column in table.columns) or "none"
        raise InputError(
            f"{file}: missing column {', '.join(missing)}; it has {found}: rename or add the column"
        )
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise InputError(f"{file}: column {twice[0]} is there more than once; keep one")


def _ids(column_values: pd.Series, *, column: str, file: str) -> np.ndarray:
    """Return ids as str objects; whole numbers read as floats (12.0) are written like integers (12)."""
    missing = column_values.isna().to_numpy(dtype=bool)
    if not missing.any():
        values = column_values
        if pd.api.types.is_float_dtype(values.dtype) and np.all(values.to_numpy(dtype=float) % 1 == 0):
            values = values.astype("int64")
        ids = values.astype(str).to_numpy(dtype=object)
        missing = ids == ""
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise InputError(
            f"{file}, row {row + 1}: {column} is missing ({int(missing.sum())} such rows); "
            "fill it in or remove the row"
        )
    return ids


def _timestamps(values: pd.Series, *, file: str) -> np.ndarray:
    """Return timestamps as numbers; integers stay integers, because floats lose digits of nanoseconds."""
    numbers = pd.to_numeric(values, errors="coerce")
    if pd.api.types.is_bool_dtype(numbers.dtype) or pd.api.types.is_datetime64_any_dtype(values.dtype):
        raise InputError(
            f"{file}, row 1: timestamp is a {values.dtype}, not a number; convert it to seconds since 1970"
        )
    missing = ~np.isfinite(numbers.to_numpy(dtype=float, na_value=np.nan))
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        cell = values.iloc[row]
        said = "is missing" if pd.isna(cell) or cell == "" else f"is {_quote(cell)}, not a number"
        raise InputError(
            f"{file}, row {row + 1}: timestamp {said} ({int(missing.sum())} such rows); "
            "give seconds since 1970"
        )
    return numbers.to_numpy()


def _text(values: pd.Series) -> np.ndarray:
    """Return a column as str objects: null becomes "", a list of texts becomes one text."""
    null = values.isna().to_numpy(dtype=bool)
    separator = " " if values.name in ("description", "summary") else " | "
    cells = values.to_numpy(dtype=object, copy=True)
    cells[null] = ""
    if pd.api.types.infer_dtype(cells, skipna=False) != "string":
        cells[:] = [
            separator.join(map(str, cell)) if isinstance(cell, list | tuple | np.ndarray) else str(cell)
            for cell in cells
        ]
    return cells


def _is_plain(values: pd.Series) -> bool:
    """Tell columns of numbers, truth values or dates from columns of text."""
    return isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufM"


def _quote(value: object) -> str:
    """Return a short, one-line form of a user's cell."""
    text = repr(str(value))
    return text if len(text) <= 60 else f"{text[:56]}...'"
