"""Tables 3 and 10 of the paper: accuracy and cost of training by strategy; no torch here.

The names of the strategies are those of ``illmrec.training.TrainingOptions``; :data:`PAPER` says which rows of the
paper they are. What Table 10 calls "End-to-End", RISA and RERI together around a frozen LLM, is ``frozen`` here;
``end-to-end`` trains the whole LLM as well, which the paper leaves out for its cost (D.2). ``cached`` approximates
``frozen`` by stored states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import (
    CANDIDATES,
    IDENTITY,
    METRIC_COLUMNS,
    by_method,
    comparable,
    identity,
    llm_cells,
    stored_metrics,
    without_options,
)
from bench.frames.variants import beside, variant_cells
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="training_strategy",
    paper="Tables 3, 10",
    question="frozen LLM, LoRA, end to end, two stages",
    place=140,
)

KIND = "training-strategy"
FROZEN = "frozen"
STRATEGIES = (FROZEN, "lora", "embeddings", "end-to-end", "two-stage", "cached")

PAPER: dict[str, dict[str, str]] = {
    FROZEN: {"table3": "LLM frozen", "table10": "End-to-End"},
    "lora": {"table3": "LoRA"},
    "embeddings": {},
    "end-to-end": {},
    "two-stage": {"table10": "Stage1+Stage2"},
    "cached": {},
}
"""Per strategy its rows in ``reports/paper``: file and value of the column ``strategy``."""

COLUMNS = (
    *IDENTITY, "method", "strategy", "seed", "candidates", "users", "trainable_parameters", "training_seconds",
    "targets", "targets_per_second", *METRIC_COLUMNS,
)  # fmt: skip

STRATEGY_OPTIONS = ("strategy", "lora_rank", "lora_alpha", "llm_learning_rate", "cached", "patience")
"""Training options in which strategies differ."""


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, strategy, seed and kind of candidates.

    Args:
        records: Cells, of any experiment; those of the strategies, and of their methods as they are trained
            elsewhere, are picked.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``: trainable_parameters counts adaptors, ``[REC]`` and projectors, and what is trained in the LLM;
        training_seconds are those of the optimiser steps, validation left out (``cached``: of warm-up, states and
        projectors, their validation included); targets are the items that losses asked
        for. Of a strategy's cells with other options of its own, such as LoRA's rank, the newest is taken. Methods
        with no strategy but ``frozen`` are left out.
    """
    rows = [row for record, strategy in by_strategy(records) for row in _rows(record, strategy)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    place = table["strategy"].map({name: number for number, name in enumerate(STRATEGIES)})
    table = table.assign(place=place)
    order = [*IDENTITY, "method", "place", "seed", "candidates"]
    return table.sort_values(order, kind="stable", ignore_index=True).drop(columns="place")


def by_strategy(records: Sequence[Record]) -> list[tuple[Record, str]]:
    """Return the cells that are compared, method by method, and the strategy of each: one a method, strategy and seed.

    Args:
        records: Cells, of any experiment.
    """
    changed = {
        key: (without_options(record, STRATEGY_OPTIONS), variant["strategy"])
        for key, (record, variant) in variant_cells(records, KIND).items()
    }
    swept = [record for record, _ in changed.values()]

    def point(record: Record) -> str:
        return changed[record.key][1] if record.key in changed else FROZEN

    found: list[tuple[Record, str]] = []
    for own in by_method((*llm_cells(records), *swept)).values():
        trained = [record for record in own if record.key in changed]
        chosen = comparable(beside(own, trained), ignored=(), point=point)
        tuned = [record for record in chosen if record.key in changed]
        found += [(record, point(record)) for record in beside(chosen, tuned)]
    return found


def _rows(record: Record, strategy: str) -> list[dict[str, Any]]:
    training = record.results["training"]
    labels = {
        **identity(record),
        "method": record.method,
        "strategy": strategy,
        "seed": record.seed,
        "users": record.results["users"],
        "trainable_parameters": training["parameters"],
        "training_seconds": training["seconds"],
        "targets": training["targets"],
        "targets_per_second": training["targets"] / training["seconds"],
    }
    return [
        {**labels, "candidates": candidates, **stored_metrics(record.results[candidates])}
        for candidates in CANDIDATES
    ]
