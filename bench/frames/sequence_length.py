"""Figure 3 of the paper with accuracy beside it, by how much of the history is read; no torch here."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
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
    rank_metrics,
    scores_in_full,
)
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="sequence_length",
    paper="Figure 3",
    question="what reading more of the history costs and brings",
    place=60,
    # Of the preset smoke, bench.efficiency has measured the same LLM.
    arguments={"smoke": ("--repeats", "1"), "small": ("--history-length", "20")},
)

COSTS = (
    "prompt_tokens",
    "latency_ms_median",
    "latency_ms_low",
    "latency_ms_high",
    "latency_ms_p95_users",
    "session",
)

COLUMNS = (
    *IDENTITY, "method", "seed", "history_length", "candidates", "users", *COSTS, *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, seed, length of history that is read and kind of candidates.

    Every length is evaluated on the same users: those whose history is at least as long as the longest of them.

    Args:
        records: Cells, of any experiment; accuracy cells whose history was limited are picked, with those of the
            same models at the length that they were trained on, and efficiency cells of the same data and LLM.
        store: The store that holds them.

    Returns:
        ``COLUMNS``: prompt_tokens and latency (ms a user) are those of the efficiency cell of method and length, on
        its own users; missing where there is none.
    """
    limited = [record for record in llm_cells(records, limits=("history_length",)) if scores_in_full(record)]
    sweeps: dict[str, list[Record]] = defaultdict(list)
    for record in comparable(limited, ignored=METHOD_OPTIONS, point=length_read):
        sweeps[_place(record)].append(record)
    rows: list[dict[str, Any]] = []
    for place, members in sweeps.items():
        longest = max(map(length_read, members))
        if longest == min(map(length_read, members)):
            continue  # no sweep: what other experiments left
        first = members[0].config
        costs = newest_costs(
            [
                record
                for record in latest(records, "efficiency")
                if _place(record) == place
                and all(record.config.get(name) == first.get(name) for name in ("context", "instruction"))
            ],
            COSTS,
            lambda record: int(record.config["history_length"]),
        )
        for record in members:
            ranks = store.read_frame(record, "ranks")
            users = ranks[ranks["history_length"] >= longest]
            if users.empty:
                continue
            length = length_read(record)
            labels = {**identity(record), "method": record.method, "seed": record.seed}
            labels |= {
                "history_length": length,
                "users": users["user_id"].nunique(),
                **costs.get((record.method, length), {}),
            }
            for candidates in CANDIDATES:
                accuracy = rank_metrics(users, candidates)
                rows.append({**labels, "candidates": candidates, **accuracy})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def length_read(record: Record) -> int:
    """Return how many items of history an accuracy cell was evaluated on."""
    return int(record.config["evaluation"].get("history_length", record.config["history_length"]))


def crossing(costs: pd.Series, others: pd.Series) -> float | None:
    """Return the length from which on something costs less than something else, or None.

    Args:
        costs: Cost by length, ascending; lengths that only one of the two has are left out.
        others: What it is compared with.

    Returns:
        The length at which the lines between the points cross for the last time; the shortest length if it costs
        less everywhere; None if it does not cost less at the longest length, or no length has both.
    """
    both = pd.DataFrame({"cost": costs, "other": others}).dropna().sort_index()
    lengths = both.index.to_numpy(dtype=np.float64)
    saved = (both["other"] - both["cost"]).to_numpy(dtype=np.float64)
    if len(saved) == 0 or saved[-1] <= 0:
        return None
    dearer = np.flatnonzero(saved <= 0)
    if len(dearer) == 0:
        return float(lengths[0])
    last = int(dearer[-1])
    share = -saved[last] / (saved[last + 1] - saved[last])
    return float(lengths[last] + share * (lengths[last + 1] - lengths[last]))


def _place(record: Record) -> str:
    """Return data set and LLM as text; a cell without an LLM has a place of its own."""
    return json.dumps([record.config["dataset"]["fingerprint"], record.config.get("llm")], sort_keys=True)
