"""Accuracy by groups of users, for each feature set of an LLM method; no torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.frames.selection import (
    CANDIDATES,
    FEATURE_OPTIONS,
    by_method,
    comparable,
    identity,
    latest,
    llm_cells,
    rank_metrics,
)
from bench.store.cell import Record
from bench.store.store import Store

TARGET_POPULARITY = "target_popularity"

GROUPS = 5

FEATURE_SETS: dict[str, tuple[str, ...]] = {
    "image": ("image",),
    "cf": ("cf",),
    "image+cf": ("image", "cf"),
    "image+cf+text": ("image", "cf", "text"),
}
"""Feature types that score items in Figures 6 and 11: rows (b) to (e) of Table 2."""


def equal_groups(values: npt.ArrayLike, *, groups: int = GROUPS) -> np.ndarray:
    """Sort by value and cut into groups of equal size; their sizes differ by one at most.

    Args:
        values: Number [n]. Equal values keep their order, so that a boundary may fall between them.
        groups: How many groups.

    Returns:
        Int64 [n], the group of each value: 1 holds the smallest, ``groups`` the largest.
    """
    array = np.asarray(values)
    members = np.empty(len(array), dtype=np.int64)
    members[np.argsort(array, kind="stable")] = 1 + np.arange(len(array)) * groups // max(1, len(array))
    return members


def feature_set_cells(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Return the accuracy cells of LLM methods with a feature set of ``FEATURE_SETS``, each with its set's name.

    They come in the order of :func:`by_method`, then of the feature sets and the seeds.
    """
    names = {features: name for name, features in FEATURE_SETS.items()}
    order = list(FEATURE_SETS)
    found = [record for record in llm_cells(records) if tuple(record.config["features"]) in names]
    named: list[tuple[str, Record]] = []
    for own in by_method(found).values():
        chosen = comparable(own, ignored=FEATURE_OPTIONS, point=lambda r: tuple(r.config["features"]))
        pairs = [(names[tuple(record.config["features"])], record) for record in chosen]
        named += sorted(pairs, key=lambda pair: (order.index(pair[0]), pair[1].seed))
    return named


def with_targets(records: Sequence[Record], store: Store) -> Iterator[tuple[str, Record, pd.DataFrame]]:
    """Yield the cells of ``feature_set_cells`` whose targets' popularity is stored, with one row per target.

    Yields:
        Name of the feature set, cell, and its ranks with target_frequency (int, interactions in training) and
        item_group (int, 1 to 5) of each test item.
    """
    popularity: dict[str, pd.DataFrame] = {}
    for record in latest(records, TARGET_POPULARITY):
        popularity[record.config["dataset"]["fingerprint"]] = store.read_frame(record, "targets")
    for name, record in feature_set_cells(records):
        targets = popularity.get(record.config["dataset"]["fingerprint"])
        if targets is not None:
            ranks = store.read_frame(record, "ranks")
            # Users have one target each, or several that are numbered.
            keys = [key for key in ("user_id", "target") if key in ranks]
            yield name, record, ranks.merge(targets, on=keys, how="left", validate="one_to_one")


def group_rows(name: str, record: Record, users: pd.DataFrame, groups: npt.ArrayLike) -> list[dict[str, Any]]:
    """Return one row per group that has users and kind of candidates, the groups in ascending order.

    Args:
        name: Name of the feature set.
        record: The accuracy cell.
        users: Its ranks, one row per target; a user is in the groups of all of its targets.
        groups: The group of each target [targets].
    """
    rows = []
    values, numbers = np.unique(np.asarray(groups), return_inverse=True)
    for number, group in enumerate(values.tolist()):
        members = users[numbers == number]
        labels = {
            **identity(record),
            "method": record.method,
            "features": name,
            "seed": record.seed,
            "group": group,
        }
        for candidates in CANDIDATES:
            accuracy = rank_metrics(members, candidates)
            count = members["user_id"].nunique()
            rows.append({**labels, "candidates": candidates, "users": count, **accuracy})
    return rows
