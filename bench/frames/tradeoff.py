"""Figure 1(b) of the paper: latency against accuracy, and which methods no other one beats in both; no torch here."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.frames.costs import USER_COSTS, cost_values, user_costs
from bench.frames.experiment import Experiment
from bench.frames.pricing import NO_PRICE, Pricing
from bench.frames.selection import (
    ACCURACY,
    CANDIDATES,
    IDENTITY,
    METHOD_OPTIONS,
    METRIC_COLUMNS,
    comparable,
    identity,
    latest,
    llm_cells,
    scores_in_full,
)
from bench.protocol.metrics import METRICS
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="tradeoff",
    paper="Figure 1(b)",
    question="latency against accuracy of each representation",
    place=50,
    # Of the preset smoke, bench.efficiency has measured the same LLM.
    arguments={"smoke": ("--repeats", "1")},
)

EFFICIENCY = "efficiency"
BOTH = "last+features"
"""Readout of the control that has the LLM's state beside features of the history."""
MINIMUM = 2
"""Methods that a trade-off needs."""

COSTS = (
    "latency_ms_median", "latency_ms_low", "latency_ms_high", "latency_ms_p95_users",
    "latency_ms_p95_repeats", "users_per_second", "tokens_per_item", "prompt_tokens",
    "peak_memory_mb", "model_gflops", "session",
)  # fmt: skip

COLUMNS = (
    *IDENTITY, "history_length", "candidates", "method", *COSTS, *USER_COSTS, "seeds", "users",
    *METRIC_COLUMNS, "on_front",
)  # fmt: skip


def frame(records: Sequence[Record], store: Store, pricing: Pricing = NO_PRICE) -> pd.DataFrame:
    """Return one row per method, length of history whose latency was measured and kind of candidates.

    Args:
        records: Cells, of any experiment; accuracy cells of LLM methods with RISA and all feature types, on the data
            as they are and evaluated as trained, are picked, and efficiency cells with the same data, LLM (layers
            included), context and place of the instruction, those of the newest cell's machine and device. Other
            methods stand beside them: those that need no LLM on the same data, those that write items with the same.
        store: The store that holds them; the numbers are all in the cells.
        pricing: What an hour of the machine costs.

    Returns:
        ``COLUMNS``: costs are those of the newest efficiency cell of method and history_length. Metrics are means
        over ``seeds`` seeds; the standard error is that of the seeds, or over users where there is one seed. users is
        the number evaluated for a seed. on_front says that no other method of the same history_length and candidates
        is at least as fast and as accurate (NDCG@10) and better in one of them. Lengths at which fewer than two
        methods have both are left out.
    """
    rows: list[dict[str, Any]] = []
    for by_method, costs in measured(records):
        for length, of_length in sorted(costs.items()):
            both = [name for name in by_method if name in of_length]
            if len(both) < MINIMUM:
                continue
            for candidates in CANDIDATES:
                places = {name: (by_method[name], of_length[name]) for name in both}
                rows += _rows(length, candidates, places, pricing)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = [*IDENTITY, "history_length", "candidates", "latency_ms_median", "method"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def measured(
    records: Sequence[Record],
) -> Iterator[tuple[dict[str, list[Record]], dict[int, dict[str, Record]]]]:
    """Yield, for each data set and LLM, the cells that :func:`frame` picks.

    Args:
        records: Cells, of any experiment.

    Yields:
        Accuracy cells by method, one per seed; and efficiency cells by length of history and method.
    """
    accuracy: dict[str, list[Record]] = defaultdict(list)
    eligible = [record for record in llm_cells(records) if scores_in_full(record)]
    for record in comparable(eligible, ignored=METHOD_OPTIONS, point=lambda r: r.method):
        accuracy[_place(record)].append(record)
    timed = latest(records, EFFICIENCY)
    for trained in accuracy.values():
        by_method: dict[str, list[Record]] = defaultdict(list)
        for record in trained:
            by_method[record.method].append(record)
        others = _others(records, beside=trained[0])
        yield {**others, **by_method}, _costs([record for record in timed if _stands(record, trained[0])])


def _others(records: Sequence[Record], *, beside: Record) -> dict[str, list[Record]]:
    """Return, by method, cells of methods that are no representations: of the newest options, those of each seed."""
    found: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in latest(records, ACCURACY):
        config = record.config
        shows_items = "representation" in config and "llm" in config
        if (shows_items and config.get("readout") != BOTH) or "variant" in config["dataset"]:
            continue
        evaluation = {name: value for name, value in config["evaluation"].items() if name != "beams"}
        if evaluation == beside.config["evaluation"] and _stands(record, beside):
            options = {name: value for name, value in config.items() if name not in ("seed", "base_seed")}
            found[record.method][json.dumps(options, sort_keys=True)].append(record)
    return {
        method: max(groups.values(), key=lambda group: max(record.created for record in group))
        for method, groups in found.items()
    }


def _stands(record: Record, beside: Record) -> bool:
    """Tell whether a cell has a method's data and, where it has an LLM, that and what is shown to it."""
    config, other = record.config, beside.config
    if config["dataset"]["fingerprint"] != other["dataset"]["fingerprint"]:
        return False
    named = ("llm", "context", *(("instruction",) if "instruction" in config else ()))
    return not config.get("llm") or all(config.get(name) == other.get(name) for name in named)


def on_front(costs: npt.ArrayLike, gains: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return the Pareto front, bool [points]: those that no other point beats.

    Args:
        costs: Float [points], lower is better.
        gains: Float [points], higher is better. A point is beaten by one that is at least as good in both and better
            in one, so that equal points stand or fall together.
    """
    cost, gain = np.asarray(costs, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    as_good = (cost[None] <= cost[:, None]) & (gain[None] >= gain[:, None])
    better = (cost[None] < cost[:, None]) | (gain[None] > gain[:, None])
    beaten: npt.NDArray[np.bool_] = np.any(as_good & better, axis=1)
    return ~beaten


def _rows(
    length: int, candidates: str, methods: Mapping[str, tuple[list[Record], Record]], pricing: Pricing
) -> list[dict[str, Any]]:
    rows = []
    for name, (trained, timed) in methods.items():
        rows.append(
            {
                **identity(trained[0]),
                "history_length": length,
                "candidates": candidates,
                "method": name,
                **cost_values(timed, COSTS),
                **user_costs(timed, pricing),
                "seeds": len(trained),
                "users": trained[-1].results["users"],
                **over_seeds([record.results[candidates] for record in trained]),
            }
        )
    front = on_front([row["latency_ms_median"] for row in rows], [row["ndcg@10"] for row in rows])
    return [{**row, "on_front": bool(stands)} for row, stands in zip(rows, front, strict=True)]


def over_seeds(results: Sequence[Mapping[str, Any]]) -> Mapping[str, float | None]:
    """Return ``METRIC_COLUMNS`` of the mean over seeds."""
    if len(results) == 1:
        errors = results[0]["stderr"]
        return {name: results[0][name] for name in METRICS} | {f"stderr_{m}": errors[m] for m in METRICS}
    values = {name: np.array([result[name] for result in results]) for name in METRICS}
    means = {name: float(array.mean()) for name, array in values.items()}
    root = math.sqrt(len(results))
    return means | {f"stderr_{name}": float(array.std(ddof=1)) / root for name, array in values.items()}


def _place(record: Record) -> str:
    """Return data set, LLM, context and place of the instruction as text: what both kinds of cells share."""
    config = record.config
    return json.dumps(
        [
            config["dataset"]["fingerprint"],
            config.get("llm"),
            config.get("context"),
            config.get("instruction"),
        ],
        sort_keys=True,
    )


def _costs(records: Sequence[Record]) -> dict[int, dict[str, Record]]:
    """Return the newest efficiency cell by length and method, from the machine and device of the newest of all."""
    ordered = sorted(records, key=lambda record: record.created)
    found: dict[int, dict[str, Record]] = defaultdict(dict)
    for record in ordered:
        if all(
            record.config.get(name) == ordered[-1].config.get(name)
            for name in ("machine", "device", "threads")
        ):
            found[int(record.config["history_length"])][record.method] = record
    return found
