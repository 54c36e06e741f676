"""Whether what TRSR shows was summarised at all: where it was not, nothing is said of summaries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.frames.selection import ACCURACY
from reports.claims.claim import Found
from reports.claims.comparisons import Test, variant_of
from reports.claims.evidence import Evidence, Judge
from reports.claims.rules import UNTESTED
from reports.exhibits.efficiency import tokens_an_item
from reports.sections.section import Section

SUMMARISED, DESCRIBED = "trsr", "full-description"


def of_summaries(test: Test, *, about_them: bool = False) -> Test:
    """Return a test that says where items' summaries are their descriptions.

    Args:
        test: Compares the accuracy of a method that shows summaries.
        about_them: The claim is on what summarising does: it is not tested where nothing was summarised.
    """

    def cautious(section: Section, judge: Judge) -> Found:
        found = test(section, judge)
        said = own_summaries(section)
        if not said:
            return found
        changed: list[Evidence | None] = []
        for part in found:
            if part is None or not part.shown:
                changed.append(part)
            elif about_them and nothing_summarised(section):
                reason = f"nothing was summarised: {said}"
                changed.append(replace(part, verdict=UNTESTED, reason=reason))
            else:
                changed.append(replace(part, shown=f"{part.shown} (caution: {said})"))
        return changed

    return cautious


def own_summaries(section: Section) -> str:
    """Return how many summaries are descriptions as they are, where most are or none is another; else nothing."""
    report = _report(section)
    kept, items = int(report.get("kept", 0)), int(report.get("items", 0))
    told = 2 * kept > items or nothing_summarised(section)
    return f"{kept:,} of {items:,} summaries are the descriptions themselves" if told else ""


def nothing_summarised(section: Section) -> bool:
    """Tell whether it is known that no item has a summary, neither with the data nor written."""
    report = _report(section)
    return bool(report) and not report["given"] and not report["generated"]


def not_shortened(section: Section) -> str:
    """Return why timings of TRSR are not those of summaries; nothing where they are, or where nothing is known."""
    timings = section.timings
    reasons = []
    if nothing_summarised(section):
        reasons.append(own_summaries(section))
    both = timings[timings["method"].isin((SUMMARISED, DESCRIBED))].dropna(subset=["tokens_per_item"])
    lengths = both.groupby("history_length")["method"].nunique()
    tokens = tokens_an_item(both[both["history_length"].isin(lengths.index[lengths == 2])])
    if len(tokens) == 2 and tokens[SUMMARISED] >= tokens[DESCRIBED]:
        first, second = (section.styles[name].label for name in (SUMMARISED, DESCRIBED))
        reasons.append(
            f"{first} takes {tokens[SUMMARISED]:.1f} tokens an item, {second} {tokens[DESCRIBED]:.1f}"
        )
    return f"nothing is shorter for being summarised: {'; '.join(reasons)}" if reasons else ""


def _report(section: Section) -> Mapping[str, Any]:
    """Return how the items came to their summaries, by the newest cell on the data as they are that tells."""
    cells = [
        record
        for record in section.records
        if record.experiment == ACCURACY and record.results.get("summaries") and not variant_of(record)
    ]
    newest = max(cells, key=lambda record: record.created, default=None)
    report: Mapping[str, Any] = {} if newest is None else newest.results["summaries"]
    return report
