"""Figure 1(a) of the paper as a table: how many tokens items and prompts take; no torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import latest
from bench.store.cell import Record
from bench.store.store import Store

TOKEN_COST = "token_cost"

ABOUT = Experiment(
    name=TOKEN_COST,
    paper="Figure 1(a)",
    question="how many tokens items and prompts take",
    place=10,
)

UNITS = ("item", "prompt")

STATISTICS = ("mean", "p5", "p25", "median", "p75", "p95", "max")

COLUMNS = (
    "dataset", "fingerprint", "llm", "method", "history_length", "context", "unit", "count", *STATISTICS,
)  # fmt: skip


def distribution(tokens: npt.ArrayLike) -> dict[str, float]:
    """Return ``STATISTICS`` of numbers of tokens, int [n] with n >= 1; percentiles are interpolated linearly."""
    array = np.asarray(tokens, dtype=np.float64)
    percentiles = np.percentile(array, [5, 25, 50, 75, 95])
    values = [array.mean(), *percentiles, array.max()]
    return {name: float(value) for name, value in zip(STATISTICS, values, strict=True)}


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, length of history, context and unit: an item of the catalogue, a user's prompt.

    Args:
        records: Cells, of any experiment; those of ``token_cost`` are picked.
        store: The store that holds them.

    Returns:
        ``COLUMNS``: count is the number of items or users; context, in tokens, is missing where there was no budget.
    """
    rows: list[Mapping[str, Any]] = []
    for record in latest(records, TOKEN_COST):
        config = record.config
        labels = {
            "dataset": config["dataset"]["name"],
            "fingerprint": config["dataset"]["fingerprint"],
            "llm": config["llm"],
            "method": record.method,
            "history_length": config["history_length"],
            "context": config["context"],
        }
        for unit in UNITS:
            tokens = store.read_frame(record, f"{unit}s")["tokens"]
            rows.append({**labels, "unit": unit, "count": len(tokens), **distribution(tokens)})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"context": "Int64"})
