"""Appendix E.6 of the paper as a table: users whose test item is not in training, per feature set; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.groups import group_rows, with_targets
from bench.frames.selection import IDENTITY, METRIC_COLUMNS
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="unseen_items",
    paper="Appendix E.6",
    question="which features recommend items that training has never seen",
    # First: on generated data it uses a catalogue of its own, and the report leads with the newest data set.
    place=0,
    arguments={"smoke": ("--min-users", "5")},
    # After a 5-core no generated item is rare enough.
    toyshop={
        "smoke": ("--min-interactions", "1", "--items", "400", "--users", "60"),
        "small": ("--min-interactions", "1", "--items", "1600"),
        "paper": ("--min-interactions", "1", "--items", "1600"),
    },
)

COLUMNS = (*IDENTITY, "method", "features", "seed", "group", "candidates", "users", *METRIC_COLUMNS)


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, feature set, seed, group (seen, unseen) and kind of candidates.

    Args:
        records: Cells, of any experiment; accuracy cells of LLM methods with RISA are picked, with the popularity of
            their targets.
        store: The store that holds them.

    Returns:
        ``COLUMNS``: group is ``unseen`` for users whose test item has no interaction in training, else ``seen``. A
        group without users has no row.
    """
    rows: list[dict[str, Any]] = []
    for name, record, users in with_targets(records, store):
        unseen = users["target_frequency"].to_numpy() == 0
        rows += group_rows(name, record, users, np.where(unseen, "unseen", "seen"))
    return pd.DataFrame(rows, columns=list(COLUMNS))
