"""One table for a reviewer: accuracy with intervals over runs and users, and what it took to get there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.protocol.statistics import LEAST_RUNS, Difference, paired_interval
from bench.store.cell import Record
from reports.exhibits.exhibit import Exhibit, Shown
from reports.sections.commands import commands
from reports.sections.section import Accuracy, Section
from reports.sections.trained_alike import unlike_options
from reports.wording.tables import DOUBLE_DAGGER, MISSING, Column, Table
from reports.wording.wording import signed, words

_CONTROL = "no-llm"
_TITLES = (
    "method",
    "NDCG@10, all candidates",
    "NDCG@10, sampled",
    "less No LLM, all candidates",
    "runs",
    "targets seen",
    "training ended",
    "seconds of training",
    "tokens of a prompt",
    "parameters trained",
)
_RIGHT = _TITLES[1:6] + _TITLES[7:]


def exhibits(section: Section) -> list[Shown]:
    """Return the table, most accurate among all candidates first; nothing where fewer than two methods are stored."""
    rows = [_row(section, entry) for entry in section.headline.values()]
    known = [row for row in rows if row is not None]
    if len(known) < 2:
        return []
    known.sort(key=lambda row: row["full"], reverse=True)
    frame = pd.DataFrame(known)
    records = [record for entry in section.headline.values() for record in entry.records]
    return [
        Exhibit(
            name=f"headline{section.suffix}",
            title="The methods in one table",
            reading=_reading(section, frame),
            paper="",
            notes=(
                "Intervals are 95 %, by a bootstrap over training runs and users; those of one run are over users"
                " alone. “Less No LLM” is the difference to a model without an LLM: the projectors of the LLM methods"
                " over the features of the history's items. Training has converged where validation stopped it. Seconds"
                " are those of training on the machine that ran it, features and evaluation not counted.",
                *_trained_otherwise(section, frame),
            ),
            commands=commands(records),
            tables=(
                Table(
                    name=f"headline{section.suffix}",
                    caption=f"Accuracy and what it took, {section.title}",
                    columns=[Column(title=t, align="r" if t in _RIGHT else "l") for t in _TITLES],
                    rows=[_printed(row, section) for row in known],
                    data=frame,
                ),
            ),
        )
    ]


def _row(section: Section, entry: Accuracy) -> dict[str, Any] | None:
    found: dict[str, Any] = {"dataset": section.dataset, "method": entry.method, "seeds": len(entry.records)}
    for candidates in ("full", "sampled"):
        interval = _mean(section, entry.records, candidates)
        if interval is None:
            return None
        found |= {
            candidates: interval.mean,
            f"{candidates}_low": interval.low,
            f"{candidates}_high": interval.high,
        }
    control = section.headline.get(_CONTROL)
    both = None
    if control is not None and entry.method != _CONTROL:
        both = section.ranks.paired(entry.records, control.records, "full")
    found |= dict.fromkeys(("less_no_llm", "less_no_llm_low", "less_no_llm_high"), math.nan)
    if both is not None:
        difference = paired_interval(both)
        values = (difference.mean, difference.low, difference.high)
        found |= dict(zip(("less_no_llm", "less_no_llm_low", "less_no_llm_high"), values, strict=True))
    unlike = {} if both is None or control is None else unlike_options(entry.records[0], control.records[0])
    return found | {
        "trained_unlike_no_llm": ", ".join(
            f"{name} ({_value(ours)} / {_value(theirs)})" for name, (ours, theirs) in unlike.items()
        ),
        "users": entry.users,
        "targets": _average(entry.records, "training", "targets"),
        "ended": _ended(entry.records),
        "seconds": _average(entry.records, "training", "seconds"),
        "tokens": _average(entry.records, "prompt", "tokens"),
        "parameters": _average(entry.records, "training", "parameters"),
    }


def _mean(section: Section, records: Sequence[Record], candidates: str) -> Difference | None:
    """Return the mean NDCG@10 of a method with its interval, or None without ranks."""
    both = section.ranks.paired(records, records, candidates)
    return None if both is None else paired_interval(both.assign(second=0.0))


def _average(records: Sequence[Record], part: str, name: str) -> float:
    values = [(record.results.get(part) or {}).get(name) for record in records]
    numbers = [float(value) for value in values if value is not None]
    return float(np.mean(numbers)) if numbers else math.nan


def _value(value: object) -> str:
    """Return an option's value in words."""
    return MISSING if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def _trained_otherwise(section: Section, frame: pd.DataFrame) -> Iterator[str]:
    """Yield for each way in which methods were trained otherwise than the model without an LLM what it was."""
    others = frame[frame["trained_unlike_no_llm"] != ""]
    for said, rows in others.groupby("trained_unlike_no_llm", sort=False):
        labels = "; ".join(section.styles[name].label for name in rows["method"])
        yield (
            f"{DOUBLE_DAGGER} {labels}: trained otherwise than {section.styles[_CONTROL].label}, whose values come"
            f" second: {said}. The difference is that of training as well, and no measure of the LLM alone."
        )


def _ended(records: Sequence[Record]) -> str:
    """Return how the trainings of a method ended: ``converged``, ``cut off``, both, or nothing where none is known."""
    known = {ended for record in records if (ended := _converged(record)) is not None}
    return words(["converged" if ended else "cut off" for ended in sorted(known, reverse=True)])


def _converged(record: Record) -> bool | None:
    """Return whether validation stopped a training, as its cell says or by its epochs; None where neither tells."""
    training = record.results.get("training") or {}
    if "converged" in training:
        return bool(training["converged"])
    options = record.config.get("training") or {}
    # Joint training alone is stored without it: on stored states patience is not what ends it.
    if options.get("cached") is not None or "patience" not in options or not training.get("best_epoch"):
        return None
    patience = options["patience"]
    return patience is not None and int(training["epochs"]) - int(training["best_epoch"]) >= int(patience)


def _printed(row: dict[str, Any], section: Section) -> list[str]:
    def with_interval(name: str, *, sign: bool = False) -> str:
        if not math.isfinite(row[name]):
            return MISSING
        ends = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
        mean, low, high = (signed(value, 4) if sign else f"{value:.4f}" for value in ends)
        return f"{mean} [{low}, {high}]"

    def count(name: str) -> str:
        return f"{row[name]:,.0f}" if math.isfinite(row[name]) else MISSING

    return [
        section.styles[row["method"]].label,
        with_interval("full"),
        with_interval("sampled"),
        with_interval("less_no_llm", sign=True) + (DOUBLE_DAGGER if row["trained_unlike_no_llm"] else ""),
        f"{row['seeds']}",
        count("targets"),
        row["ended"] or MISSING,
        count("seconds"),
        count("tokens"),
        count("parameters"),
    ]


def _reading(section: Section, frame: pd.DataFrame) -> str:
    """Say what the LLM adds, method by method, where a model without one is stored; from intervals alone."""
    llm = frame[frame["method"].isin(section.llm_methods) & frame["less_no_llm"].notna()]
    if llm.empty:
        return f"{len(frame)} methods, the highest NDCG@10 among all candidates first; intervals tell which differ."
    several = llm["seeds"] >= LEAST_RUNS
    above = int(((llm["less_no_llm_low"] > 0) & several).sum())
    below = int(((llm["less_no_llm_high"] < 0) & several).sum())
    text = (
        f"Against a model without an LLM over the same features, {above} of {len(llm)} LLM methods are above,"
        f" {below} below, and {len(llm) - above - below} cannot be told apart"
    )
    once = int((~several).sum())
    text = f"{text} ({once} of these have one training run or two: no verdict)." if once else f"{text}."
    unlike = int((llm["trained_unlike_no_llm"] != "").sum())
    return (
        f"{text} {unlike} of {len(llm)} were trained otherwise than it ({DOUBLE_DAGGER})." if unlike else text
    )
