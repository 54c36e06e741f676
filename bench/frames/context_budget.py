"""Figure 4 of the paper as a table: accuracy, what is dropped and latency, by context budget; no torch here."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence

import pandas as pd

from bench.frames.costs import newest_costs
from bench.frames.experiment import Experiment
from bench.frames.selection import (
    CANDIDATES,
    IDENTITY,
    METHOD_OPTIONS,
    METRIC_COLUMNS,
    comparable,
    identity,
    latest,
    llm_cells,
    scores_in_full,
    stored_metrics,
)
from bench.store.cell import Record
from bench.store.store import Store

EXPERIMENT = "context_budget"

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="Figure 4",
    question="accuracy and latency within a budget of tokens, and what is dropped",
    place=70,
    # Longer histories than elsewhere, so that budgets drop something.
    arguments={"smoke": ("--contexts", "256,1024", "--repeats", "1"), "small": ("--history-length", "50")},
)

"""The cells that measured latency; accuracy is in the cells that all experiments share."""

COSTS = ("latency_ms_median", "latency_ms_low", "latency_ms_high", "latency_ms_p95_users", "session")

COLUMNS = (
    *IDENTITY, "method", "seed", "context", "candidates", "users",
    "prompt_tokens", "dropped_items", "dropped_tokens", *COSTS, *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, seed, context budget and kind of candidates.

    Args:
        records: Cells, of any experiment; accuracy cells that were evaluated within a budget are picked, with the
            latency of the same data and LLM.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``: context in tokens; prompt_tokens, dropped_items and dropped_tokens are means over users.
        Latency (ms a user) is that of some users with histories of full length; missing where it was not measured.
    """
    limited = [
        record
        for record in llm_cells(records, limits=("context",))
        if "context" in record.config["evaluation"] and scores_in_full(record)
    ]
    places: dict[str, list[Record]] = defaultdict(list)
    for record in latest(records, EXPERIMENT):
        places[_place(record)].append(record)
    costs = {
        place: newest_costs(measured, COSTS, lambda record: int(record.config["context"]))
        for place, measured in places.items()
    }
    rows = []
    for record in comparable(limited, ignored=METHOD_OPTIONS, point=budget):
        prompt = record.results["prompt"]
        labels = {
            **identity(record),
            "method": record.method,
            "seed": record.seed,
            "context": budget(record),
            "users": record.results["users"],
            "prompt_tokens": prompt["tokens"],
            "dropped_items": prompt["dropped_items"],
            "dropped_tokens": prompt["dropped_tokens"],
            **costs.get(_place(record), {}).get((record.method, budget(record)), {}),
        }
        rows += [
            {**labels, "candidates": candidates, **stored_metrics(record.results[candidates])}
            for candidates in CANDIDATES
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def budget(record: Record) -> int:
    """Return the context budget that a cell was evaluated under, in tokens."""
    return int(record.config["evaluation"]["context"])


def _place(record: Record) -> str:
    """Return what latency and accuracy have to share besides method and budget, as text."""
    config = record.config
    # Where no history is that long, latency is that of the longest there are.
    items = config.get("max_items", config.get("history_length"))
    shared = [config.get("llm"), config.get("instruction"), items]
    return json.dumps([config["dataset"]["fingerprint"], *shared], sort_keys=True)
