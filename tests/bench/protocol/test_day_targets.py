"""Every item of a day as a target: each is ranked by itself without the others, and a user is the mean over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.harness.accuracy import candidates_of_targets
from bench.protocol.evaluation import evaluate
from bench.protocol.lists import RecommendedLists
from bench.protocol.metrics import by_user, mean_by_user, per_user, summarise
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import split_at_times, split_of
from illmrec.errors import InputError

N_ITEMS = 40
DAY = 86_400
START = 1_600_000_000 // DAY * DAY


def timed(users: list[list[tuple[float, int]]]) -> Dataset:
    """Return a data set of (days since the start, item) pairs, each user's in order."""
    items = pd.DataFrame({column: [f"{column} {i}" for i in range(N_ITEMS)] for column in ITEM_COLUMNS})
    return Dataset(
        name="timed",
        items=items,
        user_ids=np.array([f"u{number}" for number in range(len(users))], dtype=object),
        sequence_items=np.array([item for user in users for _, item in user], dtype=np.int32),
        offsets=np.cumsum([0, *map(len, users)]),
        images=None,
        fingerprint="0" * 16,
        dropped={},
        times=np.array([START + int(day * DAY) for user in users for day, _ in user]),
    )


BUYERS = [
    [(0, 1), (1, 2), (9, 3), (9.5, 4), (9.6, 3), (9.7, 1), (11, 5)],  # targets 3 (once), 4 and 1, seen before
    [(0, 6), (8.3, 7), (8.9, 8), (9.1, 9)],  # 7 came before the moment, 8 after it on its day, 9 a day later
    [(0, 10), (1, 11)],  # nothing after the moment
    [(9, 12), (9.1, 13)],  # nothing before it
    [(3, 14), (10, 15)],
]
TARGETS = {0: [3, 4, 1], 1: [8], 4: [15]}
HISTORIES = {0: [1, 2], 1: [6, 7], 4: [14]}


@pytest.fixture
def day() -> Dataset:
    dataset = timed(BUYERS)
    split = replace(
        split_at_times(dataset, test_targets="day"), points=(START + 2 * DAY, START + int(8.5 * DAY))
    )
    return split


class Drawn:
    def __init__(self, seed: int = 0) -> None:
        self.calls: list[int] = []
        self.table = np.random.default_rng(seed).integers(0, 9, (1000, N_ITEMS)).astype(np.float32)

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        self.calls.append(len(histories))
        return np.stack([self.table[int(history.sum()) % 1000] for history in histories])


def by_hand(dataset: Dataset, method: Drawn, negatives: np.ndarray) -> pd.DataFrame:
    """Loop over users, targets and items."""
    rows = []
    for user in range(dataset.n_users):
        start, end = dataset.offsets[user], dataset.offsets[user + 1]
        own = list(zip(dataset.times[start:end].tolist(), dataset.sequence(user).tolist(), strict=True))
        history = [item for time, item in own if time < dataset.points[1]]
        after = [(time, item) for time, item in own if time >= dataset.points[1]]
        if not history or not after:
            continue
        last = max(time for time, _ in own if time < dataset.points[1])
        targets: dict[int, int] = {}
        for time, item in after:
            if time // DAY == after[0][0] // DAY:
                targets.setdefault(item, time)
        scores = method.table[sum(history) % 1000]
        for number, (target, time) in enumerate(targets.items(), start=1):
            left_out = {*history, *targets}
            full = [i for i in range(N_ITEMS) if i not in left_out and scores[i] >= scores[target]]
            sampled = [i for i in negatives[user] if i not in targets and scores[i] >= scores[target]]
            rows.append(
                {
                    "user_id": f"u{user}",
                    "history_length": len(history),
                    "rank_sampled": 1 + len(sampled),
                    "rank_full": 1 + len(full),
                    "gap": time - last,
                    "days": time // DAY - last // DAY,
                    "target": number,
                }
            )
    return pd.DataFrame(rows)


def test_targets_of_a_day_by_hand(day: Dataset) -> None:
    split = split_of(day)
    found = split.every_target("test")
    assert split.users("test").tolist() == list(TARGETS)
    assert found.items.tolist() == [3, 4, 1, 8, 15] and found.items.dtype == np.int32
    assert found.places.tolist() == [0, 0, 0, 1, 2] and found.numbers.tolist() == [1, 2, 3, 1, 1]
    assert split.gaps(found)["days"].tolist() == [8, 8, 8, 0, 7]
    assert [split.history(user, "test").tolist() for user in TARGETS] == list(HISTORIES.values())
    some = split.every_target("test", np.array([4, 0]))
    assert some.items.tolist() == [15, 3, 4, 1] and some.places.tolist() == [0, 1, 1, 1]
    assert split.targets("test")[[0, 1, 4]].tolist() == [3, 8, 15]
    # The next item alone is tested otherwise, and validated in any case.
    following = split_of(replace(day, test_targets="next"))
    assert following.every_target("test").items.tolist() == [3, 8, 15]
    for part in ("valid", "test"):
        assert following.histories(part)[0].tolist() == split.histories(part)[0].tolist()
    assert split.every_target("valid").items.tolist() == following.every_target("valid").items.tolist() == [7]


@pytest.mark.parametrize("chunk", [1, 2, 256])
def test_each_target_is_ranked_without_the_others(day: Dataset, chunk: int) -> None:
    method, lists = Drawn(), RecommendedLists(5)
    split, negatives = split_of(day), draw_negatives(day, seed=0, n=12)
    ranks = evaluate(method, day, split, negatives=negatives, chunk=chunk, lists=lists, progress=False)
    pd.testing.assert_frame_equal(ranks, by_hand(day, method, negatives), check_dtype=False)
    assert str(ranks["target"].dtype) == "int32"
    # One row of scores and one list for a user, whatever the number of targets; what is recommended may be a target.
    assert sum(method.calls) == len(lists.items) == 3
    for user, items in zip(TARGETS, lists.items, strict=True):
        scores = method.table[sum(HISTORIES[user]) % 1000]
        allowed = [item for item in range(N_ITEMS) if item not in HISTORIES[user]]
        assert items.tolist() == sorted(allowed, key=lambda item: (-scores[item], item))[:5]
    sizes = [N_ITEMS + 1 - len({*HISTORIES[user], *TARGETS[user]}) for user in TARGETS]
    assert candidates_of_targets(split, split.users("test")).tolist() == [sizes[0]] * 3 + sizes[1:]


@given(
    users=st.lists(
        st.lists(st.tuples(st.integers(0, 80), st.integers(0, 9)), min_size=1, max_size=12),
        min_size=2,
        max_size=7,
    ),
    chunk=st.integers(1, 5),
)
@settings(max_examples=150, deadline=None)
def test_agrees_with_a_loop(users: list[list[tuple[int, int]]], chunk: int) -> None:
    quarters = [sorted(((time / 4, item) for time, item in user), key=lambda pair: pair[0]) for user in users]
    try:
        dataset = split_at_times(timed(quarters), test_share=0.3, test_targets="day")
    except InputError as error:
        assert "have one time" in str(error)
        return
    split, negatives, method = split_of(dataset), draw_negatives(dataset, seed=1, n=9), Drawn()
    expected = by_hand(dataset, method, negatives)
    if expected.empty:
        return
    ranks = evaluate(method, dataset, split, negatives=negatives, chunk=chunk, progress=False)
    pd.testing.assert_frame_equal(ranks, expected, check_dtype=False)


def test_a_user_is_the_mean_over_its_targets() -> None:
    ranks, users = np.array([1, 30, 3, 2, 7]), np.array(["b", "b", "a", "c", "c"])
    found = per_user(ranks, users=users)
    assert found["mrr"].tolist() == pytest.approx([(1 + 1 / 30) / 2, 1 / 3, (1 / 2 + 1 / 7) / 2])
    assert found["hit@5"].tolist() == [0.5, 1, 0.5]
    summary = summarise(ranks, users=users)
    assert summary["hit@5"] == pytest.approx(2 / 3)
    assert summary["stderr"]["hit@5"] == pytest.approx(np.std([0.5, 1, 0.5], ddof=1) / np.sqrt(3))
    assert summarise(ranks, users=np.arange(5)) == summarise(ranks)
    table = pd.DataFrame({"user_id": users, "rank_full": ranks})
    values = by_user(table, "full", metric="mrr")
    assert values.index.tolist() == ["b", "a", "c"] and values.tolist() == found["mrr"].tolist()
    with pytest.raises(ValueError, match="not one for each target"):
        mean_by_user({"mrr": np.ones(3)}, ["a", "b"])


def test_what_a_day_needs() -> None:
    dataset = timed(BUYERS)
    with pytest.raises(InputError, match="unit of the times cannot be told") as caught:
        split_at_times(replace(dataset, times=np.argsort(dataset.times)), test_targets="day")
    assert "\n" not in str(caught.value)
    of_day, following = (split_at_times(dataset, test_targets=each) for each in ("day", "next"))
    assert (of_day.name, following.name) == ("timed-global-time-day", "timed-global-time")
    assert of_day.fingerprint != following.fingerprint == of_day.training_fingerprint
    assert (draw_negatives(of_day, seed=0, n=5) == draw_negatives(following, seed=0, n=5)).all()


def test_statistics_say_how_often_the_target_is_of_the_same_day() -> None:
    sequences = [
        [(0, 1), (1, 2), (1, 3)],
        [(0, 1), (2, 2), (2.2, 3)],
        [(0, 1), (2.9, 2), (3.1, 3)],
        [(0, 1), (1, 2)],
    ]
    shares = timed(sequences).statistics()
    assert (shares["same_day"], shares["same_time"]) == (0.5, 0.25)
    small = replace(timed(sequences), times=np.array([0, 1, 1, 0, 2, 3, 0, 2, 3, 0, 1])).statistics()
    assert small["same_time"] == 0.25 and "same_day" not in small
    assert not {"same_day", "same_time"} & replace(timed(sequences), times=None).statistics().keys()


def test_statistics_are_of_the_users_who_are_tested(day: Dataset) -> None:
    shares = day.statistics()
    assert (shares["same_day"], shares["same_time"]) == (pytest.approx(1 / 3, abs=1e-4), 0)
