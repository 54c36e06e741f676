"""Uncertainty of a mean over users, and paired tests between two methods on the same users."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.protocol.variance import Spread, variances

LEAST_RUNS = 3
"""Training runs below which a difference decides nothing: one does not tell how far runs differ, two hardly do."""

_VALUES_AT_ONCE = 4_000_000
_VALUES_KEPT = 12_500_000
"""Of 6,000 users; 100 MB."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of a paired difference with its confidence interval.

    Attributes:
        mean: The mean over seeds and users.
        low: Low end of the interval.
        high: High end.
        confidence: Of the interval.
        spread: Its variance, from training runs and from users.
    """

    mean: float
    low: float
    high: float
    confidence: float
    spread: Spread

    @property
    def seeds(self) -> int:
        """Training runs that it is made of."""
        return self.spread.runs

    @property
    def users(self) -> int:
        """Users that it is made of."""
        return self.spread.users

    @property
    def stderr(self) -> float:
        """Standard error, over users and, where there are several, training runs."""
        return self.spread.stderr

    @property
    def p_value(self) -> float:
        """Two-sided p value of no difference, by Student's t of runs and of users."""
        return self.spread.p_value(self.mean)

    @property
    def detectable(self) -> float:
        """The smallest true difference that such an experiment finds four times in five (two-sided, 5 %)."""
        return self.spread.detectable()


def mean_interval(
    blocks: npt.ArrayLike, *, confidence: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """Return the interval of a mean over a few blocks by Student's t, or nothing with a single block.

    Args:
        blocks: Float [blocks], one value each, such as a latency in every repeat.
        confidence: Of the interval.
    """
    from scipy import stats  # half a second to import, which only timings need

    array = np.asarray(blocks, dtype=np.float64)
    if len(array) < 2:
        return None, None
    half = stats.t.ppf((1 + confidence) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    return float(array.mean() - half), float(array.mean() + half)


def mean_stderr(values: npt.ArrayLike) -> tuple[float, float | None]:
    """Return the mean of one value per user and its standard error; None with a single user.

    Raises:
        ValueError: If there are no values, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError("a mean needs a non-empty vector of finite values")
    if array.size == 1:
        return float(array[0]), None
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(array.size))


def paired_bootstrap(
    differences: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Return the mean of paired differences with an interval over training runs and users.

    Both are redrawn, independently (the "pigeonhole" bootstrap of crossed factors, Owen 2007): another run on the same
    users differs, and so do other users with the same run. The mean of each of S runs is first moved away from that of
    all by sqrt(S / (S - 1)), without which redrawing S runs has too small a spread. Since S is small, the ends are then
    moved away from the mean as far as Student's t has them farther out than the normal distribution
    (:class:`~bench.protocol.variance.Spread`). A single run is not redrawn: its interval is over users alone.

    Args:
        differences: Float [runs, users], or [users] of one run, first minus second; NaN where a run did not evaluate a
            user.
        confidence: Coverage of the interval, in (0, 1).
        resamples: How many times both are redrawn.
        seed: Seed of the redrawing.

    Raises:
        ValueError: If there is no value, a run or a user has none, or one is infinite.
    """
    values = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    known = ~np.isnan(values)
    if values.ndim != 2 or not known.any(axis=0).all() or not known.any(axis=1).all() or not values.size:
        raise ValueError("paired differences are [runs, users] and every run and user has some")
    if np.isinf(values).any():
        raise ValueError("paired values must be finite")
    runs, users = values.shape
    mean = float(values[known].mean())
    filled = np.where(known, values, 0.0)
    if runs > 1:
        own = filled.sum(axis=1) / known.sum(axis=1)
        filled += np.where(known, ((math.sqrt(runs / (runs - 1)) - 1) * (own - own.mean()))[:, None], 0.0)
    complete = bool(known.all())
    means = []
    for of_runs, of_users in _redrawn(runs, users, resamples=resamples, seed=seed):
        total = ((of_users @ filled.T) * of_runs).sum(axis=1)
        counted = float(known.size) if complete else ((of_users @ known.T) * of_runs).sum(axis=1)
        means.append(total / np.maximum(counted, 1.0))
    tail = (1 - confidence) / 2
    spread = _spread(values)
    low, high = mean + (np.quantile(np.concatenate(means), [tail, 1 - tail]) - mean) * spread.widening(
        2 * tail
    )
    return Difference(mean=mean, low=float(low), high=float(high), confidence=confidence, spread=spread)


Redrawn = tuple[np.ndarray, np.ndarray]
"""How often each run and each user is in each resample: float64 [resamples, runs] and [resamples, users]."""


def _redrawn(runs: int, users: int, *, resamples: int, seed: int) -> Iterable[Redrawn]:
    """Return resamples, some at a time; those of a page's size are kept, since its differences share them."""
    if resamples * users <= _VALUES_KEPT:
        return _kept(runs, users, resamples, seed)
    return _stretches(runs, users, resamples, seed)


@lru_cache(maxsize=3)
def _kept(runs: int, users: int, resamples: int, seed: int) -> list[Redrawn]:
    return list(_stretches(runs, users, resamples, seed))


def _stretches(runs: int, users: int, resamples: int, seed: int) -> Iterator[Redrawn]:
    rng = np.random.default_rng(seed)
    step = max(1, _VALUES_AT_ONCE // users)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        of_runs = rng.multinomial(runs, np.full(runs, 1 / runs), size=size).astype(np.float64)
        drawn = rng.integers(0, users, size=(size, users)) + np.arange(size)[:, None] * users
        of_users = np.bincount(drawn.ravel(), minlength=size * users).reshape(size, users)
        yield of_runs, of_users.astype(np.float64)


def _spread(values: np.ndarray) -> Spread:
    """Return the variance of the mean of [runs, users]; none of a single user, who does not tell."""
    runs, users = values.shape
    if users == 1:
        of_runs = float(values.var(ddof=1)) / runs if runs > 1 else 0.0
        return Spread(of_runs=of_runs, of_users=0.0, runs=runs, users=users)
    return variances(values).spread(users=users, runs=runs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979): the chance of any false finding among all is bounded."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    least = 0.0
    for place, number in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * float(p_values[number])))
        adjusted[number] = least
    return adjusted.tolist()


def differ(both: pd.DataFrame) -> bool:
    """Tell whether two columns differ by a test of 5 %, at once: by their variances, without a bootstrap.

    Args:
        both: As for :func:`paired_interval`.
    """
    values = _runs(both).to_numpy()
    spread = _spread(values)
    return bool(abs(np.nanmean(values)) > spread.margin())


def _runs(both: pd.DataFrame) -> pd.DataFrame:
    differences = both["first"] - both["second"]
    return differences.unstack() if both.index.nlevels > 1 else differences.to_frame().T


def paired_interval(both: pd.DataFrame, *, confidence: float = 0.95) -> Difference:
    """Return the mean of ``first - second`` with its bootstrap interval over training runs and users.

    Args:
        both: Columns first and second, indexed by seed and user_id, or by users alone where there are no seeds.
        confidence: Of the interval.
    """
    runs = _runs(both)
    # Above 10,000 users intervals are narrow, and fewer resamples do.
    resamples = max(999, min(2000, 5 * _VALUES_AT_ONCE // runs.shape[1]))
    return paired_bootstrap(runs.to_numpy(), confidence=confidence, resamples=resamples)
