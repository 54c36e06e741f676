"""Evidence for a claim: one comparison of accuracy over users, or of latency over repeats, with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.protocol.statistics import Difference, mean_interval
from bench.store.cell import Record
from bench.store.store import Store
from reports.sections.paired import Ranks, interval
from reports.wording.tables import MISSING
from reports.wording.wording import signed

LEAST_USERS = 10
"""Fewer users make no interval that is worth a verdict."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """When a comparison bears a claim out.

    Attributes:
        words: The condition on the interval.
        holds: Takes low and high end of the interval and the second method's mean, or the claimed ratio of latencies.
        relative: Whether the interval is given in percent of the second method's mean.
    """

    words: str
    holds: Callable[[float, float, float], bool]
    relative: bool = False


MORE = Rule(words="the whole interval is above 0", holds=lambda low, high, base: low > 0)
NO_LESS = Rule(words="the interval reaches 0 or lies above", holds=lambda low, high, base: high >= 0)
NO_MORE = Rule(words="the interval reaches 0 or lies below", holds=lambda low, high, base: low <= 0)
COMPARABLE = Rule(
    words="the whole interval is within ±5 %",
    holds=lambda low, high, base: low > -0.05 * base and high < 0.05 * base,
    relative=True,
)
WITHIN_5_PERCENT = Rule(
    words="the whole interval is above −5 %", holds=lambda low, high, base: low > -0.05 * base, relative=True
)
WITHIN_25_PERCENT = Rule(
    words="the whole interval is above −25 %", holds=lambda low, high, base: low > -0.25 * base, relative=True
)
RATIO = Rule(words="the whole interval reaches the ratio", holds=lambda low, high, least: low >= least)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one comparison came to.

    Attributes:
        shown: The numbers in words.
        estimate: Difference of NDCG@10 or of cosines, relative difference in percent, or ratio of latencies.
        low: Low end of its interval; NaN where nothing is stored to make one from.
        high: High end.
        unit: ``NDCG@10``, ``%``, ``cosine`` or ``times``.
        users: Users compared; 0 where it is not users.
        holds: Whether it bears the claim out.
    """

    shown: str
    estimate: float
    low: float
    high: float
    unit: str
    users: int
    holds: bool

    @property
    def interval(self) -> str:
        """The interval for readers."""
        if not math.isfinite(self.low):
            return MISSING
        if self.unit == "times":
            return f"{self.low:.2f} to {self.high:.2f}"
        digits = {"NDCG@10": 4, "cosine": 3}.get(self.unit, 1)
        return f"{signed(self.low, digits)} to {signed(self.high, digits)}{' %' if self.unit == '%' else ''}"


def compare_accuracy(
    ranks: Ranks,
    first: Sequence[Record],
    second: Sequence[Record],
    names: tuple[str, str],
    rule: Rule,
    users: Collection[str] | None = None,
) -> Evidence | None:
    """Compare NDCG@10 among sampled candidates of two methods on the same users and seeds.

    Without ranks the means of the cells are compared, and there is no interval.

    Args:
        ranks: The stored ranks.
        first: Cells of the first method, one per seed.
        second: Cells of the second.
        names: What readers call the two.
        rule: When the claim holds.
        users: Only these users.

    Returns:
        The evidence, or None where there are too few users, or ranks are needed and missing.
    """
    if not first or not second:
        return None
    both = ranks.paired(first, second, users=users)
    if both is None and users is None:
        means = [
            np.mean([record.results["sampled"]["ndcg@10"] for record in group]) for group in (first, second)
        ]
        found = Difference(mean=float(means[0] - means[1]), low=math.nan, high=math.nan, confidence=0.95)
        return _evidence(found, (float(means[0]), float(means[1])), names, rule, users=0)
    return None if both is None else paired_evidence(both, names, rule)


def paired_evidence(both: pd.DataFrame, names: tuple[str, str], rule: Rule) -> Evidence | None:
    """Compare two columns user by user; None with too few users.

    Args:
        both: Columns first and second, one row per user.
        names: What readers call the two.
        rule: When the claim holds.
    """
    if len(both) < LEAST_USERS:
        return None
    means = (float(both["first"].mean()), float(both["second"].mean()))
    return _evidence(interval(both), means, names, rule, users=len(both))


def compare_latency(
    store: Store, slow: Mapping[int, Record], fast: Mapping[int, Record], names: tuple[str, str], least: float
) -> Evidence | None:
    """Compare the latency of a user who is alone, averaged over the lengths of history that both have.

    A repeat is a block in which both were run in turns: the interval is that of the mean ratio over blocks (Student's
    t of its logarithm). What was not timed in one session has no blocks in common: there is no interval then, and the
    evidence says why. Nor is there one where timings are not stored.

    Args:
        store: The store of the cells.
        slow: Efficiency cells of the one method by length of history.
        fast: Those of the other.
        names: What readers call the two.
        least: The ratio of latencies that is claimed.
    """
    lengths = sorted(slow.keys() & fast.keys())
    if not lengths:
        return None
    sides = [[cells[length] for length in lengths] for cells in (slow, fast)]
    users = max(int(record.results["users"]) for record in sides[0])
    costs = [float(np.mean([r.results["latency_ms_median"] for r in cells])) for cells in sides]
    ratio, low, high, caution = costs[0] / costs[1], math.nan, math.nan, ""
    sessions = {str(record.results.get("session", record.key)) for cells in sides for record in cells}
    if len(sessions) > 1:
        caution = " (caution: not timed in turns, in one session)"
    elif all((record.folder / "timings.parquet").is_file() for cells in sides for record in cells):
        blocks = np.log(_blocks(store, sides[0]) / _blocks(store, sides[1]))
        ratio = math.exp(blocks.mean())
        ends = mean_interval(blocks)
        if ends[0] is not None:
            low, high = math.exp(ends[0]), math.exp(ends[1])
    at = f"|S_u| = {lengths[0]}" + (f" to {lengths[-1]}" if len(lengths) > 1 else "")
    return Evidence(
        shown=f"{names[0]} {costs[0]:.1f} ms, {names[1]} {costs[1]:.1f} ms a user at {at}: {ratio:.2f} times{caution}",
        estimate=ratio,
        low=low,
        high=high,
        unit="times",
        users=users,
        holds=RATIO.holds(low if math.isfinite(low) else ratio, high, least),
    )


def _evidence(
    found: Difference, means: tuple[float, float], names: tuple[str, str], rule: Rule, users: int
) -> Evidence:
    known = math.isfinite(found.low)
    low, high = (found.low, found.high) if known else (found.mean, found.mean)
    scale = 100 / means[1] if rule.relative and means[1] else 1.0
    change = f" ({signed(100 * found.mean / means[1], 1)} %)" if means[1] else ""
    return Evidence(
        shown=f"{names[0]} {means[0]:.4f}, {names[1]} {means[1]:.4f}{change}",
        estimate=found.mean * scale,
        low=found.low * scale,
        high=found.high * scale,
        unit="%" if rule.relative else "NDCG@10",
        users=users,
        holds=rule.holds(low, high, means[1]),
    )


def _blocks(store: Store, cells: Sequence[Record]) -> pd.Series:
    """Return the median seconds of users who were alone by repeat, averaged over cells."""
    medians = []
    for record in cells:
        timed = store.read_frame(record, "timings")
        medians.append(timed[timed["kind"] == "alone"].groupby("repeat")["seconds"].median())
    return pd.concat(medians, axis="columns").mean(axis="columns")
