"""Figure 6 of the paper as a table: accuracy by popularity of the test item, per feature set; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.groups import TARGET_POPULARITY, group_rows, with_targets
from bench.frames.selection import IDENTITY, METRIC_COLUMNS, latest
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="item_popularity",
    paper="Figure 6",
    question="which features recommend cold items, and which warm ones",
    place=90,
)

COLUMNS = (
    *IDENTITY, "method", "features", "seed", "group", "items", "lowest", "highest", "candidates", "users",
    *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, feature set, seed, group of items and kind of candidates.

    Args:
        records: Cells, of any experiment; accuracy cells of LLM methods with RISA are picked, with the popularity of
            their targets.
        store: The store that holds them.

    Returns:
        ``COLUMNS``: group 1 holds the coldest fifth of the catalogue's items, group 5 the warmest; items is their
        number, lowest and highest how often they occur in training; users are those whose test item is one.
    """
    groups: dict[str, pd.DataFrame] = {}
    for record in latest(records, TARGET_POPULARITY):
        groups[record.config["dataset"]["fingerprint"]] = store.read_frame(record, "groups")
    rows: list[dict[str, Any]] = []
    for name, record, users in with_targets(records, store):
        rows += group_rows(name, record, users, users["item_group"])
    if not rows:
        return pd.DataFrame(columns=list(COLUMNS))
    described = pd.concat([table.assign(fingerprint=name) for name, table in groups.items()])
    return pd.DataFrame(rows).merge(described, on=["fingerprint", "group"], how="left")[list(COLUMNS)]
