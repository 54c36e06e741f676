"""Evidence for a claim: one comparison of accuracy over users, or of latency over repeats, with its interval."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.protocol.statistics import LEAST_RUNS, mean_interval, paired_interval
from bench.store.cell import Record
from bench.store.store import Store
from reports.claims.rules import UNDECIDED, UNTESTED, UNTRAINED, Rule
from reports.sections.methods import IMAGE_GROUP, METHODS, is_floor
from reports.sections.section import Section, stored_at_once
from reports.sections.trained_alike import trained_unlike
from reports.wording.tables import MISSING
from reports.wording.wording import runs_said, signed

LEAST_USERS = 10
"""Fewer users make no interval that is worth a verdict."""


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
        verdict: What it says of the claim.
        reason: Why it says no more, or nothing.
        seeds: Training runs compared.
        p_value: Of no difference, two-sided; NaN where it is not known.
        detectable: The smallest true difference of NDCG@10 that would have been found four times in five.
    """

    shown: str
    estimate: float
    low: float
    high: float
    unit: str
    users: int
    verdict: str
    reason: str = ""
    seeds: int = 1
    p_value: float = math.nan
    detectable: float = math.nan

    @property
    def interval(self) -> str:
        """The interval for readers."""
        if not math.isfinite(self.low):
            return MISSING
        if self.unit == "times":
            return f"{self.low:.2f} to {self.high:.2f}"
        digits = {"NDCG@10": 4, "cosine": 3}.get(self.unit, 1)
        return f"{signed(self.low, digits)} to {signed(self.high, digits)}{' %' if self.unit == '%' else ''}"


def untested(reason: str) -> Evidence:
    """Return what stands for a comparison that the stored cells cannot make."""
    nothing = math.nan
    return Evidence(
        shown="",
        estimate=nothing,
        low=nothing,
        high=nothing,
        unit="",
        users=0,
        verdict=UNTESTED,
        reason=reason,
    )


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Compares accuracy for one claim, among one kind of candidates.

    Attributes:
        section: Where the cells are.
        rule: When the claim is borne out.
        candidates: ``sampled`` or ``full``.
    """

    section: Section
    rule: Rule
    candidates: str = "sampled"

    def compare(
        self,
        first: Sequence[Record],
        second: Sequence[Record],
        names: tuple[str, str],
        users: Collection[str] | None = None,
    ) -> Evidence | None:
        """Compare NDCG@10 of two methods on the same users and seeds.

        There is no verdict where there are fewer than three training runs, no ranks, or two ways of training; nor for a
        method that stands below the best floor, or whose adaptor was never trained: that says more of its training than
        of what it is.

        Args:
            first: Cells of the first method, one per seed.
            second: Cells of the second.
            names: What readers call the two.
            users: Only these users.

        Returns:
            The evidence, or None where there are too few users, or ranks are needed and missing.
        """
        if not first or not second:
            return None
        both = self.section.ranks.paired(first, second, self.candidates, users)
        if both is None:
            return self._of_means(first, second, names) if users is None else None
        learnt = [side for side in (first, second) if not is_floor(side[0].method)]
        evidence = self.pair(both, names, learnt=bool(learnt))
        if evidence is None:
            return None
        unlike = trained_unlike(first[0], second[0])
        if unlike:
            return replace(evidence, verdict=UNDECIDED, reason=f"not trained alike ({unlike})")
        for side, name in zip((first, second), names, strict=True):
            if untrained_adaptor(side):
                reason = f"the adaptor of {name} is as drawn: its states were stored at once"
                return replace(evidence, verdict=UNTRAINED, reason=reason)
            floor = self.section.floor_above(side, self.candidates) if side in learnt else ""
            if floor:
                return replace(evidence, verdict=UNTRAINED, reason=f"{name} is below the floor {floor}")
        return evidence

    def pair(self, both: pd.DataFrame, names: tuple[str, str], *, learnt: bool = True) -> Evidence | None:
        """Compare two columns user by user; None with too few users.

        Args:
            both: Columns first and second, indexed by seed and user_id, or by user_id alone.
            names: What readers call the two.
            learnt: Whether it depends on training, of which one run decides nothing.
        """
        rule = self.rule
        users = both.index.get_level_values(-1).nunique()
        if users < LEAST_USERS:
            return None
        found = paired_interval(both, confidence=rule.confidence)
        means = (float(both["first"].mean()), float(both["second"].mean()))
        scale = 100 / means[1] if rule.relative and means[1] else 1.0
        verdict, reason = rule.verdict(found.low, found.high, base=means[1]), ""
        if learnt and found.seeds < LEAST_RUNS:
            verdict, reason = UNDECIDED, f"{runs_said(found.seeds)}: no verdict"
        return Evidence(
            shown=_shown(means, names),
            estimate=found.mean * scale,
            low=found.low * scale,
            high=found.high * scale,
            unit="%" if rule.relative else "NDCG@10",
            users=users,
            verdict=verdict,
            reason=reason,
            seeds=found.seeds,
            p_value=found.p_value,
            detectable=found.detectable,
        )

    def _of_means(
        self, first: Sequence[Record], second: Sequence[Record], names: tuple[str, str]
    ) -> Evidence:
        """Return the difference of two methods whose ranks are not stored; it has no interval."""
        left, right = (
            float(np.mean([record.results[self.candidates]["ndcg@10"] for record in group]))
            for group in (first, second)
        )
        scale = 100 / right if self.rule.relative and right else 1.0
        return Evidence(
            shown=_shown((left, right), names),
            estimate=(left - right) * scale,
            low=math.nan,
            high=math.nan,
            unit="%" if self.rule.relative else "NDCG@10",
            users=0,
            verdict=UNDECIDED,
            reason="no ranks of both are stored",
        )


def untrained_adaptor(records: Sequence[Record]) -> bool:
    """Tell whether a method shows images by an adaptor that was neither trained nor fitted, in any of its runs."""
    shows_images = any(style.name == records[0].method and style.group == IMAGE_GROUP for style in METHODS)
    drawn = (
        record for record in records if (record.config.get("training") or {}).get("adaptor_start") != "text"
    )
    return shows_images and any(stored_at_once(record) for record in drawn)


def compare_latency(
    store: Store, slow: Mapping[int, Record], fast: Mapping[int, Record], names: tuple[str, str], rule: Rule
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
        rule: When the claim is borne out by a ratio of latencies.
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
        verdict=rule.verdict(low, high) if math.isfinite(low) else UNDECIDED,
        reason="" if math.isfinite(low) else "no interval",
    )


def _shown(means: tuple[float, float], names: tuple[str, str]) -> str:
    change = f" ({signed(100 * (means[0] / means[1] - 1), 1)} %)" if means[1] else ""
    return f"{names[0]} {means[0]:.4f}, {names[1]} {means[1]:.4f}{change}"


def _blocks(store: Store, cells: Sequence[Record]) -> pd.Series:
    """Return the median seconds of users who were alone by repeat, averaged over cells."""
    medians = []
    for record in cells:
        timed = store.read_frame(record, "timings")
        medians.append(timed[timed["kind"] == "alone"].groupby("repeat")["seconds"].median())
    return pd.concat(medians, axis="columns").mean(axis="columns")
