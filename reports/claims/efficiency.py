"""Claims on latency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from bench.store.cell import Record
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import Test
from reports.claims.evidence import Evidence, Judge, compare_latency
from reports.claims.rules import UNTESTED, at_least
from reports.claims.summarised import DESCRIBED, SUMMARISED, not_shortened
from reports.paper.published import fact
from reports.sections.section import Section


def _latency(slow: str, fast: str, *, longest: bool = False) -> Test:
    """Compare the latency of two methods over the lengths of history that both have.

    Args:
        slow: The method that is claimed to take longer.
        fast: The other.
        longest: Compare at the longest length only.
    """

    def test(section: Section, judge: Judge) -> Found:
        sides = [_timings(section, name) for name in (slow, fast)]
        lengths = sorted(sides[0].keys() & sides[1].keys())
        if not lengths:
            return [None]
        kept = lengths[-1:] if longest else lengths
        first, second = ({length: cells[length] for length in kept} for cells in sides)
        names = (section.styles[slow].label, section.styles[fast].label)
        found = compare_latency(section.store, first, second, names, judge.rule)
        return [_of_summaries(section, judge, found, second, fast) if slow == SUMMARISED else found]

    return test


def _of_summaries(
    section: Section, judge: Judge, found: Evidence | None, timed: Mapping[int, Record], fast: str
) -> Evidence | None:
    """Return what was found of summaries, the full description beside it; no verdict where nothing was shortened.

    Args:
        section: Where the cells are.
        judge: Of the claim.
        found: The comparison with summaries.
        timed: Cells of the fast method, by length of history.
        fast: Its name.
    """
    if found is None:
        return None
    described = {n: cell for n, cell in _timings(section, DESCRIBED).items() if n in timed}
    names = (section.styles[DESCRIBED].label if described else "", section.styles[fast].label)
    beside = compare_latency(section.store, described, timed, names, judge.rule)
    if beside is not None:
        ends = f" ({beside.interval})" if math.isfinite(beside.low) else ""
        found = replace(found, shown=f"{found.shown}; {beside.shown}{ends}")
    reason = not_shortened(section)
    return replace(found, verdict=UNTESTED, reason=reason) if reason else found


def _timings(section: Section, method: str) -> dict[int, Record]:
    """Return the efficiency cells of a method by length of history."""
    cells = (record for record in section.efficiency if record.method == method)
    return {int(record.results["history_length"]): record for record in cells}


_SPEEDUP, _SPEEDUP_SOURCE = fact("speedup_over_description")
_ATTRIBUTES, _ATTRIBUTES_SOURCE = fact("attributes_speedup_over_description")

CLAIMS = (
    Claim(
        id="speed-over-description",
        text=f"I-LLMRec is at least {_SPEEDUP:g} times as fast as the description-based approach (TRSR)",
        source=_SPEEDUP_SOURCE,
        published=f"{_SPEEDUP:g} times",
        rule=at_least(_SPEEDUP),
        test=_latency(SUMMARISED, "illmrec"),
        ranked=False,
        content=False,
    ),
    Claim(
        id="speed-of-attributes",
        text="The attribute-based approach (TALLRec) is at least 2.5 times as fast as the description-based one",
        source=_ATTRIBUTES_SOURCE,
        published=f"more than {_ATTRIBUTES:g} times",
        rule=at_least(_ATTRIBUTES),
        test=_latency(SUMMARISED, "tallrec"),
        ranked=False,
        content=False,
    ),
    Claim(
        id="cheaper-at-long-histories",
        text="At long histories one image token is cheaper than attributes (TALLRec)",
        source="Section 4.3, Figure 3",
        published="TALLRec rises slowly and ends above I-LLMRec",
        rule=at_least(1.0),
        test=_latency("tallrec", "illmrec", longest=True),
        ranked=False,
        content=False,
    ),
)
