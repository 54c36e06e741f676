"""Figure 11 of the paper as a table: accuracy by length of the user's sequence, per feature set; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.groups import equal_groups, feature_set_cells, group_rows
from bench.frames.selection import IDENTITY, METRIC_COLUMNS
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="user_activity",
    paper="Figure 11",
    question="which features suit users with short histories, and with long ones",
    place=100,
)

COLUMNS = (
    *IDENTITY, "method", "features", "seed", "group", "shortest", "longest", "candidates", "users", *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, feature set, seed, group of users and kind of candidates.

    Args:
        records: Cells, of any experiment; accuracy cells of LLM methods with RISA are picked.
        store: The store that holds them.

    Returns:
        ``COLUMNS``: group 1 holds the fifth of the evaluated users with the shortest histories, group 5 that with
        the longest; shortest and longest are lengths of their histories, before a method cuts them.
    """
    rows: list[dict[str, Any]] = []
    for name, record in feature_set_cells(records):
        ranks = store.read_frame(record, "ranks")
        users = ranks.drop_duplicates("user_id").set_index("user_id")["history_length"]
        groups = pd.Series(equal_groups(users), index=users.index)
        lengths = users.groupby(groups)
        shortest, longest = lengths.min(), lengths.max()
        for row in group_rows(name, record, ranks, ranks["user_id"].map(groups)):
            group = row["group"]
            rows.append({**row, "shortest": shortest[group], "longest": longest[group]})
    return pd.DataFrame(rows, columns=list(COLUMNS))
