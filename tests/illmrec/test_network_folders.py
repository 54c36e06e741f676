"""Folders that machines share: renames whose answer was lost, folders that others replace, files that are replaced."""

from __future__ import annotations

import errno
import os
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from illmrec import network_folders
from illmrec.files import atomic_directory, atomic_write_text, move_directory
from illmrec.network_folders import is_local, look_anew, move, read_bytes, remove_directory

Partition = namedtuple("Partition", "device mountpoint fstype opts")


@pytest.fixture
def mounted(monkeypatch, tmp_path):
    """Return a function that says which file system lies at ``shared`` below the test's folder."""

    def mount(kind: str, options: str = "rw") -> Path:
        folder = tmp_path / "shared"
        folder.mkdir(exist_ok=True)
        found = [Partition("disk", "/", "ext4", "rw"), Partition("server:/x", str(folder), kind, options)]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: found)
        network_folders.mount_types.cache_clear()
        return folder

    yield mount
    network_folders.mount_types.cache_clear()


@pytest.mark.parametrize(
    ("kind", "options", "local"),
    [
        ("ext4", "rw", True),
        ("tmpfs", "rw", True),
        ("nfs4", "rw", False),
        ("cifs", "rw", False),
        ("fuse.sshfs", "rw", False),
        ("lustre", "rw", False),
        ("NTFS", "rw,fixed", True),
        ("never-heard-of", "rw", False),
    ],
)
def test_what_is_not_known_to_be_of_this_machine_is_shared(mounted, kind, options, local):
    folder = mounted(kind, options)
    assert is_local(folder / "not" / "there") is local
    assert is_local(folder.parent) is True


def test_a_rename_that_happened_is_none_that_failed(tmp_path, monkeypatch):
    replace = os.replace

    def answer_lost(source, target):
        replace(source, target)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))

    monkeypatch.setattr(os, "replace", answer_lost)
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new"
    atomic_write_text(tmp_path / "text", "whole")
    assert (tmp_path / "text").read_text() == "whole"
    for content in ("first", "second"):
        with atomic_directory(tmp_path / "folder") as folder:
            (folder / "file").write_text(content)
        assert (tmp_path / "folder" / "file").read_text() == content


def test_a_rename_that_happened_and_was_replaced_by_another_is_none_that_failed(tmp_path, monkeypatch):
    """The answer is lost, and before it is asked for again another machine has put its own in that place."""
    replace = os.replace

    def answer_lost(source, target):
        replace(source, target)
        (tmp_path / "other").write_text("of another")
        os.remove(target)
        replace(tmp_path / "other", target)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))

    monkeypatch.setattr(os, "replace", answer_lost)
    (tmp_path / "a").write_text("new")
    move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "of another" and not (tmp_path / "a").exists()


def test_a_rename_that_did_not_happen_fails(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "not there", tmp_path / "b")

    def lost(source, target):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(source))

    monkeypatch.setattr(os, "replace", lost)
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("of another")
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "a", tmp_path / "b")


def test_many_replace_one_folder_at_once_and_one_of_them_stays_whole(tmp_path):
    target = tmp_path / "target"
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        for turn in range(25):
            with atomic_directory(target) as folder:
                for name in ("first", "second"):
                    (folder / name).write_text(f"{number} {turn}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len({path.read_text() for path in target.iterdir()}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_folder_is_put_where_another_has_just_put_one(tmp_path, monkeypatch):
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    os.replace(tmp_path / "theirs", tmp_path / "target")
    seen = Path.exists
    monkeypatch.setattr(
        Path, "exists", lambda self: self.name != "target" and seen(self)
    )  # not seen here yet
    move_directory(tmp_path / "ours", tmp_path / "target")
    assert (tmp_path / "target" / "file").read_text() == "ours"


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"new")
    real, errors = Path.read_bytes, [errno.ESTALE, errno.ESTALE]

    def read(path: Path) -> bytes:
        if errors:
            raise OSError(errors.pop(), "Stale file handle")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert read_bytes(tmp_path / "file") == b"new" and not errors
    errors[:] = [errno.EIO]
    with pytest.raises(OSError, match="Stale"):
        read_bytes(tmp_path / "file")
    errors[:] = [errno.ESTALE] * 1000
    with pytest.raises(OSError, match="Stale"):
        read_bytes(tmp_path / "file")


def test_looking_anew_leaves_nothing_and_needs_no_right_to_write(mounted, monkeypatch):
    folder = mounted("nfs4")
    made = []
    mkdir = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, *rest: made.append(path) or mkdir(path, *rest))
    look_anew(folder)
    assert made and not list(folder.iterdir())
    look_anew(folder / "not there")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    look_anew(folder)


def test_a_folder_that_others_remove_too_is_removed(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / str(number)).touch()
    unlink, gone = os.unlink, []

    def taken(path, **options):
        unlink(path, **options)
        if not gone:
            gone.append(path)
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(os, "unlink", taken)
    remove_directory(folder)
    assert gone and not folder.exists()
    remove_directory(folder)


def test_a_new_folder_whose_answer_was_lost_is_there(tmp_path, monkeypatch):
    mkdir = os.mkdir

    def answer_lost(path, *mode):
        mkdir(path, *mode)
        raise FileExistsError(errno.EEXIST, "File exists", str(path))

    monkeypatch.setattr(os, "mkdir", answer_lost)
    with atomic_directory(tmp_path / "folder") as folder:
        (folder / "file").write_text("whole")
    assert (tmp_path / "folder" / "file").read_text() == "whole"
