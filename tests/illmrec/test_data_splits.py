"""Leave-one-out and sampled candidates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from illmrec.data.candidates import draw_negatives, negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import leave_one_out, split_at_times, split_of
from illmrec.errors import InputError


def dataset_of(sequences: list[list[int]], n_items: int, fingerprint: str = "0" * 16) -> Dataset:
    lengths = [len(sequence) for sequence in sequences]
    return Dataset(
        name="toy",
        items=pd.DataFrame({"item_id": [str(k) for k in range(n_items)], "description": ""}),
        user_ids=np.array([f"u{k}" for k in range(len(sequences))], dtype=object),
        sequence_items=np.array([item for sequence in sequences for item in sequence], dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        images=None,
        fingerprint=fingerprint,
        dropped={},
    )


SEQUENCES = [[0, 1, 2, 3], [4, 3, 2], [5, 6, 7, 8, 9, 5]]


def test_parts_of_the_split() -> None:
    split = leave_one_out(dataset_of(SEQUENCES, 10))
    assert [split.train(u).tolist() for u in range(3)] == [s[:-2] for s in SEQUENCES]
    assert [h.tolist() for h in split.histories("valid")] == [s[:-2] for s in SEQUENCES]
    assert [split.history(u, "test").tolist() for u in range(3)] == [s[:-1] for s in SEQUENCES]
    assert split.targets("valid").tolist() == [s[-2] for s in SEQUENCES]
    assert split.targets("test").tolist() == [s[-1] for s in SEQUENCES]
    assert split.targets("test").dtype == np.int32
    with pytest.raises(ValueError, match="'valid' or 'test'"):
        split.history(0, "train")  # type: ignore[arg-type]


def test_training_items_lie_flat() -> None:
    split = leave_one_out(dataset_of(SEQUENCES, 10))
    flat, offsets = split.train_items(), split.train_offsets
    assert [flat[offsets[u] : offsets[u + 1]].tolist() for u in range(3)] == [s[:-2] for s in SEQUENCES]
    assert split.train_users().tolist() == [0, 0, 1, 2, 2, 2, 2]
    assert flat.dtype == np.int32
    assert not flat.flags.writeable


def test_users_too_short_to_split() -> None:
    with pytest.raises(InputError, match=r"user 'u1' has 2 .* min_interactions"):
        leave_one_out(dataset_of([[0, 1, 2], [3, 4]], 5))


@given(
    timed=st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), min_size=1, max_size=9),
        min_size=2,
        max_size=8,
    ),
    valid_share=st.sampled_from([0.1, 0.3]),
    test_share=st.sampled_from([0.1, 0.2]),
)
@settings(max_examples=300, deadline=None)
def test_points_in_time_split_all_users_alike(
    timed: list[list[tuple[int, int]]], valid_share: float, test_share: float
) -> None:
    timed = [sorted(user, key=lambda each: each[0]) for user in timed]
    times = np.array([time for user in timed for time, _ in user])
    plain = replace(dataset_of([[item for _, item in user] for user in timed], 10), times=times)
    try:
        dataset = split_at_times(plain, valid_share=valid_share, test_share=test_share)
    except InputError as error:
        assert "have one time" in str(error)
        return
    first, second = dataset.points
    assert times.min() < first < second
    assert (times >= second).mean() >= test_share and (times > second).mean() <= test_share
    split = split_of(dataset)
    train, evaluated = [], {"valid": [], "test": []}
    for user, interactions in enumerate(timed):
        before = [item for time, item in interactions if time < first]
        until = [item for time, item in interactions if time < second]
        assert split.train(user).tolist() == before == split.history(user, "valid").tolist()
        assert split.history(user, "test").tolist() == until
        between = [item for time, item in interactions if first <= time < second]
        after = [item for time, item in interactions if second <= time]
        for part, history, targets in (("valid", before, between), ("test", until, after)):
            assert split.targets(part)[user] == (targets[0] if targets else -1)
            evaluated[part] += [user] * bool(history and targets)
        train += before
    assert split.train_items().tolist() == train
    assert (split.train_times() < first).all() and len(split.train_times()) == len(train)
    for part, users in evaluated.items():
        assert split.users(part).tolist() == users
    learners = [user for user in range(len(timed)) if len(split.train(user)) > 1]
    if learners:
        assert split.learners.tolist() == learners
    else:
        with pytest.raises(InputError, match="no user has two training items"):
            split.learners  # noqa: B018


def test_points_in_time_make_another_data_set() -> None:
    plain = dataset_of(SEQUENCES, 10)
    with pytest.raises(InputError, match="holds no times"):
        split_at_times(plain)
    plain = replace(plain, times=np.arange(13))
    split = split_at_times(plain, valid_share=0.2, test_share=0.2)
    assert split.name == "toy-global-time" and split.fingerprint not in (
        plain.fingerprint,
        split_at_times(plain, valid_share=0.3, test_share=0.2).fingerprint,
    )
    with pytest.raises(InputError, match="together below 1"):
        split_at_times(plain, valid_share=0.5, test_share=0.5)
    assert split_of(plain).users("test").tolist() == [0, 1, 2]


@given(
    sequences=st.lists(st.lists(st.integers(0, 19), min_size=3, max_size=12), min_size=1, max_size=6),
    n=st.integers(1, 8),
    seed=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_negatives_are_unique_and_never_interacted_with(
    sequences: list[list[int]], n: int, seed: int
) -> None:
    drawn = draw_negatives(dataset_of(sequences, 20), seed=seed, n=n)
    assert drawn.shape == (len(sequences), n)
    for sequence, row in zip(sequences, drawn.tolist(), strict=True):
        assert len(set(row)) == n
        assert not set(row) & set(sequence)
        assert all(0 <= item < 20 for item in row)


def test_negatives_can_take_every_free_item() -> None:
    drawn = draw_negatives(dataset_of(SEQUENCES, 10), seed=0, n=5)
    assert set(drawn[2].tolist()) == {0, 1, 2, 3, 4}


def test_negatives_are_uniform_in_every_place() -> None:
    users = 6000
    drawn = draw_negatives(dataset_of([[0, 3, 4, 9]] * users, 12), seed=3, n=4)
    free = [1, 2, 5, 6, 7, 8, 10, 11]
    for column in range(4):
        counts = np.bincount(drawn[:, column], minlength=12)
        assert counts[[0, 3, 4, 9]].sum() == 0
        assert stats.chisquare(counts[free]).pvalue > 1e-4
    # Pairs too: all 8 * 7 ordered first pairs are equally likely.
    pairs = np.bincount(drawn[:, 0] * 12 + drawn[:, 1], minlength=144)
    assert stats.chisquare(pairs[pairs > 0]).pvalue > 1e-4
    assert (pairs > 0).sum() == 56


def test_negatives_of_many_users_cross_chunks() -> None:
    sequences = [[k % 50, (k * 7 + 1) % 50, (k * 3 + 2) % 50] for k in range(20_000)]
    drawn = draw_negatives(dataset_of(sequences, 50), seed=0, n=10)
    seen = np.array(sequences)
    assert not (drawn[:, :, None] == seen[:, None, :]).any()
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()


def test_negatives_depend_on_the_seed_only(tmp_path: Path) -> None:
    a, b = dataset_of(SEQUENCES, 40, "a" * 16), dataset_of(SEQUENCES, 40, "b" * 16)
    assert (draw_negatives(a, seed=1, n=20) == draw_negatives(b, seed=1, n=20)).all()
    assert (draw_negatives(a, seed=1, n=20) != draw_negatives(a, seed=2, n=20)).any()


def test_negatives_are_drawn_once_and_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = dataset_of(SEQUENCES, 40)
    first = negatives(dataset, seed=1, n=20, cache=tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 1
    monkeypatch.setattr("illmrec.data.candidates.draw_negatives", lambda *a, **k: pytest.fail("drawn again"))
    again = negatives(dataset, seed=1, n=20, cache=tmp_path)
    assert (first == again).all()
    assert again.dtype == np.int32


def test_too_few_free_items() -> None:
    with pytest.raises(InputError, match="user 'u2' leaves 5 of 10 items"):
        draw_negatives(dataset_of(SEQUENCES, 10), seed=0, n=6)
    with pytest.raises(InputError, match="1 or more"):
        draw_negatives(dataset_of(SEQUENCES, 10), seed=0, n=0)


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00", "flipped", "other"])
@pytest.mark.parametrize("listed", [True, False])
def test_damaged_candidates_are_named_and_drawn_again(
    tmp_path: Path, content: bytes | str, listed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = dataset_of(SEQUENCES, 40)
    first = negatives(dataset, seed=1, n=20, cache=tmp_path)
    (stored,) = tmp_path.rglob("*.npy")
    if not listed:  # as an earlier version left it
        (stored.parent / "checksums.json").unlink()
    if content == "other":
        np.save(stored, np.zeros((2, 2), dtype=np.int32))
    elif content == "flipped":
        damaged = bytearray(stored.read_bytes())
        damaged[-3] ^= 1 if listed else 0
        stored.write_bytes(damaged)
    else:
        stored.write_bytes(content)
    with caplog.at_level("WARNING"):
        again = negatives(dataset, seed=1, n=20, cache=tmp_path)
    np.testing.assert_array_equal(first, again)
    assert (str(stored) in caplog.text) == (listed or content != "flipped")
    np.testing.assert_array_equal(np.load(stored), first)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        negatives(dataset_of(SEQUENCES, 40), seed=1, n=20, cache=tmp_path / "file")
