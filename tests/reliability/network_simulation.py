"""A folder as several machines see it that share it over NFS, simulated in each process: each is a machine of its own.

What is simulated, below one folder, for Python's own calls:

- attributes, listings and "there is no such file" are remembered for some seconds, until this machine changes something
  in the same folder;
- appending writes where the end was when the file was opened, so that two appends may overwrite each other;
- a memory map is read when it is opened, and written by whole pages when it is flushed;
- ``flock`` always succeeds;
- a share of renames, new folders and removals happens and reports that it failed, as when an answer was lost;
- opening a file in a folder that another machine has replaced is ESTALE the first time;
- the machine has an id of its own, so that its processes are not looked for among those of others.

Creating a file that must not be there (``O_EXCL``), links and renames are in one step, as they are on the server.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import random
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from illmrec import network_folders

_PAGE = 4096
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_Partition = namedtuple("_Partition", "device mountpoint fstype opts")


class NetworkFolder:
    """One machine's view of a shared folder.

    Args:
        root: The folder.
        machine: Tells this machine from others; also the seed of what goes wrong.
        seconds: How long what was seen is gone by.
        lost: Share of answers to changes that are lost.
    """

    def __init__(self, root: Path, *, machine: int, seconds: float, lost: float) -> None:
        self._root = f"{root.resolve()}{os.sep}"
        self._machine, self._seconds, self._lost = machine, seconds, lost
        self._random = random.Random(machine)
        self._seen: dict[tuple[str, str], tuple[float, Any]] = {}
        self._real = {name: getattr(os, name) for name in ("stat", "lstat", "listdir", "scandir", "open")}
        self._open = io.open

    def install(self) -> None:
        """Put the view into this process, for the rest of its life."""
        for name in ("stat", "lstat"):
            setattr(os, name, self._attributes(name))
        os.listdir = self._listing("listdir")
        os.scandir = self._listing("scandir")
        for name in ("rename", "replace"):
            setattr(os, name, self._changing(getattr(os, name), lost=errno.ENOENT, paths=2))
        for name, code in (("unlink", errno.ENOENT), ("remove", errno.ENOENT), ("rmdir", errno.ENOENT)):
            setattr(os, name, self._changing(getattr(os, name), lost=code))
        os.mkdir = self._changing(os.mkdir, lost=errno.EEXIST)
        os.link = self._changing(os.link, lost=errno.EEXIST, paths=2)
        os.symlink = self._changing(os.symlink, lost=errno.EEXIST, paths=2)
        for name in ("chmod", "utime"):
            setattr(os, name, self._changing(getattr(os, name)))
        os.open = self._os_open
        io.open = builtins.open = self._file_open
        fcntl.flock = lambda handle, operation: None
        np.lib.format.open_memmap = self._map(np.lib.format.open_memmap)
        partitions = psutil.disk_partitions
        mount = _Partition("server:/shared", self._root.rstrip(os.sep), "nfs4", "rw")
        psutil.disk_partitions = lambda all=False: [*partitions(all=all), mount]
        network_folders.mount_types.cache_clear()

    def _below(self, path: object) -> str | None:
        """Return a path below the folder as text, or None."""
        if isinstance(path, int):
            return None
        text = os.path.abspath(os.fsdecode(path))
        return text if text.startswith(self._root) else None

    def _remembered(self, kind: str, path: str, look: Callable[[], Any]) -> Any:
        now = time.monotonic()
        expires, found = self._seen.get((kind, path), (0.0, None))
        if expires < now:
            try:
                found = look()
            except FileNotFoundError as error:
                found = error
            self._seen[kind, path] = (now + self._seconds, found)
        if isinstance(found, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _forget(self, path: str) -> None:
        """Drop what is known of the folder in which this machine has changed something."""
        folder = os.path.dirname(path)
        self._seen = {
            (kind, known): value
            for (kind, known), value in self._seen.items()
            if known != folder
            and os.path.dirname(known) != folder
            and not known.startswith(f"{path}{os.sep}")
        }

    def _attributes(self, name: str) -> Callable[..., os.stat_result]:
        real = self._real[name]

        def look(path: Any, **options: Any) -> os.stat_result:
            below = self._below(path) if options.get("dir_fd") is None else None
            if below is None:
                return real(path, **options)
            kind = "stat" if name == "stat" and options.get("follow_symlinks", True) else "lstat"
            return self._remembered(kind, below, lambda: real(path, **options))

        return look

    def _listing(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def look(path: Any = ".") -> Any:
            below = self._below(path)
            if below is None:
                return real(path)
            found = self._remembered(name, below, lambda: list(real(path)))
            return list(found) if name == "listdir" else _Entries(found)

        return look

    def _changing(
        self, real: Callable[..., Any], *, paths: int = 1, lost: int | None = None
    ) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            by_handle = any(options.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd"))
            changed = [] if by_handle else [self._below(path) for path in arguments[:paths]]
            try:
                result = real(*arguments, **options)
            finally:
                if by_handle:
                    self._seen.clear()
                for path in changed:
                    if path is not None:
                        self._forget(path)
            if lost is not None and any(changed) and self._random.random() < self._lost:
                raise OSError(lost, os.strerror(lost), *arguments[:1])
            return result

        return change

    def _check(self, path: str) -> None:
        """Raise what opening a file that must be there may raise."""
        expires, found = self._seen.get(("stat", path), (0.0, None))
        if expires > time.monotonic() and isinstance(found, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        folder = os.path.dirname(path)
        expires, known = self._seen.get(("stat", folder), (0.0, None))
        if expires > time.monotonic() and isinstance(known, os.stat_result):
            try:
                replaced = self._real["stat"](folder).st_ino != known.st_ino
            except FileNotFoundError:
                replaced = True
            if replaced:
                self._forget(folder)
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        self._seen.pop(("stat", path), None)  # opened: its attributes are asked for anew

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        real = self._real["open"]
        below = self._below(path) if dir_fd is None else None
        if below is None:
            return real(path, flags, mode, dir_fd=dir_fd)
        if not flags & os.O_CREAT:
            self._check(below)
        try:
            handle: int = real(path, flags & ~os.O_APPEND, mode)
        finally:
            if flags & os.O_CREAT:
                self._forget(below)
        if flags & os.O_APPEND:
            os.lseek(handle, 0, os.SEEK_END)
        return handle

    def _file_open(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not isinstance(file, int) and os.fsdecode(file) == _BOOT_ID:
            return io.StringIO(f"machine-{self._machine}\n")
        below = self._below(file)
        if below is None:
            return self._open(file, mode, *arguments, **options)
        if "r" in mode:
            self._check(below)
            return self._open(file, mode, *arguments, **options)
        try:
            if "a" not in mode:
                return self._open(file, mode, *arguments, **options)
            os.close(self._real["open"](below, os.O_CREAT | os.O_WRONLY, 0o666))
            opened = self._open(file, mode.replace("a", "r+").replace("++", "+"), *arguments, **options)
            opened.seek(0, os.SEEK_END)
            return opened
        finally:
            self._forget(below)

    def _map(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(filename: Any, mode: str = "r+", **options: Any) -> Any:
            mapped = real(filename, mode=mode, **options)
            if self._below(filename) is None or mode != "r+":
                return mapped
            pages = np.array(mapped).view(_Pages)
            pages.file, pages.offset, pages.clean = (
                os.fspath(filename),
                mapped.offset,
                bytes(mapped.tobytes()),
            )
            return pages

        return opened


class _Entries(list[os.DirEntry[str]]):
    """What ``os.scandir`` gives, from memory."""

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Close nothing."""

    def __next__(self) -> os.DirEntry[str]:
        if not self:
            raise StopIteration
        return self.pop(0)


class _Pages(np.ndarray):
    """A memory map that is this machine's alone until it is flushed, by whole pages."""

    file: str
    offset: int
    clean: bytes

    def flush(self) -> None:
        """Write the pages that were changed since the last time, with all that stands in them."""
        now = self.tobytes()
        with open(self.file, "r+b") as file:
            # From the beginning of the page in which the values begin.
            for start in range(-self.offset % _PAGE - _PAGE, len(now), _PAGE):
                part = slice(max(0, start), start + _PAGE)
                if now[part] != self.clean[part]:
                    file.seek(self.offset + part.start)
                    file.write(now[part])
        self.clean = now
