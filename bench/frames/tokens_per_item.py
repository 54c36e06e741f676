"""Accuracy against the tokens of an item: I-LLMRec with one and more image tokens, and the others; no torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.costs import cost_values
from bench.frames.experiment import Experiment
from bench.frames.selection import CANDIDATES, IDENTITY, METRIC_COLUMNS, OURS, identity, ndcg_by_user
from bench.frames.tradeoff import measured, on_front, over_seeds
from bench.protocol.statistics import Difference, paired_interval
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="tokens_per_item",
    paper="",
    question="accuracy against tokens an item: one image token, several, and text",
    place=55,
    # Of the preset smoke, bench.efficiency has measured the same LLM.
    arguments={"smoke": ("--repeats", "1")},
)

CURVE = {1: OURS, 2: "illmrec-2-tokens", 4: "illmrec-4-tokens", 8: "illmrec-8-tokens"}
"""I-LLMRec by the number of its image tokens."""

COSTS = (
    "tokens_per_item", "prompt_tokens", "model_gflops", "latency_ms_median", "latency_ms_low", "latency_ms_high",
    "session",
)  # fmt: skip

INTERVALS = ("low_ndcg@10", "high_ndcg@10", "gain_ndcg@10", "low_gain_ndcg@10", "high_gain_ndcg@10")

COLUMNS = (
    *IDENTITY, "history_length", "candidates", "method", "image_tokens", *COSTS, "seeds", "users", *METRIC_COLUMNS,
    *INTERVALS, "on_front",
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method and kind of candidates, ascending by tokens an item.

    Args:
        records: Cells, of any experiment; those that :func:`bench.frames.tradeoff.measured` picks, at the longest
            length of history that was timed of all of a data set's methods and that is no longer than that of training.
        store: The store that holds their ranks.

    Returns:
        ``COLUMNS``: image_tokens is missing for methods that are not on the curve of I-LLMRec. tokens_per_item is the
        mean over the histories that were timed, title included. Intervals are 95 %, by a bootstrap over runs and users:
        low and high of NDCG@10, and of gain, its difference to I-LLMRec with one image token on the same users; gain is
        missing for that one, and where no seed has both. on_front says that no other method takes as few tokens and
        is as accurate and better in one of them. Data sets with one method are left out.
    """
    rows: list[dict[str, Any]] = []
    for by_method, costs in measured(records):
        length, timed = _longest(by_method, costs)
        if len(timed) < 2:
            continue
        for candidates in CANDIDATES:
            values = {name: ndcg_by_user(by_method[name], store, candidates) for name in timed}
            found = [
                {
                    **identity(by_method[name][0]),
                    "history_length": length,
                    "candidates": candidates,
                    "method": name,
                    **cost_values(record, COSTS),
                    "seeds": len(by_method[name]),
                    "users": by_method[name][-1].results["users"],
                    **over_seeds([trained.results[candidates] for trained in by_method[name]]),
                    **_intervals(name, values),
                }
                for name, record in timed.items()
            ]
            front = on_front([row["tokens_per_item"] for row in found], [row["ndcg@10"] for row in found])
            rows += [{**row, "on_front": bool(stands)} for row, stands in zip(found, front, strict=True)]
    tokens = {name: count for count, name in CURVE.items()}
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "image_tokens"])
    table["image_tokens"] = table["method"].map(tokens).astype("Int64")
    order = [*IDENTITY, "candidates", "tokens_per_item", "method"]
    return table[list(COLUMNS)].sort_values(
        order, ascending=[*[True] * len(IDENTITY), False, True, True], kind="stable", ignore_index=True
    )


def _longest(
    by_method: Mapping[str, Sequence[Record]], costs: Mapping[int, Mapping[str, Record]]
) -> tuple[int, dict[str, Record]]:
    """Return the length at which most methods of a data set were timed, the longest of such, and their timings."""
    trained = max(int(records[-1].config["history_length"]) for records in by_method.values())
    both = {
        length: {name: of_length[name] for name in by_method if name in of_length}
        for length, of_length in costs.items()
        if length <= trained
    }
    if not both:
        return 0, {}
    length = max(both, key=lambda each: (len(both[each]), each))
    return length, both[length]


def _intervals(name: str, values: Mapping[str, pd.Series]) -> dict[str, float]:
    """Return the intervals of a method's NDCG@10, and of its difference to that of one image token."""
    own = values[name]
    mean = paired_interval(pd.DataFrame({"first": own, "second": 0.0}))
    found = {"low_ndcg@10": mean.low, "high_ndcg@10": mean.high}
    if name != OURS and OURS in values:
        both = pd.concat({"first": own, "second": values[OURS]}, axis="columns", join="inner")
        if not both.empty:
            gain: Difference = paired_interval(both)
            found |= {"gain_ndcg@10": gain.mean, "low_gain_ndcg@10": gain.low, "high_gain_ndcg@10": gain.high}
    return dict.fromkeys(INTERVALS, np.nan) | found
