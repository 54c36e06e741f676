"""The rank of each user's target item, computed in one place for every method."""

from __future__ import annotations

import numpy as np

from illmrec.errors import DivergedError


def target_ranks(
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    candidates: np.ndarray | None = None,
    exclude: np.ndarray | None = None,
) -> np.ndarray:
    """Rank each target among its candidates: 1 + the number of other candidates that score at least as high.

    Ties count against the target, so that a method that gives every item the same score is worst, not best.

    Args:
        scores: Float [users, n_items], higher is better.
        targets: Int [users], item row numbers.
        candidates: Int [users, n_candidates] item row numbers. A column that holds the target itself is not
            counted against it. ``None`` ranks the whole catalogue.
        exclude: Bool [users, n_items], items that are no candidates (the user's history) when ``candidates``
            is ``None``. The target is always a candidate.

    Returns:
        Int64 [users], 1 is best.

    Raises:
        DivergedError: If a score that would be compared is not finite.
    """
    users = np.arange(len(targets))
    target_scores = scores[users, targets][:, None]
    if candidates is not None:
        compared = scores[users[:, None], candidates]
        counted = candidates != targets[:, None]
    else:
        compared = scores
        counted = np.ones(scores.shape, dtype=bool) if exclude is None else ~exclude
        counted[users, targets] = False
    if not (np.isfinite(compared[counted]).all() and np.isfinite(target_scores).all()):
        raise DivergedError(
            "a score is not finite: the model diverged or its features hold NaN; a lower learning rate may help"
        )
    return 1 + np.count_nonzero(counted & (compared >= target_scores), axis=1).astype(np.int64)


def mean_ndcg(ranks: np.ndarray, k: int) -> float:
    """Return mean NDCG@k for one relevant item per user: ``1 / log2(1 + rank)`` where ``rank <= k``, else 0."""
    return float(np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0).mean())
