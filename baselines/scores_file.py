"""Scores or lists that were made elsewhere, such as another library's output, read from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from illmrec.data import columns
from illmrec.data.columns import quote
from illmrec.data.tables import TABLE_FORMATS, read_table_file
from illmrec.errors import InputError

_NAMES: Mapping[str, tuple[str, ...]] = {"user_id": ("user_id", "user"), "item_id": ("item_id", "item")}
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class GivenScores:
    """The items that a file names for each user, by the order of their scores.

    Scores are kept as places: of a user's items that with the lowest score has 0, the next higher score 1, and equal
    scores have one place. Nothing of their order is lost to float32 then, whatever their size.

    Attributes:
        offsets: int64 [n_users + 1]; user ``u`` has ``items[offsets[u]:offsets[u + 1]]``.
        items: int32 [rows], item rows.
        places: float32 [rows].
        n_items: Items of the catalogue.
        ignored: Rows of the file that name an unknown user or item.
        unknown_users: Different users of the file that the data set lacks.
        unknown_items: Different items of the file that the data set lacks.
    """

    offsets: np.ndarray
    items: np.ndarray
    places: np.ndarray
    n_items: int
    ignored: int
    unknown_users: int
    unknown_items: int

    def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [users, n_items], higher is better; minus infinity for what the file does not name.

        Args:
            users: Row numbers of the users, int [users].
            histories: Not read: whoever made the scores has read them.
        """
        starts, counts = self.offsets[users], np.diff(self.offsets)[users]
        rows = np.repeat(np.arange(len(users)), counts)
        found = np.arange(len(rows)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        scores = np.full((len(users), self.n_items), -np.inf, dtype=np.float32)
        scores[rows, self.items[found]] = self.places[found]
        return scores

    def without_rows(self, users: np.ndarray) -> int:
        """Return how many of some users, int [users], the file names no item for."""
        return int((np.diff(self.offsets)[users] == 0).sum())

    def described(self, users: np.ndarray) -> dict[str, int]:
        """Return what of the file is used, as numbers: rows, what is ignored, and evaluated users without a row.

        Args:
            users: Row numbers of the evaluated users, int [users].
        """
        return {
            "rows": len(self.items),
            "ignored_rows": self.ignored,
            "unknown_users": self.unknown_users,
            "unknown_items": self.unknown_items,
            "users_without_rows": self.without_rows(users),
        }


def read_scores(path: Path, *, user_ids: Sequence[str], item_ids: Sequence[str]) -> GivenScores:
    """Read a table of scores or lists: Parquet, CSV or JSON lines.

    It has the columns user_id, item_id and score, a number, higher is better; ``user`` and ``item`` will do as names.
    Without a column score, a column rank will do: 1 is best. Ids are compared as text; rows with an unknown one are
    counted and ignored.

    Args:
        path: The file.
        user_ids: The data set's users, in the order of their row numbers.
        item_ids: Its items, likewise.

    Raises:
        InputError: If the file cannot be read, a column or a value is missing, a score is no finite number, a user has
            an item twice, or no row names a user and an item of the data set.
    """
    file = str(path)
    table = read_table_file(path)
    user_column, item_column, value_column = _column_names(table, file=file)
    columns.require_columns(table, (user_column, item_column, value_column), file=file)
    if table.empty:
        raise InputError(f"{file}: holds no row; write one for each user and item")
    values = _numbers(table[value_column], file=file)
    users, unknown_users = _matched(table[user_column], user_ids, file=file)
    items, unknown_items = _matched(table[item_column], item_ids, file=file)
    kept = np.flatnonzero((users >= 0) & (items >= 0))
    if not len(kept):
        first = table.iloc[0]
        hints = {
            columns.float_hint(table[column][codes < 0].astype(str).unique(), known)
            for column, codes, known in ((user_column, users, user_ids), (item_column, items, item_ids))
        }
        hint = "".join(f"; {hint}" for hint in sorted(hints) if hint)
        raise InputError(
            f"{file}: no row names a user and an item of the data set; ids are compared as text: data row 1 has user "
            f"{quote(first[user_column])} and item {quote(first[item_column])}, the data set user "
            f"{quote(user_ids[0])} and item {quote(item_ids[0])}{hint}"
        )
    users, items = users[kept], items[kept]
    _refuse_repeated(users, items, kept, names=(user_ids, item_ids), file=file)
    values = values[kept] if value_column == "score" else -values[kept]
    order = np.lexsort((values, users))
    offsets = np.zeros(len(user_ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=len(user_ids)), out=offsets[1:])
    return GivenScores(
        offsets=offsets,
        items=items[order].astype(np.int32),
        places=_places(values[order], users[order], offsets).astype(np.float32),
        n_items=len(item_ids),
        ignored=len(table) - len(kept),
        unknown_users=unknown_users,
        unknown_items=unknown_items,
    )


def content_hash(path: Path) -> str:
    """Return 16 hexadecimal digits that identify what a file of scores holds.

    Raises:
        InputError: If there is no such file, its name ends like no table that can be read, or it cannot be read.
    """
    if path.suffix not in TABLE_FORMATS:
        raise InputError(
            f"{path}: scores are read from {', '.join(TABLE_FORMATS)}; write them as one of them"
        )
    digest = hashlib.sha256(path.suffix.encode())
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a file of scores") from None
    return digest.hexdigest()[:16]


def _column_names(table: pd.DataFrame, *, file: str) -> tuple[str, str, str]:
    """Return the names of the columns with users, items and values; the usual ones where they are missing."""
    user, item = (next((name for name in names if name in table), usual) for usual, names in _NAMES.items())
    if "score" not in table and "rank" not in table:
        found = ", ".join(str(column) for column in table.columns) or "none"
        raise InputError(
            f"{file}: missing column score, or rank where items are listed best first; it has {found}: rename or add "
            "the column"
        )
    return user, item, "score" if "score" in table else "rank"


def _numbers(values: pd.Series, *, file: str) -> np.ndarray:
    """Return a column as float64 [rows], all finite."""
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        cell, missing = values.iloc[wrong[0]], values.isna().iloc[wrong[0]]
        said = "is missing" if missing or str(cell) == "" else f"is {quote(cell)}, not a finite number"
        raise InputError(
            f"{file}, data row {wrong[0] + 1}: {values.name} {said} ({len(wrong)} such rows); correct or remove the row"
        )
    return numbers


def _matched(values: pd.Series, known: Sequence[str], *, file: str) -> tuple[np.ndarray, int]:
    """Return the row number of each id, int64 [rows], -1 for unknown ones, and how many different ones are unknown."""
    try:
        codes, unique = pd.factorize(values)
    except TypeError:
        raise InputError(f"{file}: {values.name} holds lists; write a row for each user and item") from None
    try:
        if (codes < 0).any():
            raise InputError("an id is missing")
        names = columns.ids(pd.Series(np.asarray(unique)), column=str(values.name), file=file)
    except InputError:
        columns.ids(values, column=str(values.name), file=file)  # names the row
        raise
    rows = pd.Index(known, dtype=object).get_indexer(pd.Index(names, dtype=object))
    return rows[codes], len(set(names[rows < 0]))


def _refuse_repeated(
    users: np.ndarray,
    items: np.ndarray,
    rows: np.ndarray,
    *,
    names: tuple[Sequence[str], Sequence[str]],
    file: str,
) -> None:
    """Refuse a user's item that is there twice; ``rows`` are the numbers of the table's rows."""
    pairs = users.astype(np.int64) * len(names[1]) + items
    order = np.argsort(pairs, kind="stable")
    again = np.flatnonzero(pairs[order][1:] == pairs[order][:-1]) + 1
    if not len(again):
        return
    place = again[np.argmin(order[again])]
    row, earlier = order[place], order[place - 1]
    user, item = (quote(each[number]) for each, number in zip(names, (users[row], items[row]), strict=True))
    raise InputError(
        f"{file}, data row {rows[row] + 1}: data row {rows[earlier] + 1} has user {user} with item {item} already "
        f"({len(again)} such rows); keep one of them"
    )


def _places(values: np.ndarray, users: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the place of each value among its user's, int64 [rows]; rows are sorted by user, then by value."""
    higher = np.zeros(len(values), dtype=np.int64)
    higher[1:] = values[1:] > values[:-1]
    counted = np.cumsum(higher)
    return counted - counted[offsets[users]]
