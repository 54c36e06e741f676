"""Table 11 of the paper as a grid: accuracy and cost of a method by LLM and vision encoder; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.frames.costs import cost_values
from bench.frames.experiment import Experiment
from bench.frames.selection import (
    CANDIDATES,
    IDENTITY,
    METRIC_COLUMNS,
    by_method,
    comparable,
    identity,
    latest,
    llm_cells,
    scores_in_full,
    stored_metrics,
)
from bench.frames.variants import variant_cells
from bench.store.cell import Record
from bench.store.store import Store

EXPERIMENT = "backbones"

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="Table 11",
    question="other LLMs and vision encoders",
    place=170,
)

KIND = "backbones"

COSTS = (
    "llm_parameters", "vision_width", "tokens_per_item", "prompt_tokens", "latency_ms_median", "latency_ms_low",
    "latency_ms_high", "latency_ms_p95_users", "latency_ms_p95_repeats", "users_per_second", "peak_memory_mb",
    "model_gflops", "session",
)  # fmt: skip

COLUMNS = (
    *IDENTITY, "method", "vision", "seed", "candidates", "users", "trainable_parameters", "training_seconds", *COSTS,
    *METRIC_COLUMNS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, LLM, vision encoder, seed and kind of candidates.

    Args:
        records: Cells, of any experiment; those of the grid, and of its methods as they are trained elsewhere, are
            picked.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``: llm is name and layers, vision the image encoder, llm_parameters the LLM's with embeddings and
        LM head, trainable_parameters those around it, vision_width that of an image feature. The other costs are
        measured as in bench.efficiency, on an untrained model; of a place in the grid that was measured on several
        machines the newest cost is taken. Cells whose cost this experiment never measured are no part of a grid.
    """
    costs = {_place(record): record for record in sorted(latest(records, EXPERIMENT), key=_created)}
    accuracy = [record for record, _ in variant_cells(records, KIND).values()]
    accuracy += llm_cells(records)
    grid = {
        record.key: record
        for record in accuracy
        if scores_in_full(record) and "encoders" in record.config and _place(record) in costs
    }
    rows: list[dict[str, Any]] = []
    for own in by_method(grid.values()).values():
        chosen = comparable(
            [_without_backbone(record) for record in own],
            ignored=(),
            point=lambda record: _place(grid[record.key]),
        )
        found = [grid[record.key] for record in chosen]
        rows += [row for record in found for row in _rows(record, costs[_place(record)])]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = ["dataset", "fingerprint", "method", "llm", "vision", "seed", "candidates"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def _created(record: Record) -> str:
    return record.created


def _place(record: Record) -> tuple[str, ...]:
    """Return data set, LLM, method and vision encoder of a cell."""
    return (*identity(record).values(), record.method, record.config["encoders"]["image"])


def _without_backbone(record: Record) -> Record:
    """Return a cell as if all LLMs and vision encoders were the same."""
    encoders = {**record.config["encoders"], "image": ""}
    return replace(record, config={**record.config, "llm": "", "encoders": encoders})


def _rows(record: Record, cost: Record) -> list[dict[str, Any]]:
    labels = {
        **identity(record),
        "method": record.method,
        "vision": record.config["encoders"]["image"],
        "seed": record.seed,
        "users": record.results["users"],
        "trainable_parameters": record.results["training"]["parameters"],
        "training_seconds": record.results["training"]["seconds"],
        **cost_values(cost, COSTS),
    }
    return [
        {**labels, "candidates": candidates, **stored_metrics(record.results[candidates])}
        for candidates in CANDIDATES
    ]
