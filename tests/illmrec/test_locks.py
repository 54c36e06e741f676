"""One process at a time: by a lock on a disk, by a claim where machines share the folder and locks do not hold."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from illmrec import locks
from illmrec.features.computing import compute_table
from illmrec.locks import exclusive


@pytest.fixture
def shared(monkeypatch):
    """A file system that machines share, and whose locks are nobody's."""
    monkeypatch.setattr(locks, "is_local", lambda path: False)
    monkeypatch.setattr(fcntl, "flock", lambda handle, operation: None)
    monkeypatch.setattr(locks, "_generations", {})


def among(directory: Path, *, count: int = 6) -> int:
    """Return how many of several threads were in the section at once at most."""
    inside, most = [0], [0]
    counting = threading.Lock()

    def enter() -> None:
        with exclusive(directory, "it"):
            with counting:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            with counting:
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most[0]


def test_a_disk_is_locked_and_no_claim_is_left(tmp_path):
    assert among(tmp_path / "folder") == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"folder.lock"}


def test_a_shared_folder_is_claimed_where_locks_do_not_hold(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("illmrec.claims._POLL", 0.01)
    assert among(tmp_path / "folder") == 1
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"folder.lock.{number}.claim" for number in range(1, 7)]
    assert locks._generations == {tmp_path / "folder.lock": 6}, "the next one does not look at the first five"


def test_who_waits_is_told_so_and_an_error_inside_gives_the_claim_up(shared, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("illmrec.claims._POLL", 0.01)
    with pytest.raises(RuntimeError, match="inside"), exclusive(tmp_path / "folder", "the table"):
        waiting = threading.Thread(target=among, args=(tmp_path / "folder",), kwargs={"count": 1})
        waiting.start()
        time.sleep(0.05)
        raise RuntimeError("inside")
    with caplog.at_level("INFO"), exclusive(tmp_path / "folder", "the table"):
        pass
    waiting.join()
    last = max(tmp_path.iterdir(), key=lambda path: int(path.name.split(".")[2]))
    assert json.loads(last.read_bytes())["released"]


def test_two_that_compute_one_table_where_locks_do_not_hold_compute_each_batch_once(
    shared, tmp_path, monkeypatch
):
    """They wrote to the same unfinished files, and the one that ended later found them gone."""
    monkeypatch.setattr("illmrec.claims._POLL", 0.01)
    batches: list[int] = []
    found: list[np.ndarray] = []
    errors: list[BaseException] = []

    def encode(rows: np.ndarray) -> np.ndarray:
        batches.append(int(rows[0]))
        time.sleep(0.01)
        return np.ones((len(rows), 2), dtype=np.float32) * rows[:, None]

    def compute() -> None:
        try:
            table = compute_table(
                tmp_path / "key",
                n_items=20,
                width=2,
                present=np.ones(20, dtype=bool),
                encode_batch=encode,
                batch_size=4,
                meta={},
                description="features",
                progress=False,
            )
            found.append(np.array(table.values))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=compute) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(batches) == [0, 4, 8, 12, 16]
    for values in found:
        np.testing.assert_array_equal(values[:, 0], np.arange(20))
    assert os.path.isdir(tmp_path / "key")
