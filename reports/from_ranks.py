"""Metrics, differences and their intervals from ranks by ir-measures and scipy; nothing of the toolkit is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

CUTOFFS = (5, 10, 20)
METRICS = (*(f"{name}@{k}" for k in CUTOFFS for name in ("hit", "ndcg")), "mrr")
RESAMPLES, MANY = 1999, 39_999
"""How often runs and users are redrawn: as a rule, and for the end of an interval that seems far off."""
_SIMULATED = 20_000


class UnusableError(Exception):
    """Something that cannot be used; the message is one line."""


@cache
def metrics_by_place() -> pd.DataFrame:
    """Return every metric of one relevant item by its place, as ir-measures has it.

    Each place is a query whose run has the relevant document there. The last place, behind the largest cutoff, stands
    for all later ones, but for MRR.

    Raises:
        UnusableError: If ir-measures is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise UnusableError("ir-measures is not installed: pip install ir-measures") from error
    last = CUTOFFS[-1] + 1
    places = range(1, last + 1)
    qrels = [ir_measures.Qrel(str(place), "relevant", 1) for place in places]
    run = [
        ir_measures.ScoredDoc(str(place), "relevant" if at == place else f"other {at}", float(last - at))
        for place in places
        for at in places
    ]
    names: dict[Any, str] = {ir_measures.RR: "mrr"}
    names |= {ir_measures.Success @ k: f"hit@{k}" for k in CUTOFFS}
    names |= {ir_measures.nDCG @ k: f"ndcg@{k}" for k in CUTOFFS}
    found = pd.DataFrame(index=list(places), columns=list(METRICS), dtype=float)
    for value in ir_measures.iter_calc(list(names), qrels, run):
        found.loc[int(value.query_id), names[value.measure]] = value.value
    return found


def metrics_of(ranks: pd.Series) -> pd.DataFrame:
    """Return every metric of each rank, in the index of the ranks; MRR has no cutoff."""
    table = metrics_by_place()
    last = table.index[-1]
    found = table.loc[ranks.clip(upper=last)].set_axis(ranks.index)
    return found.assign(mrr=found["mrr"].where(ranks < last, 1 / ranks))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A metric, or its difference between two methods, in several training runs and of several users.

    Attributes:
        values: Float [runs, users], NaN where a run lacks a user.
        base: Mean of the second of two methods.
        student: Whether intervals have Student's t of few runs and users; those of older galleries do not.
    """

    values: np.ndarray
    base: float = math.nan
    student: bool = True

    @property
    def mean(self) -> float:
        """Mean over runs and users."""
        return float(np.nanmean(self.values))

    @property
    def stderr(self) -> float:
        """Standard error by resampling runs and users."""
        return float(self.resampled.std(ddof=1))

    @property
    def complete(self) -> bool:
        """Whether every run has every user, so that mean squares tell the variances."""
        return not np.isnan(self.values).any()

    @cached_property
    def variances(self) -> tuple[float, float, float]:
        """The variance of the mean from runs, from users, and the part of the latter from both together.

        Two-way random effects by mean squares.
        """
        runs, users = self.values.shape
        if runs == 1:
            return 0.0, float(stats.sem(self.values[0])) ** 2, 0.0
        by_run, by_user = self.values.mean(axis=1), self.values.mean(axis=0)
        rest = self.values - by_run[:, None] - by_user + self.mean
        both = float((rest**2).sum()) / ((runs - 1) * (users - 1))
        of_runs = max(0.0, float(by_run.var(ddof=1)) - both / users)
        of_users = max(0.0, float(by_user.var(ddof=1)) - both / runs)
        both /= runs * users
        return of_runs / runs, of_users / users + both, both

    def margin(self, level: float) -> float:
        """Return half an interval's width: that of runs and that of users, each by its own Student's t."""
        freedom = (max(1, size - 1) for size in self.values.shape)
        parts = zip(freedom, self.variances[:2], strict=True)
        return math.sqrt(sum(float(stats.t.isf(level / 2, df)) ** 2 * part for df, part in parts))

    def widening(self, level: float) -> float:
        """Return how many times as wide as by the normal distribution an interval is."""
        error = math.sqrt(sum(self.variances[:2]))
        return (
            self.margin(level) / (float(stats.norm.isf(level / 2)) * error) if self.student and error else 1.0
        )

    def p_value(self) -> float:
        """Return the two-sided p value of no difference."""
        if not self.student:
            error = self.stderr
            return float(2 * stats.norm.sf(abs(self.mean) / error)) if error > 0 else float(not self.mean)
        if not self.mean or not any(self.variances):
            return float(not self.mean)
        ends = (-300.0, 0.0)
        if self.margin(math.exp(ends[0])) <= abs(self.mean):
            return 0.0
        return math.exp(optimize.brentq(lambda log: self.margin(math.exp(log)) - abs(self.mean), *ends))

    def found(self, difference: float) -> float:
        """Return how often a two-sided test of 5 % finds a true difference, by simulated experiments of this spread."""
        runs, users = self.values.shape
        of_runs, of_users, of_both = self.variances
        random = np.random.default_rng(0)
        means = random.normal(difference, math.sqrt(of_runs + of_users), _SIMULATED)
        estimated = np.zeros(_SIMULATED)
        if runs > 1:
            multiple = random.chisquare(runs - 1, _SIMULATED) / (runs - 1)
            estimated = np.maximum((of_runs + of_both) * multiple - of_both, 0.0)
        by_runs, by_users = (float(stats.t.isf(0.025, max(1, size - 1))) for size in (runs, users))
        return float((np.abs(means) > np.sqrt(by_runs**2 * estimated + by_users**2 * of_users)).mean())

    def beyond(
        self, end: float, *, low: bool, tolerance: float, resamples: int = RESAMPLES
    ) -> tuple[float, float]:
        """Return which share of the resamples lies beyond the end of an interval, without and with those on it.

        Args:
            end: The end.
            low: Whether it is the low end.
            tolerance: What counts as on it.
            resamples: How many there are; those of the usual number are drawn once.
        """
        drawn = self.resampled if resamples == RESAMPLES else self._draw(resamples)
        over = (drawn - end) * (1 if low else -1)
        return float((over < -tolerance).mean()), float((over <= tolerance).mean())

    @cached_property
    def resampled(self) -> np.ndarray:
        """Means of the usual number of resamples, drawn once."""
        return self._draw(RESAMPLES)

    def _draw(self, resamples: int) -> np.ndarray:
        """Return bootstrap means, float64 [resamples]: runs and users are drawn, each by themselves.

        Of few runs the spread comes out too small, its square by (S - 1) / S for S runs: the mean of each is first
        moved away from that of all by the root of S / (S - 1). One run is not drawn, its users alone are.
        """
        runs, users = self.values.shape
        known = ~np.isnan(self.values)
        moved = np.where(known, self.values, 0.0)
        if runs > 1:
            own = np.nanmean(self.values, axis=1, keepdims=True)
            moved += known * (math.sqrt(runs / (runs - 1)) - 1) * (own - own.mean())
        stretches = []
        for number in range(math.ceil(resamples / RESAMPLES)):
            of_runs, of_users = (
                _times_drawn(size, (axis, number)) for axis, size in enumerate((runs, users))
            )
            if runs == 1:
                of_runs = np.ones_like(of_runs)
            total, count = (
                ((of_users @ part.T) * of_runs).sum(axis=1) for part in (moved, known.astype(float))
            )
            stretches.append(total / np.maximum(count, 1))
        return np.concatenate(stretches)[:resamples]


@lru_cache(maxsize=4)  # of 5,000 users 80 MB
def _times_drawn(size: int, seed: tuple[int, int]) -> np.ndarray:
    """Return how often each of some is in a bootstrap sample of as many, float64 [resamples, size].

    Samples of one size share them, as they would share a seed.

    Args:
        size: How many there are.
        seed: 0 for runs or 1 for users, and the number of a stretch of ``RESAMPLES`` resamples.
    """
    drawn = np.random.default_rng([size, *seed]).integers(size, size=(RESAMPLES, size))
    cells = drawn + size * np.arange(RESAMPLES)[:, None]
    return np.bincount(cells.ravel(), minlength=cells.size).reshape(cells.shape).astype(float)


def sample(runs: Mapping[int, pd.Series], *, student: bool = True) -> Sample | None:
    """Return the values of each run, by seed, as they are; None with fewer than two users.

    Args:
        runs: Values by seed, indexed by user.
        student: Whether intervals have Student's t.
    """
    return _sample(dict(runs), [], student)


def difference(
    first: Mapping[int, pd.Series], second: Mapping[int, pd.Series], *, student: bool = True
) -> Sample | None:
    """Return ``first - second`` on the seeds and users that both have; None with fewer than two users.

    Args:
        first: Values of one method by seed, indexed by user.
        second: Those of the other.
        student: Whether intervals have Student's t.
    """
    pairs = {
        seed: pd.concat({"first": values, "second": second[seed]}, axis="columns", join="inner")
        for seed, values in first.items()
        if seed in second
    }
    differences = {seed: both["first"] - both["second"] for seed, both in pairs.items()}
    return _sample(differences, [both["second"] for both in pairs.values()], student)


def _sample(runs: dict[int, pd.Series], seconds: list[pd.Series], student: bool) -> Sample | None:
    together = pd.DataFrame(runs).T
    if together.shape[1] < 2:
        return None
    return Sample(
        values=together.to_numpy(dtype=float),
        base=float(pd.concat(seconds).mean()) if seconds else math.nan,
        student=student,
    )
