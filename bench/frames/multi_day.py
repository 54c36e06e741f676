"""Accuracy by whether the target came on a later day than the item before it, or on the same; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.frames.selection import CANDIDATES
from bench.protocol.metrics import by_user
from bench.store.cell import Record
from bench.store.store import Store

TARGETS = ("any day", "later day", "same day")
"""When the target came, by the calendar (UTC), seen from the item before it."""

COLUMNS = ("dataset", "method", "seed", "target", "candidates", "users", "ndcg@10")


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per accuracy cell, group of users and kind of candidates.

    Cells whose ranks say nothing of days, or whose users are all of one kind, are left out.

    Args:
        records: Accuracy cells.
        store: The store that holds their ranks.

    Returns:
        ``COLUMNS``: target is of ``TARGETS``, ``any day`` for all users; ndcg@10 is the mean over users.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        later = later_users(record, store)
        if later is None:
            continue
        ranks = store.read_frame(record, "ranks")
        labels = {"dataset": record.config["dataset"]["name"], "method": record.method, "seed": record.seed}
        for candidates in CANDIDATES:
            values = by_user(ranks, candidates)
            rows += [
                {
                    **labels,
                    "target": target,
                    "candidates": candidates,
                    "users": int(of.sum()),
                    "ndcg@10": float(values[of].mean()),
                }
                for target, of in groups(later).items()
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def later_users(record: Record, store: Store) -> pd.Series | None:
    """Return of each user of a cell whether the target came on a later day than the item before it.

    Args:
        record: An accuracy cell.
        store: The store that holds its ranks.

    Returns:
        Bool, indexed by user_id; None where the cell has no ranks, these say nothing of days, or all users are of one
        kind.
    """
    if not (record.folder / "ranks.parquet").is_file():
        return None
    ranks = store.read_frame(record, "ranks")
    if "days" not in ranks:
        return None
    # Several targets of a user are all of one day.
    later = ranks.drop_duplicates("user_id").set_index("user_id")["days"] > 0
    return None if later.all() or not later.any() else later


def groups(later: pd.Series) -> dict[str, pd.Series]:
    """Return the users of each of ``TARGETS``, bool, in the index of what :func:`later_users` returns."""
    return dict(zip(TARGETS, (later | True, later, ~later), strict=True))
