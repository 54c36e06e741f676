"""The steps between parsing and pictures: who and what stays, rule by rule, with counts of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from illmrec.data.building import k_core
from illmrec.data.registry import Source
from illmrec.data.sources.parsing import Parsed, batches
from illmrec.errors import InputError

Repeats = Literal["keep", "first"]

UNKNOWN = "in the file of items"
"""The rule that comes before all others: an item without a row has nothing to show."""


@dataclass(kw_only=True)
class Step:
    """What was left after a step.

    Attributes:
        name: The step, or the step and the rule.
        users: Users left.
        items: Items with interactions left.
        interactions: Interactions left.
        dropped: How many interactions it dropped.
        notes: What else was counted.
    """

    name: str
    users: int
    items: int
    interactions: int
    dropped: int = 0
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Interactions:
    """All interactions of a data set as numbers, in the order of the file, and which of them are left.

    Attributes:
        users: int32 [n], places in ``user_ids``.
        items: int32 [n], places in ``item_ids``.
        times: int64 [n].
        user_ids: Ids of users.
        item_ids: Ids of items.
        kept: bool [n].
        steps: What each step so far has left.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray
    user_ids: pa.Array
    item_ids: pa.Array
    kept: np.ndarray
    steps: list[Step] = field(default_factory=list)

    def record(self, name: str, **notes: int) -> Step:
        """Count what is left and note it as a step."""
        before = self.steps[-1].interactions if self.steps else len(self.kept)
        left = int(self.kept.sum())
        step = Step(
            name=name,
            users=_distinct(self.users[self.kept], len(self.user_ids)),
            items=_distinct(self.items[self.kept], len(self.item_ids)),
            interactions=left,
            dropped=before - left,
            notes={what: count for what, count in notes.items() if count},
        )
        self.steps.append(step)
        return step

    def keep(self, rows: np.ndarray) -> None:
        """Drop what is not in bool [n]."""
        self.kept &= rows

    def keep_items(self, items: np.ndarray) -> None:
        """Drop interactions with items that are not in bool [items]."""
        self.kept &= items[self.items]

    def core(self, k: int) -> None:
        """Keep the k-core of what is left."""
        left = np.flatnonzero(self.kept)
        inside = k_core(self.users[left], self.items[left], k=k)
        self.kept[left[~inside]] = False


def _distinct(values: np.ndarray, n: int) -> int:
    seen = np.zeros(n, dtype=bool)
    seen[values] = True
    return int(seen.sum())


def load_interactions(done: Parsed, source: Source) -> Interactions:
    """Return all interactions as numbers; rows without user, item or time are counted and left out.

    Args:
        done: What :func:`illmrec.data.sources.parsing.parse` left.
        source: Whose ids they are: what differs in case alone, or after ``item_prefix``, may be one item.
    """
    columns: dict[str, np.ndarray] = {}
    ids: dict[str, pa.Array] = {}
    present = np.ones(done.rows, dtype=bool)
    lacking: dict[str, int] = {}
    for name in ("user_id", "item_id"):
        codes, ids[name] = _codes(done, name)
        lacking[f"without {name}"] = int((codes < 0).sum())
        present &= codes >= 0
        columns[name] = codes
    times = pa.chunked_array([table["timestamp"].combine_chunks() for table in batches(done, ["timestamp"])])
    missing = times.is_null().to_numpy(zero_copy_only=False)
    lacking["without timestamp"] = int(missing.sum())
    present &= ~missing
    moments = pc.fill_null(times, 0).to_numpy()
    merged = _merged(ids["item_id"], source)
    found = Interactions(
        users=columns["user_id"][present],
        items=merged.codes[columns["item_id"][present]],
        times=moments[present],
        user_ids=ids["user_id"],
        item_ids=merged.ids,
        kept=np.ones(int(present.sum()), dtype=bool),
    )
    found.record("parse", **{"item ids that differ in case alone": merged.differ, **lacking, **done.counts})
    found.steps[-1].dropped = done.rows - int(present.sum())
    return found


def _codes(done: Parsed, name: str) -> tuple[np.ndarray, pa.Array]:
    """Return int32 [rows] places of ids, -1 where there is none, and the ids; strings are read part by part."""
    chunks = [
        chunk
        for path in done.paths
        for chunk in pq.read_table(path, columns=[name], read_dictionary=[name])[name].chunks
    ]
    kind = pa.dictionary(pa.int32(), pa.string())
    unified = pa.chunked_array(chunks, type=kind).unify_dictionaries()
    if not unified.num_chunks:
        return np.zeros(0, dtype=np.int32), pa.array([], pa.string())
    indices = [pc.fill_null(chunk.indices, -1).to_numpy() for chunk in unified.chunks]
    return np.concatenate(indices).astype(np.int32), unified.chunk(0).dictionary


@dataclass(kw_only=True)
class _Merged:
    codes: np.ndarray
    ids: pa.Array
    differ: int


def _merged(ids: pa.Array, source: Source) -> _Merged:
    """Return which ids stand for one item: int32 [ids], and how many of them differ from another in case alone."""
    names = item_names(ids, source)
    codes, unique = pd.factorize(np.asarray(names.to_numpy(zero_copy_only=False), dtype=object))
    folded = pc.count_distinct(pc.utf8_upper(ids)).as_py()
    return _Merged(
        codes=codes.astype(np.int32), ids=pa.array(unique, pa.string()), differ=len(ids) - int(folded)
    )


def item_names(ids: Any, source: Source) -> Any:
    """Return items' ids as they are compared: in one case, and no longer than what tells items apart."""
    if source.id_case == "upper":
        ids = pc.utf8_upper(ids)
    if source.item_prefix is not None:
        ids = pc.utf8_slice_codeunits(ids, 0, source.item_prefix)
    return ids


def drop_repeats(found: Interactions, repeats: Repeats) -> None:
    """Keep one of the rows that agree in user, item and time; with ``first``, one of those that agree in user and item.

    The one that stays is the first in time, and of these the first in the file.
    """
    left = np.flatnonzero(found.kept)
    pair = found.users[left].astype(np.int64) * max(len(found.item_ids), 1) + found.items[left]
    times = found.times[left]
    order = np.lexsort((times, pair))
    same = pair[order][1:] == pair[order][:-1]
    if repeats == "keep":
        same &= times[order][1:] == times[order][:-1]
    found.kept[left[order[1:][same]]] = False


def items_with(done: Parsed, source: Source, item_ids: pa.Array) -> dict[str, np.ndarray]:
    """Return which items have what, by rule: bool [items].

    Args:
        done: The items that were read. Of several rows of an item the first counts.
        source: Whose ids they are.
        item_ids: The items with interactions.
    """
    has = {
        rule: np.zeros(len(item_ids), dtype=bool) for rule in (UNKNOWN, "title", "image-url", "description")
    }
    for table in batches(done, ["item_id", "title", "description", "image_url"]):
        places = pc.index_in(item_names(table["item_id"], source), value_set=item_ids)
        known = places.is_valid().to_numpy(zero_copy_only=False)
        rows = pc.fill_null(places, 0).to_numpy()[known]
        # Within the part as well the first row counts.
        _, first = np.unique(rows, return_index=True)
        new = first[~has[UNKNOWN][rows[first]]]
        held = {
            "title": pc.not_equal(pc.utf8_trim_whitespace(table["title"]), ""),
            "description": pc.not_equal(pc.utf8_trim_whitespace(table["description"]), ""),
            "image-url": table["image_url"].is_valid(),
        }
        for rule, values in held.items():
            has[rule][rows[new]] = values.to_numpy(zero_copy_only=False)[known][new]
        has[UNKNOWN][rows[new]] = True
    return has


def apply_rules(found: Interactions, has: dict[str, np.ndarray], require: Sequence[str]) -> None:
    """Drop the interactions with items that break a rule, rule by rule, and count each."""
    for rule in (UNKNOWN, *(rule for rule in ("title", "image-url", "description") if rule in require)):
        items = np.unique(found.items[found.kept])
        broken = int((~has[rule][items]).sum())
        found.keep_items(has[rule])
        found.record(f"filter: {rule}", **{"items that break the rule": broken})


def picture_names(done: Parsed, source: Source, wanted: pa.Array) -> dict[str, tuple[str, ...]]:
    """Return the names that the picture of each item may have: those of all its rows, in the order of the file."""
    found: dict[str, list[str]] = {item_id: [] for item_id in wanted.to_pylist()}
    for table in batches(done, ["item_id", "picture_name"]):
        names = item_names(table["item_id"], source)
        inside = pc.is_in(names, value_set=wanted)
        rows = zip(
            names.filter(inside).to_pylist(), table["picture_name"].filter(inside).to_pylist(), strict=True
        )
        for item_id, name in rows:
            found[item_id].append(name)
    return {item_id: tuple(names) for item_id, names in found.items()}


def texts_of(done: Parsed, source: Source, wanted: pa.Array) -> pd.DataFrame:
    """Return the rows of some items, in the order of ``wanted``; of several rows of an item the first.

    Raises:
        InputError: If one has no row.
    """
    pieces = []
    columns = [
        "item_id",
        "title",
        "brand",
        "category",
        "description",
        "image_url",
        "low_image_url",
    ]
    for table in batches(done, columns):
        names = item_names(table["item_id"], source)
        inside = pc.is_in(names, value_set=wanted)
        pieces.append(table.set_column(0, "item_id", names).filter(inside))
    rows = pa.concat_tables(pieces).to_pandas().drop_duplicates("item_id").set_index("item_id")
    missing = len(wanted) - len(rows)
    if missing:
        raise InputError(f"{source.name}: {missing} items have no row in the file of items; parse it again")
    return rows.loc[wanted.to_pylist()].reset_index()
