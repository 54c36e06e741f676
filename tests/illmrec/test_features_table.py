"""FeatureTable and resumable computation."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from illmrec.errors import InputError
from illmrec.features import computing
from illmrec.features.computing import compute_table
from illmrec.features.table import FeatureTable

N, WIDTH = 23, 5


class Encoder:
    """Rows are a function of the item number; remembers what it was asked and can fail at one batch."""

    def __init__(self, *, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.calls: list[list[int]] = []
        self.fail_at = fail_at
        self.error = error

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        if self.fail_at == len(self.calls) and self.error is not None:
            raise self.error
        self.calls.append(rows.tolist())
        return expected(rows)


def expected(rows: np.ndarray) -> np.ndarray:
    return (rows[:, None] * 10 + np.arange(WIDTH)).astype(np.float32) + 0.5


def compute(directory: Path, encoder: Encoder, present: np.ndarray | None = None, **options) -> FeatureTable:
    present = np.ones(N, dtype=bool) if present is None else present
    arguments = {
        "batch_size": 4,
        "meta": {"encoder": "fake"},
        "description": "fake features",
        "progress": False,
    }
    return compute_table(
        directory, n_items=N, width=WIDTH, present=present, encode_batch=encoder, **(arguments | options)
    )


def test_computed_once_and_reopened(tmp_path: Path) -> None:
    present = np.arange(N) % 3 != 0
    table = compute(tmp_path / "k", Encoder(), present)
    assert table.key == "k" and table.width == WIDTH and table.values.dtype == np.float32
    np.testing.assert_array_equal(table.values[present], expected(np.flatnonzero(present)))
    assert not table.values[~present].any()
    np.testing.assert_array_equal(table.present, present)
    assert isinstance(table.values, np.memmap)
    with pytest.raises(ValueError):
        table.values[0, 0] = 1
    assert table.meta["encoder"] == "fake" and table.meta["seconds_per_item"] >= 0
    again = Encoder()
    compute(tmp_path / "k", again, present)
    assert again.calls == []
    assert {path.name for path in tmp_path.iterdir()} <= {"k", "k.lock"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no")], ids=["ctrl-c", "error"])
def test_interruption_keeps_finished_batches(tmp_path, error, caplog) -> None:
    first = Encoder(fail_at=3, error=error)
    with pytest.raises(type(error)):
        compute(tmp_path / "k", first)
    assert not (tmp_path / "k").exists()
    second = Encoder()
    with caplog.at_level(logging.INFO):
        table = compute(tmp_path / "k", second)
    assert [row for call in first.calls + second.calls for row in call] == list(range(N))
    np.testing.assert_array_equal(table.values, expected(np.arange(N)))
    assert "continuing after 12 of 23" in caplog.text


def test_other_settings_do_not_continue(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        compute(tmp_path / "k", Encoder(fail_at=2, error=RuntimeError()))
    second = Encoder()
    compute(tmp_path / "k", second, meta={"encoder": "another"})
    assert sum(map(len, second.calls)) == N


def test_continues_with_another_batch_size_and_given_order(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(N)
    with pytest.raises(RuntimeError):
        compute(tmp_path / "k", Encoder(fail_at=2, error=RuntimeError()), order=order)
    second = Encoder()
    table = compute(tmp_path / "k", second, order=order, batch_size=7)
    assert second.calls[0] == order[8:15].tolist()
    np.testing.assert_array_equal(table.values, expected(np.arange(N)))


def test_order_must_name_the_present_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same rows"):
        compute(tmp_path / "k", Encoder(), order=np.arange(N - 1))


def test_record_cut_off_starts_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        compute(tmp_path / "k", Encoder(fail_at=2, error=RuntimeError()))
    (tmp_path / "k.partial" / "progress.json").write_text("")
    second = Encoder()
    compute(tmp_path / "k", second)
    assert sum(map(len, second.calls)) == N


@pytest.mark.parametrize("name", ["values.npy", "progress.json"])
@pytest.mark.parametrize("place", [3, 70, 150])
def test_a_bit_flipped_in_an_unfinished_table_is_no_feature(
    tmp_path: Path, name: str, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    order = np.random.default_rng(0).permutation(N)
    with pytest.raises(RuntimeError):
        compute(tmp_path / "k", Encoder(fail_at=4, error=RuntimeError()), order=order)
    path = tmp_path / "k.partial" / name
    content = bytearray(path.read_bytes())
    content[128 + 4 * WIDTH * int(order[2]) if place == 150 and name == "values.npy" else place] ^= 1
    path.write_bytes(content)
    second = Encoder()
    table = compute(tmp_path / "k", second, order=order)
    np.testing.assert_array_equal(table.values, expected(np.arange(N)))
    assert sum(map(len, second.calls)) == N and "k.partial: cannot be continued" in caplog.text


def test_an_unfinished_table_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        compute(tmp_path / "k", Encoder(fail_at=4, error=RuntimeError()))
    path = tmp_path / "k.partial" / "progress.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({name: record[name] for name in record if name not in ("sum", "checksum")}))
    second = Encoder()
    np.testing.assert_array_equal(compute(tmp_path / "k", second).values, expected(np.arange(N)))
    assert sum(map(len, second.calls)) == N - 16


@pytest.mark.parametrize("name", ["values.npy", "present.npy", "meta.json", "checksums.json"])
@pytest.mark.parametrize("place", [9, -2])
def test_a_bit_flipped_in_a_table_is_named_and_the_table_computed_again(
    tmp_path: Path, name: str, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    compute(tmp_path / "k", Encoder())
    path = tmp_path / "k" / name
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    second = Encoder()
    np.testing.assert_array_equal(compute(tmp_path / "k", second).values, expected(np.arange(N)))
    assert sum(map(len, second.calls)) == N and f"{path}: damaged" in caplog.text


def test_kill_loses_only_what_was_not_recorded(tmp_path: Path) -> None:
    program = f"""
import numpy as np, pathlib, time
from illmrec.features import computing
computing._RECORD_SECONDS = 0.0
def encode(rows):
    if rows[0] >= 12:
        print("at 12", flush=True)
        time.sleep(60)
    return (rows[:, None] * 10 + np.arange({WIDTH})).astype(np.float32) + 0.5
computing.compute_table(pathlib.Path({str(tmp_path / "k")!r}), n_items={N}, width={WIDTH}, 
    present=np.ones({N}, bool), encode_batch=encode, batch_size=4, meta={{"encoder": "fake"}},
    description="fake features", progress=False)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"at 12\n"
        process.send_signal(signal.SIGKILL)
    second = Encoder()
    table = compute(tmp_path / "k", second)
    assert second.calls[0][0] == 12
    np.testing.assert_array_equal(table.values, expected(np.arange(N)))


def test_concurrent_runs_share_one_computation(tmp_path: Path) -> None:
    class Slow(Encoder):
        def __call__(self, rows: np.ndarray) -> np.ndarray:
            time.sleep(0.01)
            return super().__call__(rows)

    encoders = [Slow() for _ in range(4)]
    tables: list[FeatureTable] = []
    threads = [
        threading.Thread(target=lambda e=e: tables.append(compute(tmp_path / "k", e))) for e in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 4
    assert sum(len(encoder.calls) for encoder in encoders) == 6
    for table in tables:
        np.testing.assert_array_equal(table.values, expected(np.arange(N)))


def test_an_error_of_reading_keeps_the_batch_before(tmp_path: Path) -> None:
    def read(batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        for rows in batches:
            if 14 in rows:
                raise InputError("item 14: bad image")
            yield rows

    first = Encoder()
    with pytest.raises(InputError, match="item 14"):
        compute(tmp_path / "k", first, read=read)
    assert first.calls[-1][-1] == 11
    second = Encoder()
    compute(tmp_path / "k", second, read=lambda batches: (rows for rows in batches))
    assert second.calls[0][0] == 12


def test_wrong_shape_and_not_finite(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gave"):
        compute(tmp_path / "k", lambda rows: np.zeros((len(rows), WIDTH + 1)))
    with pytest.raises(ValueError, match="not finite"):
        compute(tmp_path / "k", lambda rows: np.where(rows[:, None] == 5, np.nan, 0) + np.zeros(WIDTH))


def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *, shape: tuple[int, int], dtype: type) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(computing, "allocate", full)
    with pytest.raises(InputError, match="No space left") as caught:
        compute(tmp_path / "k", Encoder())
    assert "\n" not in str(caught.value)


def test_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        compute(tmp_path / "cache" / "features" / "k", Encoder())


def test_save_and_open(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.float64).reshape(4, 3)
    table = FeatureTable.save(tmp_path / "a", values, np.array([True, True, False, True]), {"encoder": "x"})
    assert table.key == "a" and table.meta == {"encoder": "x"}
    assert table.values[2].tolist() == [0, 0, 0] and table.values[3].tolist() == [9, 10, 11]
    with pytest.raises(ValueError, match="not finite"):
        FeatureTable.save(tmp_path / "b", np.full((4, 3), np.inf), np.ones(4, bool), {})
    with pytest.raises(ValueError, match="same items"):
        FeatureTable.save(tmp_path / "b", values, np.ones(3, bool), {})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("damage", ["truncated", "no meta", "other format"])
def test_damaged_table_names_the_folder(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "a"
    FeatureTable.save(folder, np.ones((4, 3)), np.ones(4, bool), {})
    if damage == "truncated":
        os.truncate(folder / "values.npy", 140)
    elif damage == "no meta":
        (folder / "meta.json").unlink()
    else:
        described = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(described | {"format": 99}))
    with pytest.raises(InputError, match="delete the folder") as caught:
        FeatureTable.open(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_importing_features_imports_no_torch() -> None:
    code = "import sys, illmrec.features; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
