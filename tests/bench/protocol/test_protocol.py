from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bench.protocol.evaluation import ScoresError, evaluate
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


class Finds(HashScorer):
    """Finds the items that score 8 or more, and scores candidates that it is given, whichever they are."""

    def __init__(self, **wrong: Any) -> None:
        self.wrong, self.asked = wrong, []

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        scores = super().score(histories)
        return np.where(scores >= 8, scores, np.float32(-np.inf))

    def score_candidates(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        self.asked.append(candidates)
        scores = np.take_along_axis(HashScorer().score(histories), candidates, axis=1)
        scores[:, 0] = self.wrong.get("first", scores[:, 0])
        return scores[:, self.wrong.get("start", 0) :].astype(self.wrong.get("dtype", np.float32))


def test_what_is_found_by_a_search_ranks_the_catalogue_and_candidates_are_scored_by_themselves(
    dataset: Dataset, split: Split, negatives: np.ndarray
) -> None:
    finds = Finds()
    frame = evaluate(finds, dataset, split, negatives=negatives, chunk=7, progress=False)
    complete = evaluate(HashScorer(), dataset, split, negatives=negatives, progress=False)
    pd.testing.assert_series_equal(frame["rank_sampled"], complete["rank_sampled"])
    found = 0
    for user, row in frame.iterrows():
        history, target = dataset.sequence(user)[:-1], dataset.sequence(user)[-1]
        if HashScorer().score([history])[0, target] >= 8:
            assert row["rank_full"] == complete.loc[user, "rank_full"]
            found += 1
        else:  # last, with all others that were not found
            assert row["rank_full"] == len(np.setdiff1d(np.arange(N_ITEMS), [*history, target])) + 1
    assert 0 < found < len(frame)
    # Nothing says which of the candidates is the target.
    assert all((np.diff(candidates, axis=1) >= 0).all() for candidates in finds.asked)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"first": np.nan}, r"23 of 483 scores of candidates are not finite"),
        ({"first": -np.inf}, r"23 of 483 scores of candidates are not finite"),
        ({"start": 1}, r"score_candidates returned float32 \(23, 20\), expected float32 \(23, 21\)"),
        ({"dtype": np.int64}, r"score_candidates returned int64 \(23, 21\)"),
    ],
)
def test_what_is_wrong_with_scores_of_candidates_is_said(
    dataset: Dataset, split: Split, negatives: np.ndarray, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(ScoresError, match=f"^searcher: {said}"):
        evaluate(Finds(**wrong), dataset, split, negatives=negatives, name="searcher", progress=False)


def whole(histories: Sequence[np.ndarray]) -> np.ndarray:
    return HashScorer().score(histories)


WRONG: list[tuple[Callable[[Sequence[np.ndarray]], Any], str]] = [
    (lambda h: whole(h)[:, :-1], r"returned \(23, 59\), expected \(23, 60\)"),
    (lambda h: whole(h)[:-1], r"returned \(22, 60\), expected \(23, 60\)"),
    (lambda h: whole(h)[:, :, None], r"returned \(23, 60, 1\)"),
    (lambda h: whole(h)[0], r"returned \(60,\)"),
    (lambda h: whole(h).astype(object), "returned a ndarray of object"),
    (lambda h: whole(h).astype(np.int64), "returned a ndarray of int64"),
    (lambda h: whole(h) + 0j, "returned a ndarray of complex64"),
    (lambda h: whole(h).astype(str), "returned a ndarray of <U"),
    (lambda h: None, "returned a NoneType of object"),
    (lambda h: [row[:place] for place, row in enumerate(whole(h))], "returned a list that is no array"),
    (lambda h: torch.tensor(whole(h), requires_grad=True), "returned a Tensor that is no array"),
    (lambda h: whole(h) * np.float32(np.nan), "user 'u0' and item .* is nan, which is not finite"),
    (lambda h: whole(h) + np.float32(np.inf), "is inf, which is not finite"),
]


@pytest.mark.parametrize(("given", "said"), WRONG, ids=[said for _, said in WRONG])
@pytest.mark.parametrize("by_user", [False, True], ids=["score", "score_users"])
@pytest.mark.parametrize("lists", [None, 10])
def test_what_is_wrong_with_scores_is_said_with_the_methods_name(
    dataset: Dataset,
    split: Split,
    negatives: np.ndarray,
    given: Any,
    said: str,
    by_user: bool,
    lists: int | None,
) -> None:
    class Own:
        pass

    if by_user:
        Own.score_users = lambda self, users, histories: given(histories)  # type: ignore[attr-defined]
    else:
        Own.score = lambda self, histories: given(histories)  # type: ignore[attr-defined]
    method: Any = Own()
    taken = None if lists is None else RecommendedLists(lists)
    with pytest.raises(ScoresError, match=f"^Own: .*{said}") as caught:
        evaluate(method, dataset, split, negatives=negatives, lists=taken, progress=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(ScoresError, match=f"^mine: .*{said}"):
        evaluate(method, dataset, split, negatives=negatives, name="mine", lists=taken, progress=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("by_user", [False, True], ids=["score", "score_users"])
def test_one_score_that_is_not_finite_is_found_among_those_that_are_compared(
    dataset: Dataset, split: Split, negatives: np.ndarray, value: float, by_user: bool
) -> None:
    user, histories = 9, split.histories("test")
    target = int(split.targets("test")[user])
    other = next(item for item in range(N_ITEMS) if item not in histories[user] and item != target)

    class Scores(HashScorer):
        wrong = target

        def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
            scores = super().score(histories)
            scores[user, self.wrong] = value
            return scores

    class OfUsers(Scores):
        def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
            return self.score(histories)

    method = OfUsers() if by_user else Scores()

    def ranked() -> pd.DataFrame:
        return evaluate(
            method, dataset, split, negatives=negatives, lists=RecommendedLists(10), progress=False
        )

    for item in (target, other):
        method.wrong = item
        if by_user and value == -np.inf:  # it has no score: below all others
            rank = int(ranked()["rank_full"][user])
            candidates = set(range(N_ITEMS)) - set(histories[user].tolist()) | {target}
            clean = HashScorer().score(histories)[user]
            beaten = clean[other] >= clean[target]
            usual = 1 + sum(clean[each] >= clean[target] for each in candidates - {target})
            assert rank == (len(candidates) if item == target else usual - beaten)
            continue
        with pytest.raises(ScoresError, match=f"user 'u{user}' and item 'item_id {item}' is {value}"):
            ranked()
    method.wrong = int(
        next(item for item in histories[user] if item != target)
    )  # of the history: not compared
    expected = evaluate(HashScorer(), dataset, split, negatives=negatives, progress=False)
    pd.testing.assert_frame_equal(ranked(), expected)


def test_what_scores_in_no_way_is_said(dataset: Dataset, split: Split, negatives: np.ndarray) -> None:
    nothing: Any = object()
    with pytest.raises(ScoresError, match=r"object: has neither score\(histories\) nor score_users"):
        evaluate(nothing, dataset, split, negatives=negatives, progress=False)


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


class OfUsers:
    """Gives the users' scores by who they are, of a wrong kind."""

    def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros((len(users), N_ITEMS), dtype=np.int32)


class OfHistories:
    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros((len(histories), N_ITEMS), dtype=np.int32)


def test_an_error_names_the_class_and_what_was_called(
    dataset: Dataset, split: Split, negatives: np.ndarray
) -> None:
    wanted = {"OfUsers: score_users returned": OfUsers(), "OfHistories: score returned": OfHistories()}
    for called, method in wanted.items():
        with pytest.raises(ScoresError, match=f"^{called}"):
            evaluate(method, dataset, split, negatives=negatives)


def test_the_test_is_ranked_unless_told_otherwise(
    dataset: Dataset, split: Split, negatives: np.ndarray
) -> None:
    found = evaluate(HashScorer(), dataset, split, negatives=negatives)
    assert found.equals(evaluate(HashScorer(), dataset, split, negatives=negatives, part="test", chunk=5))
    assert list(found.columns) == ["user_id", "history_length", "rank_sampled", "rank_full"]
    assert found["history_length"].tolist() == (dataset.lengths - 1).tolist()
    assert {str(kind) for kind in found.dtypes.iloc[1:]} == {"int32"}


class Equal:
    """Finds nothing, and scores every candidate alike."""

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        return np.full((len(histories), N_ITEMS), -np.inf, dtype=np.float32)

    def score_candidates(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        return np.zeros(candidates.shape, dtype=np.float32)


def test_a_target_among_its_own_candidates_is_not_counted_against_itself(
    dataset: Dataset, split: Split
) -> None:
    targets = split.targets("test")
    drawn = np.stack([targets, (targets + 1) % N_ITEMS, targets, (targets + 2) % N_ITEMS], axis=1)
    found = evaluate(Equal(), dataset, split, negatives=drawn)
    assert (found["rank_sampled"] == 3).all()  # ties with the two others
