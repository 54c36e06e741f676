"""Table 1 of the paper as a table: the methods side by side, one row per seed; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import accuracy_rows
from bench.protocol.metrics import METRICS
from bench.store.cell import Record

ABOUT = Experiment(
    name="comparison", paper="Table 1", question="accuracy of all methods under one protocol", place=30
)

COLUMNS = ("dataset", "method", "seed", "candidates", "users", *METRICS)
ESTIMATED_COLUMNS = ("dataset", "method", "seed", "users", "metric", "sampled", "estimated", "full")


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per accuracy cell and kind of candidates.

    Args:
        records: Accuracy cells of one run.

    Returns:
        ``COLUMNS``.
    """
    rows: list[dict[str, Any]] = []
    for record in records:
        labels = {"dataset": record.config["dataset"]["name"], "method": record.method, "seed": record.seed}
        rows += accuracy_rows(record, {**labels, "users": record.results["users"]})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def estimated_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row per accuracy cell and metric: what samples say of the whole catalogue, and what is true.

    Args:
        records: Accuracy cells; those that were stored before metrics were estimated are left out.

    Returns:
        ``ESTIMATED_COLUMNS``: ``sampled`` is the metric among sampled candidates, ``full`` that in the whole catalogue
        and ``estimated`` what the ranks among sampled candidates alone say of it (:mod:`bench.protocol.unbiased`).
    """
    rows = [
        {
            "dataset": record.config["dataset"]["name"],
            "method": record.method,
            "seed": record.seed,
            "users": record.results["users"],
            "metric": metric,
            **{kind: record.results[kind][metric] for kind in ESTIMATED_COLUMNS[5:]},
        }
        for record in records
        if "estimated" in record.results
        for metric in METRICS
    ]
    return pd.DataFrame(rows, columns=list(ESTIMATED_COLUMNS))
