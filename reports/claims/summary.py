"""What a report comes to, on one screen: per data set and LLM the cheapest method and the most accurate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.claims.evidence import Judge
from reports.claims.rules import BORNE_OUT, CONTRADICTED, MORE
from reports.sections.section import Section
from reports.wording.tables import MISSING, Column, Table

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
    tokens of a prompt; the most accurate has the highest NDCG@10 among sampled candidates. Their difference in accuracy
    is decided where its 95 % interval over training runs and users does not reach 0.
    """
    rows: list[list[str]] = []
    data: list[dict[str, Any]] = []
    for section in sections:
        if not section.llm or not (section.efficiency or section.accuracy):
            continue
        styles, entries = section.styles, section.headline
        accuracy = {
            name: float(np.mean([record.results["sampled"]["ndcg@10"] for record in entry.records]))
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
            found = Judge(section=section, rule=MORE).compare(*sides, names)
        verdict = MISSING
        if cheapest and cheapest == best:
            verdict = "the same method"
        elif found is not None:
            decided = "decided" if found.verdict in (BORNE_OUT, CONTRADICTED) else found.verdict
            why = f" ({found.reason})" if found.reason else ""
            verdict = f"{found.shown}; {found.interval}: {decided}{why}"
        accurate = [
            f"{styles[name].label}, NDCG@10 {accuracy[name]:.4f}" if name else MISSING
            for name in (best, overall)
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
        caption="In short: what is cheap, what is accurate",
        columns=[Column(title=title, align="l") for title in _COLUMNS],
        rows=rows,
        data=pd.DataFrame(data),
        wrap=True,
    )


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
