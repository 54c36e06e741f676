"""Ranks of targets, against a loop in Python; what cannot be ranked is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from illmrec.errors import DivergedError
from illmrec.ranking import mean_ndcg, target_ranks

SCORES = np.array(
    [[0.3, 0.9, 0.9, 0.1, 0.5], [0.2, 0.2, 0.2, 0.2, 0.2], [5.0, 4.0, 3.0, 2.0, 1.0]], np.float32
)
TARGETS = np.array([1, 4, 2])


def looped(user: int, candidates: list[int]) -> int:
    target = int(TARGETS[user])
    return 1 + sum(SCORES[user][item] >= SCORES[user][target] for item in candidates if item != target)


def test_ranks_among_the_catalogue_equal_a_loop() -> None:
    found = target_ranks(SCORES, TARGETS)
    assert found.tolist() == [looped(user, list(range(5))) for user in range(3)] == [2, 5, 3]
    assert found.dtype == np.int64


def test_what_is_excluded_does_not_count_and_the_target_is_a_candidate_all_the_same() -> None:
    exclude = np.zeros(SCORES.shape, dtype=bool)
    exclude[0, [1, 2]] = True  # the target itself among them
    exclude[1, [0, 1, 2]] = True
    found = target_ranks(SCORES, TARGETS, exclude=exclude)
    assert found.tolist() == [looped(0, [0, 3, 4]), looped(1, [3]), looped(2, [0, 1, 3, 4])] == [1, 2, 3]


def test_candidates_that_repeat_the_target_do_not_count_it() -> None:
    candidates = np.array([[1, 2, 3], [4, 4, 0], [0, 1, 4]])
    found = target_ranks(SCORES, TARGETS, candidates=candidates)
    assert found.tolist() == [looped(user, candidates[user].tolist()) for user in range(3)] == [2, 2, 3]


@pytest.mark.parametrize("item", [1, 0])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_compared_must_be_finite(item: int, value: float) -> None:
    scores = SCORES.copy()
    scores[0, item] = value  # of the target, of another item
    with pytest.raises(DivergedError, match="not finite"):
        target_ranks(scores, TARGETS)
    with pytest.raises(DivergedError, match="not finite"):
        target_ranks(scores, TARGETS, candidates=np.array([[0, 2], [0, 1], [0, 1]]))


def test_a_score_that_is_not_compared_may_be_anything() -> None:
    scores = SCORES.copy()
    scores[0, 3] = np.nan
    exclude = np.isnan(scores)
    assert target_ranks(scores, TARGETS, exclude=exclude).tolist() == [2, 5, 3]
    assert target_ranks(scores, TARGETS, candidates=np.array([[0, 2], [0, 1], [0, 1]])).tolist() == [2, 3, 3]


def test_mean_ndcg_is_that_of_single_relevant_items() -> None:
    ranks = np.array([1, 2, 3, 4])
    # At 3: 1 / log2(2), 1 / log2(3), 1 / log2(4) and nothing.
    assert mean_ndcg(ranks, 3) == pytest.approx((1 + 1 / math.log2(3) + 0.5) / 4)
    assert mean_ndcg(ranks, 1) == 0.25
    assert isinstance(mean_ndcg(ranks, 3), float)
