"""From two tables to a Dataset: validation, k-core, ordering, compact arrays."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np
import pandas as pd

from illmrec.data import columns
from illmrec.data.dataset import ITEM_COLUMNS, Dataset, ImageSource, content_fingerprint
from illmrec.data.images import SelectedImages
from illmrec.data.time_resolution import TimeResolution, beginning_of_days, known_times
from illmrec.data.times import moments
from illmrec.errors import InputError

logger = logging.getLogger(__name__)

Duplicates = Literal["drop", "keep"]
Ties = Literal["table", "drawn"]

_SHOWN_IDS = 5
_NO_TITLES = ("nan", "none", "null", "n/a")

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
    duplicates: Duplicates = "drop",
    ties: Ties = "table",
    time_resolution: TimeResolution = "auto",
    seed: int = 0,
    items_file: str = "items",
    interactions_file: str = "interactions",
) -> Dataset:
    """Validate two tables and turn them into a Dataset (paper E.1: iterative k-core on users and items).

    Repeated interactions of a user with an item at different times are repeat purchases: they are kept and counted.
    Rows that agree in user, item and time are one interaction written twice, unless ``duplicates`` keeps them. Users
    and items with fewer than ``min_interactions`` interactions are dropped, again and again until none is left, and
    counted in :attr:`Dataset.dropped`; items that nobody interacted with are dropped with them.

    Args:
        name: Name of the data set.
        items: Columns item_id and title; brand, category, description and summary default to ""; others are
            kept.
        interactions: Columns user_id, item_id and timestamp (numbers of one unit, or dates:
            :func:`illmrec.data.times.moments`); others are ignored.
        images: Pictures by row of ``items``; they follow the rows that are kept.
        low_resolution: Smaller pictures of the same items, likewise.
        min_interactions: The k of the k-core, at least 1.
        max_users: Keep a random sample of this many users, drawn after the k-core. The catalogue stays whole,
            so items may then have fewer than ``min_interactions`` interactions. The sample is part of name
            and fingerprint.
        duplicates: What becomes of rows equal in user, item and time: ``drop`` all but the first, or ``keep`` them,
            for data where they mean a quantity.
        ties: The order of a user's interactions at the same time, or on the same day where times tell no more: that of
            the ``table``, with what it adds to the day, or one ``drawn`` by seed, which does not depend on how the
            table is sorted, and by which all times of a day become its beginning.
        time_resolution: Whether times are ``exact``, or tell the ``day`` alone; ``auto`` finds out
            (:func:`illmrec.data.time_resolution.found_beginning`).
        seed: Of the sample and of that order.
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

    days_begin = beginning_of_days(user_codes, timestamps, resolution=time_resolution, file=interactions_file)
    repeated = _repeated(user_codes, item_codes, timestamps)
    n_rows = len(repeated)
    if duplicates == "drop" and repeated.any():
        user_codes, item_codes, timestamps = (
            values[~repeated] for values in (user_codes, item_codes, timestamps)
        )
    kept = k_core(user_codes, item_codes, k=min_interactions)
    if not kept.any():
        raise InputError(
            f"{interactions_file}: of {n_rows} interactions none is left where every user and item has "
            f"{min_interactions} or more; lower min_interactions or bring more data"
        )
    kept_items = np.unique(item_codes[kept])
    kept_users = np.unique(user_codes[kept])
    dropped = {
        "users": len(user_ids) - len(kept_users),
        "items": len(items) - len(kept_items),
        "interactions": int(len(kept) - kept.sum()),
        "duplicate rows": n_rows - len(kept),
    }

    if max_users is not None and max_users < len(kept_users):
        sample = np.random.default_rng(seed).choice(len(kept_users), size=max_users, replace=False)
        kept_users = kept_users[np.sort(sample)]
        kept &= np.isin(user_codes, kept_users)
        name = f"{name}-{max_users}users"

    users = np.searchsorted(kept_users, user_codes[kept])
    rows = np.searchsorted(kept_items, item_codes[kept]).astype(np.int32)
    if ties == "table":
        order = np.lexsort(
            (timestamps[kept], users)
        )  # stable: equal timestamps stay in the order of the table
    else:
        item_ids = items["item_id"].to_numpy(dtype=object)
        lots = _lots(user_ids, user_codes[kept], seed=seed) ^ _lots(item_ids, item_codes[kept], seed=seed + 1)
        timestamps = known_times(timestamps, days_begin)
        order = np.lexsort((lots, timestamps[kept], users))
    offsets = np.zeros(len(kept_users) + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=len(kept_users)), out=offsets[1:])
    sequence_items = rows[order]
    sequence_items.flags.writeable = False
    offsets.flags.writeable = False
    times = timestamps[kept][order]
    times.flags.writeable = False

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
        repeated=int(repeated.sum()) if duplicates == "keep" else 0,
        times=times,
        tied_targets=_tied_targets(known_times(times, days_begin), offsets),
        days_begin=days_begin,
        low_resolution=low_resolution,
    )


def _repeated(users: np.ndarray, items: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """Return bool [n], rows that agree with an earlier one in user, item and time."""
    rows = pd.DataFrame({"user": users, "item": items, "timestamp": timestamps})
    return rows.duplicated().to_numpy(dtype=bool)


def _lots(values: np.ndarray, codes: np.ndarray, *, seed: int) -> np.ndarray:
    """Return uint64 [n], numbers that depend on seed and text alone, wherever a row stands."""
    hashed = pd.util.hash_array(values.astype(object), hash_key=f"{seed % 10**16:016d}", categorize=False)
    return hashed[codes]


def _tied_targets(timestamps: np.ndarray, offsets: np.ndarray) -> float:
    """Return the share of users whose last two interactions have one time: the table's order decides what is tested.

    Args:
        timestamps: [n], user by user in order.
        offsets: Int64 [n_users + 1].
    """
    last = offsets[1:][np.diff(offsets) > 1] - 1
    return float((timestamps[last] == timestamps[last - 1]).mean()) if len(last) else 0.0


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
    columns.require_columns(items, REQUIRED_ITEM_COLUMNS, file=file)
    if len(items) == 0:
        raise InputError(f"{file}: the table has no rows; bring at least one item")
    cells: dict[str, object] = {"item_id": columns.ids(items["item_id"], column="item_id", file=file)}
    for column in ITEM_COLUMNS[1:]:
        cells[column] = (
            columns.text(items[column], file=file)
            if column in items
            else np.full(len(items), "", dtype=object)
        )
    for column in items.columns:
        if str(column) not in cells:
            values = items[column]
            cells[str(column)] = (
                values.to_numpy()
                if columns.is_plain(values)
                else columns.text(values, file=file, shown=False)
            )
    cleaned = pd.DataFrame(cells, index=pd.RangeIndex(len(items)))

    ids = cleaned["item_id"]
    duplicated = np.flatnonzero(ids.duplicated())
    if len(duplicated):
        second = int(duplicated[0])
        first = int(np.flatnonzero((ids == ids.iloc[second]).to_numpy())[0])
        raise InputError(
            f"{file}, data row {second + 1}: item_id {columns.quote(ids.iloc[second])} is already used in row "
            f"{first + 1} ({len(duplicated)} such rows); keep one row for each item"
        )
    careless = cleaned["title"].str.strip().str.lower().isin(_NO_TITLES)
    if careless.any():
        logger.warning(
            "%s: %d titles are %s; if the export wrote missing titles so, remove them",
            file,
            int(careless.sum()),
            " or ".join(repr(title) for title in sorted(set(cleaned.loc[careless, "title"]))),
        )
    untitled = np.flatnonzero((cleaned["title"].str.strip() == "").to_numpy(dtype=bool))
    if len(untitled):
        row = int(untitled[0])
        raise InputError(
            f"{file}, data row {row + 1}: item {columns.quote(ids.iloc[row])} has an empty title "
            f"({len(untitled)} such rows{_more(ids.iloc[untitled])}); every method names items by title: fill it in or "
            "remove the item"
        )
    return cleaned


def _more(ids: pd.Series) -> str:
    """Return the first few of several ids, for a message."""
    if len(ids) < 2:
        return ""
    rest = ", ..." if len(ids) > _SHOWN_IDS else ""
    return f": {', '.join(map(columns.quote, ids.iloc[:_SHOWN_IDS]))}{rest}"


def _clean_interactions(
    interactions: pd.DataFrame, *, item_ids: np.ndarray, file: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return user codes [n], the users' ids, item rows [n] and timestamps [n]."""
    columns.require_columns(interactions, REQUIRED_INTERACTION_COLUMNS, file=file)
    if len(interactions) == 0:
        raise InputError(f"{file}: the table has no rows; bring at least one interaction")
    users = columns.ids(interactions["user_id"], column="user_id", file=file)
    items = columns.ids(interactions["item_id"], column="item_id", file=file)
    timestamps = moments(interactions["timestamp"], file=file)
    item_codes = pd.Index(item_ids).get_indexer(pd.Index(items))
    unknown = np.flatnonzero(item_codes < 0)
    if len(unknown):
        row = int(unknown[0])
        hint = columns.float_hint(items[unknown], item_ids)
        raise InputError(
            f"{file}, data row {row + 1}: item_id {columns.quote(items[row])} is not in the items table "
            f"({len(unknown)} such rows); {hint or 'add the item or remove these interactions'}"
        )
    user_codes, user_ids = pd.factorize(users)
    return user_codes, np.asarray(user_ids, dtype=object), item_codes, timestamps
