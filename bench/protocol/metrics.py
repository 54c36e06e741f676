"""Hit@k, NDCG@k and MRR from the rank of the one relevant item, with standard errors over users."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.protocol.statistics import mean_stderr

CUTOFFS = (5, 10, 20)
METRICS = (*(f"{name}@{k}" for k in CUTOFFS for name in ("hit", "ndcg")), "mrr")
"""hit@5, ndcg@5, hit@10, ndcg@10, hit@20, ndcg@20, mrr: the order of every table."""


def per_user(ranks: npt.ArrayLike) -> dict[str, np.ndarray]:
    """Return every metric for every user.

    Args:
        ranks: Rank of each user's target among its candidates, int [users], 1 = best.

    Returns:
        Metric name to float64 [users], in the order of ``METRICS``. With one relevant item the ideal DCG is
        1, so NDCG@k is 1 / log2(1 + rank) within the cutoff and 0 beyond; MRR has no cutoff.

    Raises:
        ValueError: If ranks are not a non-empty vector of integers of at least 1.
    """
    array = np.asarray(ranks)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"ranks must be a non-empty vector of integers, got {array.dtype} {array.shape}")
    if array.min() < 1:
        raise ValueError(f"ranks start at 1, got {array.min()}")
    rank = array.astype(np.float64)
    gain = 1.0 / np.log2(1.0 + rank)
    values: dict[str, np.ndarray] = {}
    for k in CUTOFFS:
        inside = rank <= k
        values[f"hit@{k}"] = inside.astype(np.float64)
        values[f"ndcg@{k}"] = np.where(inside, gain, 0.0)
    values["mrr"] = 1.0 / rank
    return values


def summarise(ranks: npt.ArrayLike) -> dict[str, Any]:
    """Return the mean of every metric and, under ``stderr``, its standard error over users by the same name.

    Args:
        ranks: As in ``per_user``.

    Returns:
        JSON-ready numbers; a standard error is None with a single user.
    """
    means: dict[str, Any] = {}
    errors: dict[str, float | None] = {}
    for name, values in per_user(ranks).items():
        means[name], errors[name] = mean_stderr(values)
    return {**means, "stderr": errors}
