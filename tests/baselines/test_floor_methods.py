"""Floors against brute force, on the training part only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from baselines.floors.chance import Chance
from baselines.floors.content_knn import ContentKNN, ContentKNNOptions
from baselines.floors.item_knn import ItemKNN, ItemKNNOptions
from baselines.floors.popularity import Popularity
from baselines.floors.recent_popularity import RecentPopularity, RecentPopularityOptions
from baselines.floors.sequential_rules import SequentialRules, SequentialRulesOptions
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import UnsupportedError
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
    method = Popularity(split=leave_one_out(dataset))
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
        method = Popularity(split=split, seed=seed)
        ranks.append(target_ranks(method.score([np.array([0])] * 6), np.arange(6)))
    # Counts are 1, 3, 0, 0, 1, 0: of those that tie, each is on average in the middle.
    np.testing.assert_allclose(np.mean(ranks, axis=0), [2.5, 1, 5, 5, 2.5, 5], atol=0.15)
    assert np.std(ranks, axis=0)[0] == pytest.approx(0.5, abs=0.01)


def test_random_does_not_depend_on_the_batch() -> None:
    method = Chance(n_items=50, seed=3)
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
    first, second = (Chance(n_items=2000, seed=seed) for seed in (0, 1))
    histories = [np.array([row]) for row in range(20)]
    scores, others = first.score(histories), second.score(histories)
    assert scores.dtype == np.float32 and (scores >= 0).all() and (scores < 1).all()
    shares = np.histogram(scores, bins=10, range=(0, 1))[0] / scores.size
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    assert abs(np.corrcoef(scores[0], scores[1])[0, 1]) < 0.1
    assert abs(np.corrcoef(scores[0], others[0])[0, 1]) < 0.1
    assert abs(np.corrcoef(scores[0, :-1], scores[0, 1:])[0, 1]) < 0.1


def drawn_split(seed: int = 0, *, users: int = 60, n_items: int = 25) -> Split:
    """Return sequences in which some items come often, some twice, and one never."""
    generator = np.random.default_rng(seed)
    sequences = [
        (generator.random(generator.integers(3, 15)) ** 2 * (n_items - 1)).astype(int).tolist()
        for _ in range(users)
    ]
    return leave_one_out(make_dataset(sequences, n_items=n_items))


HISTORIES = [np.array([3]), np.array([7, 2, 2, 9]), np.array([24]), np.arange(12)]


def popularity_breaks(split: Split, scores: np.ndarray, *, seed: int) -> np.ndarray:
    """Return the order of items, best first, by scores and then by popularity."""
    places = Popularity(split=split, seed=seed).score([np.array([0])])[0]
    return np.lexsort((-places, -np.round(scores, 9)))


@pytest.mark.parametrize("options", [ItemKNNOptions(neighbours=4, shrinkage=2.5, window=3), ItemKNNOptions()])
def test_item_knn_is_the_shrunk_cosine_of_its_best_neighbours(options: ItemKNNOptions) -> None:
    split = drawn_split()
    n = split.dataset.n_items
    baskets = [set(split.train(user).tolist()) for user in range(split.dataset.n_users)]
    similar = np.zeros((n, n))
    for one in range(n):
        for other in range(n):
            both = sum(one in basket and other in basket for basket in baskets)
            sizes = [sum(item in basket for basket in baskets) for item in (one, other)]
            if both and one != other:
                similar[one, other] = both / (np.sqrt(sizes[0] * sizes[1]) + options.shrinkage)
        best = sorted(range(n), key=lambda other: (-similar[one, other], other))
        similar[one, best[options.neighbours :]] = 0
    found = ItemKNN(split=split, options=options, seed=3).score(HISTORIES)
    for history, row in zip(HISTORIES, found, strict=True):
        expected = sum(similar[item] for item in set(history[-options.window :].tolist()))
        np.testing.assert_allclose(row, expected, atol=2e-9)
        assert np.argsort(-row).tolist() == popularity_breaks(split, expected, seed=3).tolist()


@pytest.mark.parametrize("distance,window", [(1, 1), (3, 2), (20, 20)])
def test_sequential_rules_weigh_what_followed_by_its_distance(distance: int, window: int) -> None:
    split = drawn_split(1)
    n = split.dataset.n_items
    rules, followed = np.zeros((n, n)), np.zeros(n)
    for user in range(split.dataset.n_users):
        sequence = split.train(user).tolist()
        for at, item in enumerate(sequence):
            followed[item] += at + 1 < len(sequence)
            for apart in range(1, distance + 1):
                if at + apart < len(sequence) and sequence[at + apart] != item:
                    rules[item, sequence[at + apart]] += 1 / apart
    options = SequentialRulesOptions(distance=distance, window=window)
    found = SequentialRules(split=split, options=options, seed=3).score(HISTORIES)
    for history, row in zip(HISTORIES, found, strict=True):
        expected = np.zeros(n)
        for place, item in enumerate(history[::-1][:window], start=1):
            expected += rules[item] / max(followed[item], 1) / place
        np.testing.assert_allclose(row, expected, atol=2e-9)
        assert np.argsort(-row).tolist() == popularity_breaks(split, expected, seed=3).tolist()


def test_recent_popularity_counts_the_latest_part_of_training() -> None:
    dataset = make_dataset([[0, 0, 1, 2, 3], [2, 1, 1, 0, 3], [3, 3, 2, 0, 1]], n_items=5)
    # Held-out interactions are the latest of all; of the nine in training the last three are counted.
    times = np.array([1, 2, 8, 90, 91, 3, 7, 9, 92, 93, 4, 5, 6, 94, 95])
    split = leave_one_out(dataclasses.replace(dataset, times=times))
    method = RecentPopularity(split=split, options=RecentPopularityOptions(share=0.3))
    scores = method.score(HISTORIES)
    np.testing.assert_allclose(scores, np.tile([0.0, 3.0, 0.0, 0.0, 0.0], (len(HISTORIES), 1)), atol=2e-9)
    everything = RecentPopularity(split=split, options=RecentPopularityOptions(share=1.0))
    np.testing.assert_allclose(everything.score(HISTORIES)[0], [2, 3, 2, 2, 0], atol=2e-9)
    with pytest.raises(UnsupportedError, match="does not hold the times"):
        RecentPopularity(split=leave_one_out(dataset), options=RecentPopularityOptions())


@pytest.mark.parametrize("centred", [True, False])
def test_content_knn_is_the_mean_cosine_summed_over_feature_types(centred: bool) -> None:
    generator = np.random.default_rng(0)
    features = {"image": generator.normal(2, 1, (25, 6)), "text": generator.normal(0, 9, (25, 4))}
    features["image"][5] = np.delete(features["image"], 5, axis=0).mean(
        axis=0
    )  # nothing to compare once it is centred
    method = ContentKNN(features=features, options=ContentKNNOptions(window=3, centred=centred))
    for history, row in zip(HISTORIES, method.score(HISTORIES), strict=True):
        expected = np.zeros(25)
        for table in features.values():
            values = table - table.mean(axis=0) * centred
            for one in history[-3:]:
                for other in range(25):
                    norms = np.linalg.norm(values[one]) * np.linalg.norm(values[other])
                    cosine = values[one] @ values[other] / norms if norms > 1e-9 else 0.0
                    expected[other] += cosine / len(history[-3:])
        np.testing.assert_allclose(row, expected, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        lambda split: ItemKNN(split=split, options=ItemKNNOptions()),
        lambda split: SequentialRules(split=split, options=SequentialRulesOptions()),
        lambda split: Popularity(split=split),
    ],
    ids=["item-knn", "sequential-rules", "popularity"],
)
def test_held_out_items_are_not_counted(method) -> None:
    sequences = [[0, 1, 2, 3, 4], [1, 2, 0, 4, 3], [2, 1, 0, 3, 4]]
    changed = [[0, 1, 2, 4, 3], [1, 2, 0, 0, 1], [2, 1, 0, 1, 1]]
    first, second = (method(leave_one_out(make_dataset(each, n_items=5))) for each in (sequences, changed))
    history = [np.array([4, 2, 2, 0])]
    np.testing.assert_array_equal(first.score(history), second.score(history))
