"""Recommended lists against a plain sort, and what is said of them against loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from bench.protocol import lists
from bench.protocol.lists import RecommendedLists, beyond_accuracy, intra_list_similarity


def naive_list(scores: np.ndarray, excluded: np.ndarray, k: int) -> list[int]:
    """Return the best items by score, then by row; -1 where there are no more."""
    left = [item for item in range(len(scores)) if not excluded[item] and scores[item] > -np.inf]
    best = sorted(left, key=lambda item: (-scores[item], item))[:k]
    return best + [-1] * (min(k, len(scores)) - len(best))


@pytest.mark.parametrize("k", [1, 4, 10, 30, 50])
@pytest.mark.parametrize("values", [2, 5, 10**6])
def test_lists_equal_a_plain_sort(k: int, values: int) -> None:
    generator = np.random.default_rng([k, values])
    scores = generator.integers(0, values, (60, 30)).astype(np.float32)
    scores[generator.random((60, 30)) < 0.1] = -np.inf
    exclude = generator.random((60, 30)) < generator.random((60, 1))
    exclude[0], exclude[1], exclude[2, 1:] = True, False, True
    recommended = RecommendedLists(k)
    for start in range(0, 60, 25):
        rows = slice(start, start + 25)
        recommended.add(scores[rows], exclude=exclude[rows])
    expected = [naive_list(*user, k) for user in zip(scores, exclude, strict=True)]
    assert recommended.items.dtype == np.int32 and recommended.items.tolist() == expected


def drawn_lists(generator: np.random.Generator, *, users: int, n_items: int, k: int = 10) -> np.ndarray:
    """Return lists of different items, some of them short or empty."""
    found = np.stack([generator.permutation(n_items)[:k] for _ in range(users)])
    lengths = generator.integers(0, k + 1, (users, 1))
    lengths[:3] = [[0], [1], [k]]
    return np.where(np.arange(k) < lengths, found, -1)


def test_beyond_accuracy_equals_loops() -> None:
    generator = np.random.default_rng(0)
    drawn = drawn_lists(generator, users=7, n_items=80)
    counts = generator.integers(0, 20, 80)
    shown = [int(item) for row in drawn for item in row if item >= 0]
    found = beyond_accuracy(drawn, counts=counts)
    total = sum(int(count) + 1 for count in counts)
    assert found == pytest.approx(
        {
            "coverage": len(set(shown)) / 80,
            "popularity": sum(int(counts[item]) for item in shown) / len(shown) / (sum(counts.tolist()) / 80),
            "novelty": -sum(math.log2((int(counts[item]) + 1) / total) for item in shown) / len(shown),
        }
    )


def test_worked_out_by_hand() -> None:
    # Of four items with 3, 1, 0 and 0 interactions the first two are recommended; shares are 4, 2, 1 and 1 eighths.
    found = beyond_accuracy(np.array([[0, 1], [0, -1]]), counts=np.array([3, 1, 0, 0]))
    assert found == pytest.approx({"coverage": 0.5, "popularity": 7 / 3, "novelty": (1 + 2 + 1) / 3})
    nothing = beyond_accuracy(np.full((2, 2), -1), counts=np.array([3, 1, 0, 0]))
    assert nothing == {"coverage": 0.0, "popularity": None, "novelty": None}


def test_similarity_is_the_mean_cosine_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    drawn = drawn_lists(generator, users=23, n_items=40)
    features = {
        "image": generator.normal(1, 1, (40, 6)).astype(np.float32),
        "text": generator.normal(0, 50, (40, 3)),
        "none": np.zeros((40, 2)),
    }
    features["image"][generator.random(40) < 0.3] = 0
    expected = {}
    for name in ("image", "text"):
        means = []
        for row in drawn:
            there = [item for item in row if item >= 0 and features[name][item].any()]
            vectors = [features[name][item].astype(float) for item in there]
            cosines = [
                one @ other / np.linalg.norm(one) / np.linalg.norm(other)
                for one, other in combinations(vectors, 2)
            ]
            means += [np.mean(cosines)] if cosines else []
        expected[name] = np.mean(means)
    whole = intra_list_similarity(drawn, features)
    assert whole == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(lists, "_CHUNK", 4)
    assert intra_list_similarity(drawn, features) == pytest.approx(whole)


def test_the_first_user_and_lists_of_two_count() -> None:
    features = {"text": np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=np.float32)}
    # Of a pair the cosine is that of the two; a list of one item has no pair, and an item without a feature is none.
    assert intra_list_similarity(np.array([[0, 1]]), features)["text"] == pytest.approx(1)
    assert intra_list_similarity(np.array([[0, 2, 3], [0, 1, 3], [0, 3, -1]]), features)[
        "text"
    ] == pytest.approx(0.5)
    assert intra_list_similarity(np.array([[0, 1, 2]]), features)["text"] == pytest.approx(1 / 3)
    assert intra_list_similarity(np.array([[0, -1], [3, 1]]), features) == {}


def test_items_that_nobody_had_in_training_have_a_popularity_all_the_same() -> None:
    found = beyond_accuracy(np.array([[0, 1]]), counts=np.array([0, 0, 0, 0]))
    assert found == {"coverage": 0.5, "popularity": 0.0, "novelty": 2.0}


def test_lists_have_ten_items_unless_told_otherwise() -> None:
    recommended = RecommendedLists()
    recommended.add(np.arange(12.0)[None], exclude=np.zeros((1, 12), dtype=bool))
    assert recommended.items.tolist() == [[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]]
