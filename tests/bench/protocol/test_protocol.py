from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from bench.protocol.evaluation import evaluate
from bench.protocol.lists import RecommendedLists
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import Split, leave_one_out

N_ITEMS = 60
NEGATIVES = 20


class HashScorer:
    """Scores with many ties that depend on the history alone, so not on who else is in the chunk."""

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        rows = [np.random.default_rng(int(h.sum())).integers(0, 12, N_ITEMS) for h in histories]
        return np.stack(rows).astype(np.float32)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(1)
    sequences = [rng.integers(0, N_ITEMS, size=rng.integers(5, 30)) for _ in range(23)]
    sequences[4][-1] = sequences[4][0]  # the test target repeats an item of the history
    items = pd.DataFrame({column: [f"{column} {i}" for i in range(N_ITEMS)] for column in ITEM_COLUMNS})
    return Dataset(
        name="random",
        items=items,
        user_ids=np.array([f"u{u}" for u in range(len(sequences))], dtype=object),
        sequence_items=np.concatenate(sequences).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return leave_one_out(dataset)


@pytest.fixture(scope="module")
def negatives(dataset: Dataset) -> np.ndarray:
    return draw_negatives(dataset, seed=0, n=NEGATIVES)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_equals_a_loop_over_users_and_items(
    dataset: Dataset, split: Split, negatives: np.ndarray, part: str
) -> None:
    frame = evaluate(HashScorer(), dataset, split, negatives=negatives, part=part, progress=False)
    assert list(frame.columns) == ["user_id", "history_length", "rank_sampled", "rank_full"]
    assert [str(frame[column].dtype) for column in frame.columns[1:]] == ["int32"] * 3
    from_end = {"test": 1, "valid": 2}[part]
    for user, row in frame.iterrows():
        sequence = dataset.sequence(user).tolist()
        history, target = sequence[:-from_end], sequence[-from_end]
        scores = HashScorer().score([np.array(history)])[0]
        sampled = [item for item in negatives[user] if scores[item] >= scores[target]]
        full = [
            item
            for item in range(N_ITEMS)
            if item != target and item not in history and scores[item] >= scores[target]
        ]
        assert row["user_id"] == f"u{user}"
        assert row["history_length"] == len(history)
        assert row["rank_sampled"] == 1 + len(sampled)
        assert row["rank_full"] == 1 + len(full)


@pytest.mark.parametrize("chunk", [1, 4, 23, 1000])
def test_ranks_do_not_depend_on_the_chunk(
    dataset: Dataset, split: Split, negatives: np.ndarray, chunk: int
) -> None:
    expected = evaluate(HashScorer(), dataset, split, negatives=negatives, progress=False)
    frame = evaluate(HashScorer(), dataset, split, negatives=negatives, chunk=chunk, progress=False)
    pd.testing.assert_frame_equal(frame, expected)


def test_selected_users_keep_their_own_ranks(dataset: Dataset, split: Split, negatives: np.ndarray) -> None:
    users = np.array([17, 4, 9])
    everyone = evaluate(HashScorer(), dataset, split, negatives=negatives, progress=False)
    some = evaluate(HashScorer(), dataset, split, negatives=negatives, users=users, progress=False)
    pd.testing.assert_frame_equal(some, everyone.iloc[users].reset_index(drop=True))


def test_equal_scores_put_the_target_last(dataset: Dataset, split: Split, negatives: np.ndarray) -> None:
    class Constant:
        def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
            return np.zeros((len(histories), N_ITEMS), dtype=np.float32)

    frame = evaluate(Constant(), dataset, split, negatives=negatives, progress=False)
    assert (frame["rank_sampled"] == NEGATIVES + 1).all()


def test_scores_of_a_wrong_shape_or_value_are_refused(
    dataset: Dataset, split: Split, negatives: np.ndarray
) -> None:
    class Short:
        def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
            return np.zeros((len(histories), N_ITEMS - 1), dtype=np.float32)

    class NotFinite:
        def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
            return np.full((len(histories), N_ITEMS), np.nan, dtype=np.float32)

    with pytest.raises(ValueError, match=r"Short: score returned \(23, 59\), expected \(23, 60\)"):
        evaluate(Short(), dataset, split, negatives=negatives, progress=False)
    with pytest.raises(ValueError, match="not finite"):
        evaluate(NotFinite(), dataset, split, negatives=negatives, progress=False)


@pytest.mark.parametrize("chunk", [5, 1000])
def test_scores_of_users_are_theirs_and_what_has_none_ties_below_all(
    dataset: Dataset, split: Split, negatives: np.ndarray, chunk: int
) -> None:
    generator = np.random.default_rng(3)
    table = generator.integers(-4, 0, (dataset.n_users, N_ITEMS)).astype(np.float32)
    table[generator.random(table.shape) < 0.6] = -np.inf
    table[5] = -np.inf

    class Given:
        def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
            assert [len(split.history(int(user), "test")) for user in users] == list(map(len, histories))
            return table[users]

    users, lists = np.array([17, 4, 9, 5, 0, 22, 1]), RecommendedLists(10)
    frame = evaluate(
        Given(), dataset, split, negatives=negatives, users=users, lists=lists, chunk=chunk, progress=False
    )
    for place, user in enumerate(users):
        scores, target = table[user], split.targets("test")[user]
        history = set(split.history(int(user), "test").tolist())
        others = [item for item in range(N_ITEMS) if item != target and item not in history]
        assert frame["rank_full"][place] == 1 + sum(scores[item] >= scores[target] for item in others)
        sampled = [item for item in negatives[user] if scores[item] >= scores[target]]
        assert frame["rank_sampled"][place] == 1 + len(sampled)
        named = [item for item in range(N_ITEMS) if item not in history and scores[item] > -np.inf]
        best = sorted(named, key=lambda item: (-scores[item], item))[:10]
        assert lists.items[place].tolist() == best + [-1] * (10 - len(best))
    assert frame["rank_sampled"][3] == NEGATIVES + 1
    table[0, 7] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        evaluate(Given(), dataset, split, negatives=negatives, progress=False)
