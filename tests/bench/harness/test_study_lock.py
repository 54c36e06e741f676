"""The lock of a file of studies where machines share it: one holds it, and a lost answer takes none away."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import filelock
import pytest

from bench.harness import study_lock as module
from bench.harness import study_storage
from bench.harness.study_lock import SharedLock, study_lock
from illmrec.errors import InputError


def test_a_disk_has_the_lock_of_the_operating_system(tmp_path, monkeypatch):
    assert isinstance(study_lock(tmp_path / "studies.lock"), filelock.BaseFileLock)
    monkeypatch.setattr(module, "is_local", lambda path: False)
    assert isinstance(study_lock(tmp_path / "studies.lock"), SharedLock)


def test_one_at_a_time_holds_it_and_nothing_is_left(tmp_path):
    inside, most = [0], [0]

    def enter() -> None:
        for _ in range(5):
            with SharedLock(tmp_path / "lock"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "code"), [("symlink", errno.EEXIST), ("replace", errno.ENOENT)])
def test_a_lost_answer_neither_blocks_nor_fails(tmp_path, monkeypatch, name, code):
    real = getattr(os, name)

    def answer_lost(*arguments):
        real(*arguments)
        raise OSError(code, os.strerror(code), str(arguments[0]))

    monkeypatch.setattr(os, name, answer_lost)
    with SharedLock(tmp_path / "lock"):
        assert (tmp_path / "lock").is_symlink()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_given_up_by_a_lost_answer_may_be_anothers_at_once(tmp_path, monkeypatch):
    real = os.replace

    def another_takes_it(source, target):
        real(source, target)
        os.symlink("another", source)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))

    monkeypatch.setattr(os, "replace", another_takes_it)
    with SharedLock(tmp_path / "lock"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert os.readlink(tmp_path / "lock") == "another"


def test_a_lock_that_was_taken_meanwhile_is_put_back(tmp_path, monkeypatch):
    real = os.replace

    def taken_meanwhile(source, target):
        os.unlink(source)
        os.symlink("another", source)
        real(source, target)
        monkeypatch.setattr("time.sleep", stop_waiting)

    def stop_waiting(seconds):
        raise KeyboardInterrupt

    os.symlink("dead", tmp_path / "lock")
    monkeypatch.setattr(os, "replace", taken_meanwhile)
    with pytest.raises(KeyboardInterrupt), SharedLock(tmp_path / "lock", grace=0.0):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert os.readlink(tmp_path / "lock") == "another"


def test_the_lock_of_one_that_died_is_taken_away_after_its_grace(tmp_path):
    os.symlink("dead", tmp_path / "lock")
    with SharedLock(tmp_path / "lock", grace=0.05):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_stood_still_is_told_that_another_went_on(tmp_path):
    lock = SharedLock(tmp_path / "lock")
    with pytest.raises(InputError, match="stood still"), lock:
        (tmp_path / "lock").unlink()
        os.symlink("another", tmp_path / "lock")
    assert os.readlink(tmp_path / "lock") == "another"


def test_sqlite_is_refused_where_machines_share_the_file(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    assert study_storage.open_storage(url, Path(tmp_path)) is not None
    monkeypatch.setattr(study_storage, "is_local", lambda path: False)
    with pytest.raises(InputError, match="SQLite loses trials on a file system that machines share"):
        study_storage.open_storage(url, Path(tmp_path))
