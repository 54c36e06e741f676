"""Table 2 of the paper as a table: rows of the ablation, and how they differ from its last one; no torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import accuracy_rows, ndcg_by_user
from bench.protocol.statistics import holm, paired_interval
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="ablation", paper="Table 2", question="what RISA and each feature type are worth", place=40
)

ROWS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "a": (False, ("image",)),
    "b": (True, ("image",)),
    "c": (True, ("cf",)),
    "d": (True, ("image", "cf")),
    "e": (True, ("image", "cf", "text")),
}
"""Per row of Table 2: is RISA trained, and which feature types score items."""

METRICS = ("hit@5", "ndcg@5", "hit@10", "ndcg@10")

COLUMNS = (
    "dataset", "method", "row", "risa", "image", "cf", "text", "seed", "candidates", *METRICS,
)  # fmt: skip


def frame(records: Iterable[tuple[str, Record]]) -> pd.DataFrame:
    """Return one row per method, row of the table, seed and kind of candidates.

    Args:
        records: Row of the table and accuracy cell.

    Returns:
        ``COLUMNS``, by seed, sampled candidates first, then by row.
    """
    found: list[dict[str, Any]] = []
    for row, record in records:
        risa, features = ROWS[row]
        ticks = {"risa": risa, **{feature: feature in features for feature in ROWS["e"][1]}}
        dataset = record.config["dataset"]["name"]
        labels = {"dataset": dataset, "method": record.method, "row": row, **ticks, "seed": record.seed}
        found += accuracy_rows(record, labels)
    table = pd.DataFrame(found, columns=list(COLUMNS))
    return table.sort_values(["seed", "candidates", "row"], ascending=[True, False, True], kind="stable")


def significance(rows: Mapping[str, Sequence[Record]], store: Store) -> dict[tuple[str, str], float]:
    """Return the p value of each row against the last one, by row and kind of candidates.

    Args:
        rows: Accuracy cells by row of the table, one per seed.
        store: The store that holds their ranks.

    Returns:
        Two-sided p of the difference of NDCG@10 over the seeds and users that both rows have, of each kind of
        candidates adjusted for the number of rows (Holm). Pairs that no seed has in common have no value.
    """
    if len(rows) < 2:
        return {}
    found: dict[tuple[str, str], float] = {}
    for candidates in ("sampled", "full"):
        values = {name: ndcg_by_user(records, store, candidates) for name, records in rows.items()}
        *others, last = sorted(values)
        p_values = {}
        for name in others:
            both = pd.concat({"first": values[name], "second": values[last]}, axis="columns", join="inner")
            if not both.empty:
                p_values[name] = paired_interval(both).p_value
        adjusted = zip(p_values, holm(list(p_values.values())), strict=True)
        found |= {(name, candidates): p for name, p in adjusted}
    return found
