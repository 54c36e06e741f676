"""Tables that shards compute, that are stored narrow, that do not fit on the disk, and whose rates are told."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from illmrec.errors import InputError
from illmrec.features import computing, rates, table
from illmrec.features.computing import compute_table
from illmrec.features.table import FeatureTable

N, WIDTH = 23, 5


def expected(rows: np.ndarray) -> np.ndarray:
    return np.sin(rows[:, None] * 10.0 + np.arange(WIDTH)).astype(np.float32)


def compute(directory: Path, *, calls: list[list[int]] | None = None, **options) -> FeatureTable:
    def encode(rows: np.ndarray) -> np.ndarray:
        if calls is not None:
            calls.append(rows.tolist())
        return expected(rows)

    arguments = {
        "n_items": N, "width": WIDTH, "present": np.arange(N) != 3, "encode_batch": encode, "batch_size": 4,
        "meta": {"encoder": "fake"}, "description": "fake features", "progress": False,
    }  # fmt: skip
    return compute_table(directory, **(arguments | options))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("done", [(1, 2, 3), (2,), (1, 3)])
def test_shards_make_the_table_of_one_process(tmp_path: Path, dtype, done: tuple[int, ...]) -> None:
    whole_calls: list[list[int]] = []
    whole = compute(tmp_path / "whole", dtype=dtype, calls=whole_calls)
    calls: list[list[int]] = []
    for index in done:
        part = compute(tmp_path / "k", dtype=dtype, calls=calls, shard=(index, 3))
        assert part.meta["part"] == {"shard": [index, 3], "batch_size": 4} and part.present.all()
    merged = compute(tmp_path / "k", dtype=dtype, calls=calls)
    assert sorted(calls) == sorted(whole_calls)  # nothing twice, and in the same batches
    for name in ("values.npy", "present.npy"):
        assert (tmp_path / "k" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    timed = {"seconds", "seconds_per_item", "finished"}
    assert {k: v for k, v in merged.meta.items() if k not in timed} == {
        k: v for k, v in whole.meta.items() if k not in timed
    }
    assert {path.name for path in tmp_path.iterdir()} <= {"k", "k.lock", "whole", "whole.lock"}
    again: list[list[int]] = []
    assert compute(tmp_path / "k", dtype=dtype, calls=again, shard=(1, 3)).key == "k" and not again


def test_a_shard_is_continued_and_one_that_is_not_finished_is_named(tmp_path: Path, caplog) -> None:
    def failing(rows: np.ndarray) -> np.ndarray:
        if rows[0] >= 8:
            raise KeyboardInterrupt
        return expected(rows)

    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "k", shard=(1, 2), encode_batch=failing)
    calls: list[list[int]] = []
    part = compute(tmp_path / "k", shard=(1, 2), calls=calls)
    assert calls[0] == [9, 10, 11, 12]  # the third batch of all; item 3 has none
    np.testing.assert_array_equal(part.values[:4], expected(np.array([0, 1, 2, 4])))
    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "k", shard=(2, 2), encode_batch=failing)
    table_of_all = compute(tmp_path / "k")
    assert "k.shard-2-of-2 is not finished" in caplog.text
    np.testing.assert_array_equal(table_of_all.values[5:], expected(np.arange(5, N)))
    with pytest.raises(InputError, match="--shard 7/7: nothing is left for it"):
        compute(tmp_path / "other", shard=(7, 7))


def test_a_merge_that_is_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = compute(tmp_path / "whole")
    monkeypatch.setattr(computing, "_COPIED", 3)
    compute(tmp_path / "k", shard=(1, 2))

    def failing(rows: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # within the copy of the part, then within what is left
        patched.setattr(computing, "_RECORD_SECONDS", 0.0)
        patched.setattr(computing._Partial, "store", stop)
        with pytest.raises(KeyboardInterrupt):
            compute(tmp_path / "k")
    calls: list[list[int]] = []
    merged = compute(tmp_path / "k", calls=calls)
    assert calls == [[5, 6, 7, 8], [13, 14, 15, 16], [21, 22]]
    np.testing.assert_array_equal(merged.values, whole.values)


def test_half_the_bytes_and_what_that_changes(tmp_path: Path) -> None:
    wide, narrow = compute(tmp_path / "a"), compute(tmp_path / "b", dtype="float16")
    assert narrow.stored.dtype == np.float16 and narrow.values.dtype == np.float32
    assert isinstance(narrow.stored, np.memmap)
    np.testing.assert_array_equal(narrow.values, wide.values.astype(np.float16).astype(np.float32))
    changed = np.linalg.norm(narrow.values.astype(float) - wide.values, axis=1)[wide.present]
    lengths = np.linalg.norm(wide.values.astype(float), axis=1)[wide.present]
    assert narrow.meta["rounding"] == pytest.approx((changed / lengths).max())
    assert 0 < narrow.meta["rounding"] < 2**-11  # half a unit in the last of 11 binary places, at most
    assert (
        "rounding" not in wide.meta
        and wide.item_bytes == 4 * WIDTH + 1
        and narrow.item_bytes == 2 * WIDTH + 1
    )
    saved = FeatureTable.save(tmp_path / "c", narrow.values, narrow.present, {}, dtype="float16")
    np.testing.assert_array_equal(saved.stored, narrow.stored)
    with pytest.raises(InputError, match=r"item row 4 has values above 65,504"):
        compute(
            tmp_path / "d",
            dtype="float16",
            encode_batch=lambda rows: expected(rows) + 1e6 * (rows[:, None] == 4),
        )


def test_the_number_of_items_decides_and_the_default_fits() -> None:
    assert table.stored_as(99_999) == "float32" and table.stored_as(100_000) == "float16"
    tables = [
        FeatureTable(values=np.zeros((1, width), dtype="float16"), present=np.ones(1, bool), key="", meta={})
        for width in (1280, 384)
    ]
    assert sum(one.item_bytes for one in tables) == 3330 <= 3400


def test_a_disk_that_is_too_small_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(
        InputError, match=r"fake features of 23 items: needs 0\.00 GB, and .* are free"
    ) as caught:
        compute(tmp_path / "k")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("k.partial*"))


def test_rates_alone_are_those_of_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "ENOUGH", 5)
    monkeypatch.setattr(rates, "ALONE", 4)

    def read(batches):
        for batch in batches:
            time.sleep(0.05)
            yield batch

    def encode(rows: np.ndarray) -> np.ndarray:
        time.sleep(0.001)
        return expected(rows)

    found = compute(tmp_path / "k", read=read, encode_batch=encode)
    np.testing.assert_array_equal(found.values, compute(tmp_path / "plain").values)
    assert found.meta["decoder_items_per_second"] <= 4 / 0.05
    assert found.meta["encoder_items_per_second"] > found.meta["decoder_items_per_second"]
    assert str(rates.limit(found.meta)).endswith("the decoder is the limit")
    assert rates.limit(compute(tmp_path / "plain").meta) is None
