"""When a comparison bears a claim out, and what several comparisons say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

BORNE_OUT = "borne out"
CONTRADICTED = "contradicted"
UNDECIDED = "undecided"
DEPENDS = "depends on the candidates"
UNTRAINED = "not trained far enough"
UNTESTED = "not tested"
VERDICTS = (BORNE_OUT, CONTRADICTED, DEPENDS, UNDECIDED, UNTRAINED, UNTESTED)

MARGIN = 0.05
"""What counts as no loss, no gain, or comparable: 5 % of the second method's mean."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Where the interval of a comparison must lie for its claim to be borne out; wholly outside, it is contradicted.

    Attributes:
        words: The condition.
        above: Low end of what is claimed.
        below: High end.
        relative: Whether both, and the interval as it is shown, are shares of the second method's mean.
        confidence: Of the interval: 95 % for a difference, 90 % for a margin, which is two one-sided tests at 5 %.
    """

    words: str
    above: float = -math.inf
    below: float = math.inf
    relative: bool = False
    confidence: float = 0.95

    def verdict(self, low: float, high: float, *, base: float = 1.0) -> str:
        """Return what an interval says.

        Args:
            low: Its low end.
            high: Its high end.
            base: The second method's mean.
        """
        scale = base if self.relative else 1.0
        above, below = self.above * scale, self.below * scale
        if low > above and high < below:
            return BORNE_OUT
        return CONTRADICTED if high < above or low > below else UNDECIDED


MORE = Rule(words="the whole 95 % interval is above 0", above=0.0)
NO_LESS = Rule(words="the whole 90 % interval is above −5 %", above=-MARGIN, relative=True, confidence=0.9)
NO_MORE = Rule(words="the whole 90 % interval is below 5 %", below=MARGIN, relative=True, confidence=0.9)
COMPARABLE = Rule(
    words="the whole 90 % interval is within ±5 %",
    above=-MARGIN,
    below=MARGIN,
    relative=True,
    confidence=0.9,
)
WITHIN_25_PERCENT = Rule(
    words="the whole 90 % interval is above −25 %", above=-0.25, relative=True, confidence=0.9
)


def at_least(ratio: float) -> Rule:
    """Return the rule for a claimed ratio of latencies."""
    return Rule(words=f"the whole 95 % interval is above {ratio:g}", above=ratio)


def together(verdicts: Iterable[str]) -> str:
    """Return what comparisons say together where a claim needs all of them."""
    found = list(verdicts)
    for decisive in (UNTESTED, UNTRAINED, CONTRADICTED, UNDECIDED):
        if decisive in found:
            return decisive
    return BORNE_OUT if found else UNTESTED


def over_candidates(verdicts: Mapping[str, str]) -> tuple[str, str]:
    """Return the verdict over kinds of candidates, and why where they do not agree.

    Args:
        verdicts: By kind, ``sampled`` and ``full``.
    """
    kinds = set(verdicts.values())
    if len(kinds) == 1:
        return kinds.pop(), ""
    said = "; ".join(f"{kind} candidates: {verdict}" for kind, verdict in verdicts.items())
    if UNTESTED in kinds:
        return UNTESTED, said
    return (UNDECIDED if UNDECIDED in kinds else DEPENDS), said
