"""Figures 1(a) and 3 of the paper as a table: what a representation costs at each length of history; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames.costs import USER_COSTS, user_costs
from bench.frames.experiment import Experiment
from bench.frames.pricing import NO_PRICE, Pricing
from bench.store.cell import Record

VERSION = 4

ABOUT = Experiment(
    name="efficiency",
    paper="Figures 1(a), 3",
    question="tokens, latency, memory and FLOPs of each representation",
    place=20,
    arguments={"smoke": ("--repeats", "1")},
)

LENGTHS, SMOKE_LENGTHS = (2, 5, 10, 15, 20), (2, 10, 20)
"""Items of history that are timed, of which the preset smoke takes some."""

COLUMNS = (
    "method", "history_length", "users", "tokens_per_item", "prompt_tokens", "batch_users", "repeats",
    "latency_ms_median", "latency_ms_low", "latency_ms_high", "latency_ms_p95_users", "latency_ms_p95_repeats",
    "users_per_second", "weights_mb", "features_mb", "activations_mb", "peak_memory_mb", "model_gflops",
    "utilisation", "session", *USER_COSTS,
)  # fmt: skip


def frame(records: Sequence[Record], pricing: Pricing = NO_PRICE) -> pd.DataFrame:
    """Return one row per cell: ``COLUMNS``, latencies in ms, memory in MB, FLOPs in units of 10^9, energy in Wh.

    Args:
        records: Cells of the experiment.
        pricing: What an hour of the machine costs.
    """
    rows = [record.results | user_costs(record, pricing) for record in records]
    return pd.DataFrame(rows, columns=list(COLUMNS))
