"""Metrics in the whole catalogue, estimated from ranks among sampled candidates.

Hit@10 among 101 candidates is no Hit@10: in a catalogue of 3,700 items it is about Hit@370. Krichene and Rendle, "On
Sampled Metrics for Item Recommendation" (KDD 2020), therefore replace the metric of a sampled rank by other values, one
for each sampled rank, whose mean over samples is as near as it can be to the metric of the full rank. This is their
correction with a trade-off of bias and variance: the values x minimise (E[x | R] - metric(R))^2 + gamma Var[x | R],
summed over all full ranks R with equal weights. Where they have binomial chances, those here are hypergeometric, since
candidates are drawn without replacement.

What remains biased: n items of L do not tell full ranks apart that are closer than about L / n. What is expected at a
full rank is therefore a smoothed metric: too low for targets at the very top, too high for those that stand just below
the cutoff, and the smaller n / L, the more so. Values are fitted to full ranks that are spread evenly, so that a method
with many targets at the top is estimated too low, and differences between methods are too small. A larger gamma adds to
this and takes from the variance. The mean may fall below 0 by a little. And where one point in time splits all users,
the full ranking holds what a user interacted with after the targets, which sampled candidates leave out.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from bench.protocol import metrics
from bench.protocol.metrics import METRICS

GAMMA = 0.1
"""Weight of the variance beside the squared bias."""

MOST = 500
"""Sampled items that values are fitted for; of a larger sample, the mean over all its parts of this size is taken."""

_SINGLY = 2000  # full ranks up to here are taken one by one
_STEP = 0.01  # those above in bins that are so wide, as a share of the rank


def per_user(
    ranks: npt.ArrayLike, *, negatives: int, candidates: npt.ArrayLike, gamma: float = GAMMA
) -> dict[str, np.ndarray]:
    """Return for every target what its sampled rank says of every metric in the whole catalogue.

    Single values mean nothing, only means over many targets do. Where all candidates were sampled, they equal the
    metrics.

    Args:
        ranks: Rank of each target among itself and the sampled items, int [targets], 1 = best.
        negatives: Items sampled for each target, uniformly and without replacement.
        candidates: Items that each target is ranked among in the whole catalogue, itself included: int [targets], or
            one number for all.
        gamma: Weight of the variance, above 0 and at most 1.

    Returns:
        Metric name to float64 [targets], in the order of ``METRICS``.

    Raises:
        ValueError: If ranks are no ranks among so many items, candidates are fewer than were sampled or of another
            number than ranks, or gamma is out of range.
    """
    array = np.asarray(ranks)
    metrics.per_user(array)  # refuses what are no ranks
    if negatives < 1 or array.max() > negatives + 1:
        raise ValueError(f"ranks among {negatives} sampled items end at {negatives + 1}, got {array.max()}")
    sizes = np.asarray(candidates)
    if not np.issubdtype(sizes.dtype, np.integer) or sizes.shape not in ((), array.shape):
        raise ValueError(
            f"candidates must be integers, one for each of {len(array)} targets, got {sizes.dtype} {sizes.shape}"
        )
    if sizes.min() <= negatives:
        raise ValueError(f"{negatives} items cannot be sampled from {sizes.min() - 1} candidates")
    found = np.empty((len(array), len(METRICS)))
    sizes = np.broadcast_to(sizes, array.shape)
    for size in np.unique(sizes):
        same = sizes == size
        distinct, place = np.unique(array[same], return_inverse=True)
        found[same] = _of_ranks(distinct, negatives=negatives, candidates=int(size), gamma=gamma)[place]
    return dict(zip(METRICS, found.T, strict=True))


def _of_ranks(ranks: np.ndarray, *, negatives: int, candidates: int, gamma: float) -> np.ndarray:
    """Return the values of some sampled ranks, float64 [ranks, metrics]."""
    if negatives == candidates - 1:
        return np.stack(list(metrics.per_user(ranks).values()), axis=1)
    if negatives <= MOST:
        return corrected(negatives, candidates, gamma)[ranks - 1]
    # A part of a sample is a sample, too. What its rank would be has chances of the same kind.
    return _chances(ranks, others=negatives, drawn=MOST) @ corrected(MOST, candidates, gamma)


@functools.lru_cache(maxsize=4096)  # methods on the same data share them
def corrected(negatives: int, candidates: int, gamma: float = GAMMA) -> np.ndarray:
    """Return what stands for each metric at each sampled rank, from 1 to negatives + 1.

    Full ranks above 2,000 are taken in bins as wide as a hundredth of the rank, each at its middle: the chances of
    sampled ranks hardly change within one, and a catalogue of a million items takes fewer than 3,000 rows.

    Args:
        negatives: Items sampled.
        candidates: Items of the full ranking, the target included.
        gamma: Weight of the variance, above 0 and at most 1.

    Returns:
        float64 [negatives + 1, metrics] in the order of ``METRICS``; not to be written to.

    Raises:
        ValueError: If gamma is out of range.
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}: give a weight above 0 and at most 1")
    ranks, counts = _full_ranks(candidates)
    weights = counts / candidates
    chances = _chances(ranks, others=candidates - 1, drawn=negatives)
    wanted = np.stack(list(metrics.per_user(ranks).values()), axis=1)
    weighted = chances * weights[:, None]
    # The variance is E[x^2 | R] - E[x | R]^2: the second term takes from the squares of the bias.
    system = (1 - gamma) * (weighted.T @ chances) + gamma * np.diag(weighted.sum(axis=0))
    values: np.ndarray = np.linalg.solve(system, weighted.T @ wanted)
    values.flags.writeable = False
    return values


def _full_ranks(candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """Return full ranks, int64 [bins], and how many ranks each stands for, int64 [bins]."""
    edges = [*range(1, min(candidates, _SINGLY) + 1)]
    while edges[-1] < candidates:
        edges.append(min(edges[-1] + max(1, int(edges[-1] * _STEP)), candidates))
    starts, ends = np.array(edges), np.array([*edges[1:], candidates + 1])
    return (starts + ends - 1) // 2, ends - starts


def _chances(ranks: np.ndarray, *, others: int, drawn: int) -> np.ndarray:
    """Return how likely each sampled rank is for a full rank.

    Args:
        ranks: Full ranks among the target and ``others``, int [ranks], 1 = best.
        others: Items besides the target.
        drawn: How many of them are sampled, uniformly and without replacement.

    Returns:
        float64 [ranks, drawn + 1]: of the ``rank - 1`` items above the target, column j is the chance that j are drawn.
    """
    from scipy.special import gammaln  # a third of a second to import, which only estimates need

    above = np.asarray(ranks, dtype=np.float64)[:, None] - 1
    below = others - above
    taken = np.arange(drawn + 1.0)

    def choose(items: np.ndarray, number: np.ndarray) -> np.ndarray:
        # The logarithm of the factorial of a negative number is infinite: the chance is 0 there, as it should be.
        logarithm: np.ndarray = gammaln(items + 1) - gammaln(number + 1) - gammaln(items - number + 1)
        return logarithm

    logarithms = choose(above, taken) + choose(below, drawn - taken)
    chances = np.exp(logarithms - choose(np.array(float(others)), np.array(float(drawn))))
    scaled: np.ndarray = chances / chances.sum(axis=1, keepdims=True)  # rounding of large logarithms
    return scaled
