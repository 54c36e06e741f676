"""Uncertainty of a mean over users, and paired tests between two methods on the same users."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_VALUES_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean of a paired difference with its confidence interval."""

    mean: float
    low: float
    high: float
    confidence: float


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
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Return the mean of ``first - second`` with its percentile bootstrap interval over users.

    Args:
        first: One metric value per user, float [users].
        second: The same metric of the other method, for the same users in the same order.
        confidence: Coverage of the interval, in (0, 1).
        resamples: How many times the users are redrawn with replacement.
        seed: Seed of the redrawing.

    Raises:
        ValueError: If the two are not vectors of one length, or one value is not finite.
    """
    differences = _paired_differences(first, second)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _VALUES_AT_ONCE // differences.size)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = rng.integers(0, differences.size, size=(stop - start, differences.size))
        means[start:stop] = differences[drawn].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(mean=float(differences.mean()), low=float(low), high=float(high), confidence=confidence)


def paired_permutation(
    first: npt.ArrayLike, second: npt.ArrayLike, *, resamples: int = 9999, seed: int = 0
) -> float:
    """Return the two-sided p value of a paired permutation test on the mean difference.

    If neither is better, each difference has a random sign; p = (1 + sign flips at least as far from 0 as
    what was seen) / (1 + flips), so it is never 0. Arguments as in ``paired_bootstrap``.
    """
    differences = _paired_differences(first, second)
    rng = np.random.default_rng(seed)
    # Rounding must not make an equal sum look smaller.
    seen = abs(differences.sum()) * (1 - 1e-12)
    as_far = 0
    step = max(1, _VALUES_AT_ONCE // differences.size)
    for start in range(0, resamples, step):
        flips = (
            rng.integers(0, 2, size=(min(step, resamples - start), differences.size), dtype=np.int8) * 2 - 1
        )
        as_far += int((np.abs(flips @ differences) >= seen).sum())
    return (1 + as_far) / (1 + resamples)


def wilcoxon(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return the two-sided p value of the Wilcoxon signed-rank test; 1 where no user differs.

    Users with equal values are left out, as Wilcoxon proposed. Arguments as in ``paired_bootstrap``.
    """
    differences = _paired_differences(first, second)
    if not differences.any():
        return 1.0
    # Its import takes half a second, and the report needs nothing else of it.
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="wilcox").pvalue)


def _paired_differences(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    left = np.asarray(first, dtype=np.float64)
    right = np.asarray(second, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape or left.size == 0:
        raise ValueError(
            f"paired values must be two vectors over the same users, got {left.shape} and {right.shape}"
        )
    differences = left - right
    if not np.isfinite(differences).all():
        raise ValueError("paired values must be finite")
    return differences
