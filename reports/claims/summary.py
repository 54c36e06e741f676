"""What a report comes to, on one screen: per data set and LLM the cheapest method and the most accurate ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.protocol.statistics import LEAST_RUNS, differ, paired_interval
from reports.claims.evidence import Judge
from reports.claims.rules import BORNE_OUT, CONTRADICTED, MORE
from reports.sections.methods import is_floor
from reports.sections.section import Section
from reports.wording.tables import MISSING, Column, Table
from reports.wording.wording import words as in_words

_COLUMNS = (
    "Data and LLM",
    "Cheapest to show",
    "Most accurate, LLM methods",
    "Most accurate of all",
    "Cheapest against most accurate LLM method",
)


def summary_table(sections: Sequence[Section]) -> Table:
    """Return one row for each section with an LLM, timed or evaluated: what is cheap, what is accurate, and if decided.

    The cheapest is the LLM method with the lowest latency of a user alone at the longest history that was timed, with
    tokens of a prompt; the most accurate has the highest NDCG@10 in the whole catalogue, with its interval and the
    methods that cannot be told apart from it. Their difference in accuracy is decided where its 95 %
    interval over training runs and users does not reach 0.
    """
    rows: list[list[str]] = []
    data: list[dict[str, Any]] = []
    for section in sections:
        if not section.llm or not (section.efficiency or section.accuracy):
            continue
        styles, entries = section.styles, section.headline
        accuracy = {
            name: float(np.mean([record.results["full"]["ndcg@10"] for record in entry.records]))
            for name, entry in entries.items()
        }
        shown = list(section.llm_methods)
        cheapest, words = _cheapest(section)
        best = max(shown, key=accuracy.__getitem__, default="")
        overall = max(accuracy, key=accuracy.__getitem__, default="")
        found = None
        if cheapest in shown and best and cheapest != best:
            names = (styles[cheapest].label, styles[best].label)
            sides = (entries[cheapest].records, entries[best].records)
            found = Judge(section=section, rule=MORE, candidates="full").compare(*sides, names)
        verdict = MISSING
        if cheapest and cheapest == best:
            verdict = "the same method"
        elif found is not None:
            decided = "decided" if found.verdict in (BORNE_OUT, CONTRADICTED) else found.verdict
            why = f" ({found.reason})" if found.reason else ""
            verdict = f"{found.shown}; {found.interval}: {decided}{why}"
        accurate = [
            _accurate(section, best, [name for name in accuracy if name in shown], accuracy),
            _accurate(section, overall, list(accuracy), accuracy),
        ]
        rows.append([section.title, words or MISSING, *accurate, verdict])
        data.append(
            {
                "dataset": section.dataset,
                "llm": section.llm,
                "cheapest": cheapest,
                "most_accurate_llm_method": best,
                "most_accurate": overall,
                "difference": math.nan if found is None else found.estimate,
                "low": math.nan if found is None else found.low,
                "high": math.nan if found is None else found.high,
            }
        )
    return Table(
        name="summary",
        caption="In short: what is cheap, what is accurate (NDCG@10 in the whole catalogue)",
        columns=[Column(title=title, align="l") for title in _COLUMNS],
        rows=rows,
        data=pd.DataFrame(data),
        wrap=True,
    )


def _accurate(section: Section, best: str, among: Sequence[str], accuracy: Mapping[str, float]) -> str:
    """Say how accurate the best of some methods is, and which of the others cannot be told apart from it."""
    if not best:
        return MISSING
    entries, styles = section.headline, section.styles
    said = f"{styles[best].label}, NDCG@10 {accuracy[best]:.4f}"
    alone = section.ranks.paired(entries[best].records, entries[best].records, "full")
    if alone is not None:
        interval = paired_interval(alone.assign(second=0.0))
        said += f" [{interval.low:.4f}, {interval.high:.4f}]"
    near, untold = [], []
    for name in sorted(among, key=accuracy.__getitem__, reverse=True)[1:]:
        both = section.ranks.paired(entries[best].records, entries[name].records, "full")
        runs = 0 if both is None else both.index.get_level_values("seed").nunique()
        enough = runs >= LEAST_RUNS or (is_floor(best) and is_floor(name))
        if both is None or not enough:
            untold.append(styles[name].label)
        elif not differ(both):
            near.append(styles[name].label)
    said += f"; not told apart from it: {in_words(near)}" if near else ""
    return f"{said}; too few runs to tell: {in_words(untold)}" if untold else said


def _cheapest(section: Section) -> tuple[str, str]:
    """Return the method with an LLM that takes least time at the longest history of all, and what it takes."""
    frame = section.timings[[bool(record.config.get("llm")) for record in section.efficiency]]
    if frame.empty:
        return "", ""
    rows = frame[frame["history_length"] == frame["history_length"].max()]
    row = rows.loc[rows["latency_ms_median"].astype(float).idxmin()]
    words = (
        f"{section.styles[row['method']].label}, {row['latency_ms_median']:.0f} ms and {row['prompt_tokens']:.0f}"
        f" tokens a user at |S_u| = {row['history_length']}"
    )
    return str(row["method"]), words
