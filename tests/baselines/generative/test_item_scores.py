"""The probability of every item: brute force over prefixes, and what a user costs the network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.generative.item_scores import CatalogueScores
from baselines.generative.trie import build_trie

VOCABULARY, USERS = 7, 3
END = 6


class PrefixWriter:
    """Logits are drawn by user and by all that was written before, whatever the way there."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.asked: list[tuple[int, ...]] = []
        self._rows: list[tuple[int, ...]] = []

    def begin(self) -> Tensor:
        return self._of([(user,) for user in range(USERS)])

    def step(self, parents: Tensor, tokens: Tensor) -> Tensor:
        before = [self._rows[parent] for parent in parents.tolist()]
        return self._of([(*row, token) for row, token in zip(before, tokens.tolist(), strict=True)])

    def _of(self, rows: list[tuple[int, ...]]) -> Tensor:
        self._rows = rows
        self.asked += rows
        found = torch.from_numpy(np.stack([logits(row) for row in rows]))
        return found.fill_(float("nan")) if self.broken else found


def logits(row: tuple[int, ...]) -> np.ndarray:
    return 2 * np.random.default_rng(row).normal(size=VOCABULARY).astype(np.float32)


def equal_lengths() -> list[np.ndarray]:
    words = np.array(list(itertools.product(range(3), range(4), range(2))))
    return list(np.random.default_rng(0).permutation(words)[:15])


def different_lengths() -> list[np.ndarray]:
    words = [(0,), (0, 1), (0, 1, 2), (3, 3, 3, 3, 3), (3, 3, 1), (5,), (4, 2), (4, 0)]
    return [np.array([*word, END]) for word in words]


def by_brute_force(sequences: list[np.ndarray]) -> np.ndarray:
    items = [tuple(sequence.tolist()) for sequence in sequences]
    found = np.zeros((USERS, len(items)))
    for user, (item, word) in itertools.product(range(USERS), enumerate(items)):
        for place, token in enumerate(word):
            legal = sorted(
                {other[place] for other in items if other[:place] == word[:place] and len(other) > place}
            )
            values = logits((user, *word[:place])).astype(np.float64)
            found[user, item] += values[token] - np.log(np.exp(values[legal]).sum())
    return found


@pytest.mark.parametrize("sequences", [equal_lengths(), different_lengths()], ids=["equal", "different"])
def test_probabilities_are_those_of_brute_force_and_sum_to_one(sequences: list[np.ndarray]) -> None:
    scores = CatalogueScores(build_trie(sequences)).of(PrefixWriter(), users=USERS)
    assert scores.dtype == np.float32 and scores.shape == (USERS, len(sequences))
    np.testing.assert_allclose(scores, by_brute_force(sequences), atol=1e-5)
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("sequences", [equal_lengths(), different_lengths()], ids=["equal", "different"])
def test_a_user_costs_the_beginnings_that_items_share(sequences: list[np.ndarray]) -> None:
    writer, catalogue = PrefixWriter(), CatalogueScores(build_trie(sequences))
    catalogue.of(writer, users=USERS)
    beginnings = [
        tuple(sequence[:place].tolist()) for sequence in sequences for place in range(len(sequence))
    ]
    shared = {beginning for beginning in beginnings if beginnings.count(beginning) > 1}
    assert sorted(writer.asked) == sorted((user, *beginning) for user in range(USERS) for beginning in shared)
    assert catalogue.steps == len(shared)
    assert catalogue.widest == max(sum(len(each) == place for each in shared) for place in range(6))


def test_a_catalogue_of_one_item_is_certain() -> None:
    writer = PrefixWriter()
    scores = CatalogueScores(build_trie([np.array([1, 2])])).of(writer, users=USERS)
    np.testing.assert_array_equal(scores, np.zeros((USERS, 1)))
    assert len(writer.asked) == USERS


def test_a_network_that_diverged_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        CatalogueScores(build_trie(equal_lengths())).of(PrefixWriter(broken=True), users=USERS)
