"""Metrics, differences and their intervals from ranks by ir-measures and scipy; nothing of the toolkit is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

CUTOFFS = (5, 10, 20)
METRICS = (*(f"{name}@{k}" for k in CUTOFFS for name in ("hit", "ndcg")), "mrr")
RESAMPLES = 1999


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
    """

    values: np.ndarray
    base: float = math.nan

    @property
    def mean(self) -> float:
        """Mean over runs and users."""
        return float(np.nanmean(self.values))

    @property
    def stderr(self) -> float:
        """Standard error by resampling runs and users."""
        return float(self._resampled.standard_error)

    @property
    def deviate(self) -> float:
        """How many standard errors the mean is from 0; 0 or infinity where there is no error."""
        return abs(self.mean) / self.stderr if self.stderr > 0 else math.inf if self.mean else 0.0

    def beyond(self, end: float, *, low: bool, tolerance: float) -> tuple[float, float]:
        """Return which share of the resamples lies beyond the end of an interval, without and with those on it.

        Args:
            end: The end.
            low: Whether it is the low end.
            tolerance: What counts as on it.
        """
        over = (self._resampled.bootstrap_distribution - end) * (1 if low else -1)
        return float((over < -tolerance).mean()), float((over <= tolerance).mean())

    @cached_property
    def _resampled(self) -> Any:
        """scipy's bootstrap of the mean: runs and users are two samples, each drawn by itself.

        Of few runs the spread comes out too small, its square by (S - 1) / S for S runs: the mean of each is first
        moved away from that of all by the root of S / (S - 1). One run is not drawn, its users alone are.
        """
        runs, users = self.values.shape
        known = ~np.isnan(self.values)
        moved = np.where(known, self.values, 0.0)
        if runs > 1:
            own = np.nanmean(self.values, axis=1, keepdims=True)
            moved += known * (math.sqrt(runs / (runs - 1)) - 1) * (own - own.mean())

        def mean(of_users: np.ndarray, of_runs: np.ndarray | None = None, *, axis: int = -1) -> Any:
            """Return the mean of each of several draws, [..., users] and [..., runs]."""
            times = np.ones((1, 1)) if of_runs is None else (of_runs[..., None] == np.arange(runs)).sum(-2)
            total, count = (
                np.take_along_axis(np.broadcast_to(times @ part, of_users.shape), of_users, axis).sum(axis)
                for part in (moved, known.astype(float))
            )
            return total / np.maximum(count, 1)

        samples = [np.arange(users), *([np.arange(runs)] if runs > 1 else [])]
        return stats.bootstrap(
            samples,
            mean,
            n_resamples=RESAMPLES,
            batch=25,  # scipy holds the drawn users of a batch at once
            vectorized=True,
            method="percentile",
            random_state=0,
        )


def sample(runs: Mapping[int, pd.Series]) -> Sample | None:
    """Return the values of each run, by seed, as they are; None with fewer than two users."""
    return _sample(dict(runs), [])


def difference(first: Mapping[int, pd.Series], second: Mapping[int, pd.Series]) -> Sample | None:
    """Return ``first - second`` on the seeds and users that both have; None with fewer than two users.

    Args:
        first: Values of one method by seed, indexed by user.
        second: Those of the other.
    """
    pairs = {
        seed: pd.concat({"first": values, "second": second[seed]}, axis="columns", join="inner")
        for seed, values in first.items()
        if seed in second
    }
    differences = {seed: both["first"] - both["second"] for seed, both in pairs.items()}
    return _sample(differences, [both["second"] for both in pairs.values()])


def _sample(runs: dict[int, pd.Series], seconds: list[pd.Series]) -> Sample | None:
    together = pd.DataFrame(runs).T
    if together.shape[1] < 2:
        return None
    return Sample(
        values=together.to_numpy(dtype=float), base=float(pd.concat(seconds).mean()) if seconds else math.nan
    )
