"""Leave-one-out and sampled candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from illmrec.data.candidates import draw_negatives, negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import leave_one_out
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


@pytest.mark.parametrize("content", [b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_damaged_store_says_what_to_delete(tmp_path: Path, content: bytes) -> None:
    dataset = dataset_of(SEQUENCES, 40)
    negatives(dataset, seed=1, n=20, cache=tmp_path)
    (stored,) = tmp_path.rglob("*.npy")
    stored.write_bytes(content)
    with pytest.raises(InputError, match="delete"):
        negatives(dataset, seed=1, n=20, cache=tmp_path)
    np.save(stored, np.zeros((2, 2), dtype=np.int32))
    with pytest.raises(InputError, match="delete"):
        negatives(dataset, seed=1, n=20, cache=tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        negatives(dataset_of(SEQUENCES, 40), seed=1, n=20, cache=tmp_path / "file")
