"""Hit@k, NDCG@k and MRR from the ranks of single relevant items, with standard errors over users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.protocol.statistics import mean_stderr

CUTOFFS = (5, 10, 20)
METRICS = (*(f"{name}@{k}" for k in CUTOFFS for name in ("hit", "ndcg")), "mrr")
"""hit@5, ndcg@5, hit@10, ndcg@10, hit@20, ndcg@20, mrr: the order of every table."""


def per_user(ranks: npt.ArrayLike, *, users: npt.ArrayLike | None = None) -> dict[str, np.ndarray]:
    """Return every metric for every user.

    Args:
        ranks: Rank of each target among its candidates, int [targets], 1 = best.
        users: Whose each target is, [targets], where users may have several: the value of a user is the mean over
            them. None where each user has one.

    Returns:
        Metric name to float64 [users], in the order of ``METRICS``, the users in that of their first targets. With one
        relevant item the ideal DCG is 1, so NDCG@k is 1 / log2(1 + rank) within the cutoff and 0 beyond; MRR has no
        cutoff.

    Raises:
        ValueError: If ranks are not a non-empty vector of integers of at least 1, or users are of another number.
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
    if users is None:
        return values
    return mean_by_user(values, users)


def mean_by_user(values: Mapping[str, np.ndarray], users: npt.ArrayLike) -> dict[str, np.ndarray]:
    """Return the means of every user's values, float64 [users], the users in the order of their first ones.

    Args:
        values: By name, [targets].
        users: Whose each target is, [targets].

    Raises:
        ValueError: If there are not as many users as values.
    """
    numbers, owners = pd.factorize(np.asarray(users))
    if any(value.shape != numbers.shape for value in values.values()):
        raise ValueError(f"{len(numbers)} users are not one for each target")
    targets = np.bincount(numbers, minlength=len(owners))
    return {name: np.bincount(numbers, weights=value) / targets for name, value in values.items()}


def by_user(ranks: pd.DataFrame, candidates: str, *, metric: str = "ndcg@10") -> pd.Series:
    """Return a metric of every user from stored ranks, float64 indexed by user_id in the order of the table.

    Args:
        ranks: As ``bench.protocol.evaluation.evaluate`` returns them: one row for each target of a user.
        candidates: ``sampled`` or ``full``.
        metric: Of ``METRICS``.
    """
    users = ranks["user_id"]
    values = per_user(ranks[f"rank_{candidates}"].to_numpy(), users=users)[metric]
    return pd.Series(values, index=pd.Index(users.unique(), name="user_id"))


def summarise(ranks: npt.ArrayLike, *, users: npt.ArrayLike | None = None) -> dict[str, Any]:
    """Return the mean of every metric and, under ``stderr``, its standard error over users by the same name.

    Args:
        ranks: As in ``per_user``.
        users: As in ``per_user``.

    Returns:
        JSON-ready numbers; a standard error is None with a single user.
    """
    return summary(per_user(ranks, users=users))


def summary(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what ``summarise`` returns of every user's values, by name, [users]."""
    means: dict[str, Any] = {}
    errors: dict[str, float | None] = {}
    for name, of_users in values.items():
        means[name], errors[name] = mean_stderr(of_users)
    return {**means, "stderr": errors}
