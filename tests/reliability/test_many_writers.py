"""Many writers in their short form: nothing lost, nothing torn, nobody held up by one that was killed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from many_writers import Task, let_write
from network_simulation import NetworkFolder

SIMULATED = ("stat", "lstat", "listdir", "scandir", "open", "rename", "replace", "unlink", "rmdir", "mkdir")


def folders(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("folder", "notes")}
    for path in found.values():
        path.mkdir()
    return found


def test_eight_writers_compute_each_cell_once_while_one_of_them_is_killed(tmp_path):
    counted = let_write(Task(**folders(tmp_path), cells=16), writers=8, kill=True)
    assert counted.wrong == [] and counted.ended == [0] * 7
    assert (counted.cells, counted.twice, counted.never) == (16, 0, 0)
    assert counted.batches_twice == 0


def test_eight_machines_share_a_folder_over_a_network_that_shows_late_and_loses_answers(tmp_path):
    task = Task(**folders(tmp_path), cells=8, trials=2, stale=0.5, lost=0.05, lease=3.0)
    counted = let_write(task, writers=8, kill=True)
    assert counted.wrong == [] and counted.ended == [0] * 7
    assert (counted.cells, counted.never) == (8, 0)


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """Two machines' views of a folder; the first is this process's."""
    import builtins
    import fcntl
    import io

    import psutil

    for name in (*SIMULATED, "link", "symlink", "remove", "chmod", "utime"):
        monkeypatch.setattr(os, name, getattr(os, name))
    for module, name in ((io, "open"), (builtins, "open"), (fcntl, "flock"), (psutil, "disk_partitions")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(np.lib.format, "open_memmap", np.lib.format.open_memmap)
    real = {name: getattr(os, name) for name in SIMULATED}
    NetworkFolder(tmp_path, machine=1, seconds=60.0, lost=0.0).install()
    return real


def test_the_simulation_shows_late_what_another_machine_did_until_this_one_changes_the_folder(
    machines, tmp_path
):
    path = tmp_path / "sub" / "file"
    path.parent.mkdir()
    assert not path.exists() and os.listdir(path.parent) == []
    os.close(machines["open"](path, os.O_CREAT | os.O_WRONLY, 0o666))
    assert not path.exists() and os.listdir(path.parent) == []
    with pytest.raises(FileNotFoundError):
        path.read_text()
    with pytest.raises(FileExistsError):
        path.open("x")
    assert path.exists() and os.listdir(path.parent) == ["file"]


def test_the_simulation_lets_appends_overwrite_each_other_and_maps_be_written_by_pages(machines, tmp_path):
    path = tmp_path / "log"
    with path.open("a") as first, path.open("a") as second:
        first.write("aaaa")
        first.flush()
        second.write("bb")
    assert path.read_text() == "bbaa"
    values = np.zeros(8, dtype=np.int64)
    np.save(tmp_path / "values.npy", values)
    one, other = (np.lib.format.open_memmap(tmp_path / "values.npy", mode="r+") for _ in range(2))
    one[0], other[7] = 1, 2
    one.flush()
    other.flush()
    assert np.load(tmp_path / "values.npy").tolist() == [0] * 7 + [2]


def test_the_simulation_loses_answers_and_stale_handles_are_errors_once(machines, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "file").write_text("old")
    assert (tmp_path / "a").exists()
    machines["rename"](tmp_path / "a", tmp_path / "c")
    machines["rename"](tmp_path / "b", tmp_path / "a")
    os.close(machines["open"](tmp_path / "a" / "file", os.O_CREAT | os.O_WRONLY, 0o666))
    with pytest.raises(OSError, match="tale file handle"):
        (tmp_path / "a" / "file").read_text()
    assert (tmp_path / "a" / "file").read_text() == ""
    lossy = NetworkFolder(tmp_path, machine=2, seconds=1.0, lost=1.0)
    lossy.install()
    (tmp_path / "d").write_text("moved")
    with pytest.raises(FileNotFoundError):
        os.rename(tmp_path / "d", tmp_path / "e")
    assert (tmp_path / "e").read_text() == "moved"
