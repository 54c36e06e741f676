"""Temporary files: those of a dead process go at once, those of a live one stay, and no error hides another."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from illmrec import files, temporary
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.files import atomic_directory, atomic_write_text, is_of_disk, writing
from illmrec.temporary import PREFIX, discard, owned_path, place, process_start, remove_abandoned, replacing


def of_a_dead_process() -> tuple[int, int]:
    """Return number and start of a process that was there."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = process_start(process.pid)
    process.communicate(b"\n")
    assert start is not None
    return process.pid, start


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_a_dead_process_left_goes_as_soon_as_somebody_writes_there(tmp_path: Path) -> None:
    pid, start = of_a_dead_process()
    dead = tmp_path / f"{PREFIX}{place()[:8]}-{pid}-{start}-0"
    (dead / "inner").mkdir(parents=True)
    (tmp_path / f"{dead.name}.png").touch()
    live = owned_path(tmp_path.resolve() / ".." / tmp_path.name)
    live.mkdir()
    dead.mkdir(parents=True, exist_ok=True)
    atomic_write_text(tmp_path / "file", "text")
    assert names(tmp_path) == {"file", live.name}


def test_a_command_removes_what_a_killed_one_left_in_the_systems_folder(tmp_path: Path, monkeypatch) -> None:
    pid, start = of_a_dead_process()
    (tmp_path / f"{PREFIX}{place()[:8]}-{pid}-{start}-0").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def main() -> int:
        """Do nothing."""
        return 0

    assert run(main, prog="program", args=[]) == 0
    assert names(tmp_path) == set()


def test_folders_that_come_and_go_are_not_kept_in_mind(tmp_path: Path) -> None:
    before = len(temporary._swept)
    for number in range(9):
        with atomic_directory(tmp_path / str(number)) as folder:
            atomic_write_text(folder / "file", "text")
    assert len(temporary._swept) == before + 1


def test_a_number_that_another_process_has_now_is_no_owner(tmp_path: Path) -> None:
    start = process_start(os.getpid())
    assert start is not None
    earlier = tmp_path / f"{PREFIX}{place()[:8]}-{os.getpid()}-{start - 1}-0"
    earlier.touch()
    remove_abandoned(tmp_path)
    assert names(tmp_path) == set()


def replace_and_die(folder: Path, step: int, *, at_once: bool) -> None:
    """Replace a folder in this process, which ends when it is about to change the disk for the so manieth time."""
    if not at_once:
        files.exchange = lambda *_: False
    left = [step]

    def hook(event: str, _: object) -> None:
        left[0] -= event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
        if not left[0]:
            os._exit(9)

    sys.addaudithook(hook)
    with atomic_directory(folder) as new:
        (new / "value").write_text("new")
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("at_once", [True, False], ids=["in one step", "in several"])
def test_a_folder_is_there_whenever_the_process_that_replaces_it_dies(at_once: bool, tmp_path: Path) -> None:
    if at_once and not files.exchange(
        *(tmp_path / name for name in ("a", "b") if not (tmp_path / name).mkdir())
    ):
        pytest.skip("this file system has no such step")
    for step in range(1, 30):
        folder = tmp_path / str(step) / "cell"
        folder.mkdir(parents=True)
        (folder / "value").write_text("old")
        process = os.fork()
        if not process:
            replace_and_die(folder, step, at_once=at_once)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert folder.is_dir() or not at_once
        remove_abandoned(folder.parent)
        assert (folder / "value").read_text() in (("old", "new") if status else ("new",))
        assert names(folder.parent) == {"cell"}
        if not status:
            break
    assert not status and step > 4


@pytest.mark.parametrize("at_once", [True, False], ids=["in one step", "in several"])
def test_a_folder_that_cannot_be_replaced_stays(at_once: bool, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "cell"
    folder.mkdir()
    (folder / "value").write_text("old")
    inner = files.move

    def full(*_: object) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    def failing(source: Path, target: Path) -> None:
        if target == folder and not folder.exists():
            full()
        inner(source, target)

    monkeypatch.setattr(files, "exchange", full if at_once else lambda *_: False)
    monkeypatch.setattr(files, "move", failing)
    with pytest.raises(InputError, match="Input/output error"), atomic_directory(folder) as new:
        (new / "value").write_text("new")
    assert (folder / "value").read_text() == "old" and names(tmp_path) == {"cell"}


@pytest.mark.parametrize("name", [f"{PREFIX}ffffffff-1-1-0", f"{PREFIX}of_an_earlier_version"])
def test_what_is_not_known_to_be_dead_goes_by_age(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    remove_abandoned(tmp_path, tmp_path / "not there")
    assert names(tmp_path) == {name}
    os.utime(tmp_path / name, (time.time() - 1e5,) * 2)
    remove_abandoned(tmp_path)
    assert names(tmp_path) == set()


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == {"file"}
    mask = os.umask(0o027)
    try:
        with replacing(path) as beside:
            beside.write_text("new")
    finally:
        os.umask(mask)
    assert path.read_text() == "new" and names(tmp_path) == {"file"}
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC, errno.EFBIG, None])
def test_each_error_of_a_disk_is_one_line_also_where_cleaning_up_fails(
    tmp_path: Path, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError("error closing file") if number is None else OSError(number, os.strerror(number))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "again")

    monkeypatch.setattr(temporary.shutil, "rmtree", refuse)
    said = f"cannot write .*target: {error.strerror or error}; free"
    with pytest.raises(InputError, match=said), atomic_directory(tmp_path / "target"):
        raise error
    monkeypatch.undo()
    assert not (tmp_path / "target").exists()


def test_an_error_of_safetensors_is_of_the_disk_where_the_system_gave_it() -> None:
    from safetensors import SafetensorError

    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(InputError, match=r"cannot write here: .*No space left"), writing(Path("here")):
        raise full
    for error in (
        SafetensorError("Error while deserializing header"),
        FileNotFoundError(errno.ENOENT, "gone"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError(errno.ENETUNREACH, "no network"),
    ):
        assert not is_of_disk(error)
        with pytest.raises(type(error)), writing(Path("here")):
            raise error


def test_what_cannot_be_removed_is_left_to_the_next(tmp_path: Path) -> None:
    discard(tmp_path / "not there")
    (tmp_path / "folder").mkdir()
    discard(tmp_path / "folder")
    assert names(tmp_path) == set()
