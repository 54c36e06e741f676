"""Temporary files and folders whose names say whose they are, so that what a dead process left is removed at once.

A name holds the machine since its start, the process and when that began: unlike a lock on the file, it is there from
the moment the file is. What a process of this machine left goes as soon as somebody writes to the same folder; what
another machine left goes by its age.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import psutil

from illmrec.network_folders import move

PREFIX = ".tmp-"
REPLACED = "replaced"
"""Folder in a temporary one that holds, under its own name, what was beside it and is being replaced."""
_OLD_SECONDS = 24 * 3600.0
"""Of what another machine left. A folder's own time stands still while files within it grow, so an hour is too soon."""
_swept: set[tuple[int, Path]] = set()


@contextlib.contextmanager
def replacing(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """Give the path of a temporary file beside ``path`` that becomes it when the block ends without an error.

    Args:
        path: The file; what is there stays until the new one is complete.
        suffix: Of the temporary file, for writers that take the format from it.

    Raises:
        OSError: If the file cannot be written.
    """
    temporary = owned_path(path.parent, suffix=suffix)
    try:
        # Here, so that it has the mode of any new file whoever opens it.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        move(temporary, path)
    finally:
        discard(temporary)


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Give an empty folder that is removed when the block ends, or when the next one is made beside it.

    Args:
        parent: Where; None is the system's folder for temporary files.

    Raises:
        OSError: If the folder cannot be made.
    """
    folder = owned_path(Path(tempfile.gettempdir()) if parent is None else parent)
    try:
        # A name of its own: one that is there is this one, made by a request whose answer was lost.
        folder.mkdir(0o700 if parent is None else 0o777, exist_ok=True)
        yield folder
    finally:
        discard(folder)


def owned_path(folder: Path, *, suffix: str = "") -> Path:
    """Return a path in a folder for something temporary of this process, once what dead ones left there is gone."""
    # In a temporary folder nobody left anything; thousands of them come and go, and would be kept in mind.
    if not folder.name.startswith(PREFIX) and (os.getpid(), folder) not in _swept:
        _swept.add((os.getpid(), folder))
        remove_abandoned(folder)
    pid = os.getpid()
    return folder / f"{PREFIX}{place()[:8]}-{pid}-{process_start(pid) or 0}-{uuid.uuid4().hex[:8]}{suffix}"


def discard(path: Path) -> None:
    """Remove a temporary file or folder; what cannot be removed now is when its process has ended."""
    # An error here would hide the one that made the file useless.
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def remove_abandoned(*folders: Path) -> None:
    """Remove from folders, not from those in them, what dead processes left, and what is a day old and nobody's."""
    for folder in folders:
        try:
            found = [entry.path for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]
        except OSError:  # not there yet, or not for this user to read
            continue
        for path in map(Path, found):
            if _is_abandoned(path):
                put_back(path)
                discard(path)


def put_back(temporary: Path) -> None:
    """Move what was to be replaced back to its place, if nothing is there."""
    # What is not there was never moved, or another process moves it back.
    with contextlib.suppress(OSError):
        for old in (temporary / REPLACED).iterdir():
            if not (temporary.parent / old.name).exists():
                move(old, temporary.parent / old.name)


def _is_abandoned(path: Path) -> bool:
    parts = path.name.removeprefix(PREFIX).split("-")
    if len(parts) >= 4 and parts[0] == place()[:8] and parts[1].isdigit() and parts[2].isdigit():
        return process_start(int(parts[1])) != int(parts[2])
    try:
        return time.time() - path.stat().st_mtime > _OLD_SECONDS
    except OSError:  # another process removed it first
        return False


def process_start(pid: int) -> int | None:
    """Return when a process of this machine began, in units of the system's, or None where there is none."""
    try:
        # Since the machine's start: setting the clock does not change it. The name in brackets may hold anything.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return None if fields[0] in "ZX" else int(fields[19])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except ProcessLookupError:
        return None
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


@cache
def place() -> str:
    """Return what stands for this machine since its start, and for the processes that are visible here."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        found = json.dumps([boot, os.readlink("/proc/self/ns/pid")], separators=(",", ":"))
    except OSError:
        found = json.dumps([platform.node(), uuid.getnode()], separators=(",", ":"))
    return sha256(found.encode()).hexdigest()[:16]
