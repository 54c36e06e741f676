"""Popularity counts the training part only; random depends on seed, history and item only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from baselines.popularity import Popularity, Random
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.ranking import target_ranks


def make_dataset(sequences: list[list[int]], n_items: int) -> Dataset:
    lengths = [len(sequence) for sequence in sequences]
    items = pd.DataFrame({column: [f"{column} {row}" for row in range(n_items)] for column in ITEM_COLUMNS})
    return Dataset(
        name="tiny",
        items=items,
        user_ids=np.array([f"u{user}" for user in range(len(sequences))], dtype=object),
        sequence_items=np.concatenate(sequences).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


def test_popularity_counts_training_interactions_only() -> None:
    dataset = make_dataset([[0, 1, 1, 2, 3], [1, 4, 3, 2]], n_items=6)
    method = Popularity()
    method.fit(dataset, leave_one_out(dataset))
    scores = method.score([np.array([0]), np.array([5, 4])])
    assert scores.dtype == np.float32
    counts = np.array([1, 3, 0, 0, 1, 0])
    for row in scores:
        assert (np.diff(counts[np.argsort(row)]) >= 0).all()


def test_ties_of_popularity_are_broken_fairly() -> None:
    dataset = make_dataset([[0, 1, 1, 2, 3], [1, 4, 3, 2]], n_items=6)
    split = leave_one_out(dataset)
    ranks = []
    for seed in range(400):
        method = Popularity()
        method.fit(dataset, split, seed=seed)
        ranks.append(target_ranks(method.score([np.array([0])] * 6), np.arange(6)))
    # Counts are 1, 3, 0, 0, 1, 0: of those that tie, each is on average in the middle.
    np.testing.assert_allclose(np.mean(ranks, axis=0), [2.5, 1, 5, 5, 2.5, 5], atol=0.15)
    assert np.std(ranks, axis=0)[0] == pytest.approx(0.5, abs=0.01)


def test_popularity_survives_saving(tmp_path: Path) -> None:
    dataset = make_dataset([[0, 1, 1, 2, 3]], n_items=5)
    method = Popularity()
    method.fit(dataset, leave_one_out(dataset))
    method.save(tmp_path)
    history = [np.array([0])]
    np.testing.assert_array_equal(Popularity.load(tmp_path).score(history), method.score(history))


def test_random_does_not_depend_on_the_batch() -> None:
    dataset = make_dataset([[0, 1, 1, 2, 3]], n_items=50)
    method = Random()
    method.fit(dataset, leave_one_out(dataset), seed=3)
    generator = np.random.default_rng(0)
    histories = [generator.integers(0, 50, size).astype(np.int32) for size in (1, 4, 9, 4)]
    together = method.score(histories)
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(method.score([histories[row] for row in order]), together[order])
    alone = np.concatenate([method.score([history]) for history in histories])
    np.testing.assert_array_equal(alone, together)
    # The integer type of a history is no part of what it says.
    np.testing.assert_array_equal(method.score([history.astype(np.int64) for history in histories]), together)


def test_random_is_uniform_and_differs_by_seed_and_history() -> None:
    dataset = make_dataset([[0, 1, 1, 2, 3]], n_items=2000)
    split = leave_one_out(dataset)
    first, second = Random(), Random()
    first.fit(dataset, split, seed=0)
    second.fit(dataset, split, seed=1)
    histories = [np.array([row]) for row in range(20)]
    scores, others = first.score(histories), second.score(histories)
    assert scores.dtype == np.float32 and (scores >= 0).all() and (scores < 1).all()
    shares = np.histogram(scores, bins=10, range=(0, 1))[0] / scores.size
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    assert abs(np.corrcoef(scores[0], scores[1])[0, 1]) < 0.1
    assert abs(np.corrcoef(scores[0], others[0])[0, 1]) < 0.1
    assert abs(np.corrcoef(scores[0, :-1], scores[0, 1:])[0, 1]) < 0.1


def test_random_survives_saving(tmp_path: Path) -> None:
    dataset = make_dataset([[0, 1, 1, 2, 3]], n_items=7)
    method = Random()
    method.fit(dataset, leave_one_out(dataset), seed=-5)
    method.save(tmp_path)
    history = [np.array([2, 1])]
    np.testing.assert_array_equal(Random.load(tmp_path).score(history), method.score(history))


@pytest.mark.parametrize("method", [Popularity, Random])
def test_an_empty_folder_is_named(method: type, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no saved .*train it again"):
        method.load(tmp_path)
