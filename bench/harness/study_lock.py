"""The lock of a file of studies: one process at a time appends to it, on file systems that machines share too."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import filelock

from illmrec.errors import InputError
from illmrec.network_folders import is_local, look_anew

GRACE = 30.0
"""Seconds after which the lock of another machine, which is held for an append of moments, is that of a dead one."""
_PAUSE = 0.02


def study_lock(path: Path) -> AbstractContextManager[object]:
    """Return a lock: the operating system's, or one of the folder's where machines share it.

    Args:
        path: The lock's file.
    """
    if is_local(path.parent):
        return filelock.FileLock(path)
    return SharedLock(path.with_name(f"{path.name}.link"))


class SharedLock:
    """A symbolic link that one machine can create, and that says who did, should the server's answer be lost.

    Args:
        path: The link.
        grace: Seconds after which a link that nobody has changed is taken away.
    """

    def __init__(self, path: Path, *, grace: float = GRACE) -> None:
        self._path, self._grace = path, grace
        self._own = ""

    def __enter__(self) -> SharedLock:
        """Wait for the lock and take it."""
        self._own = uuid.uuid4().hex
        seen, since = "", time.monotonic()
        while True:
            with contextlib.suppress(FileExistsError):
                os.symlink(self._own, self._path)
                return self
            look_anew(self._path.parent)
            holder = _named(self._path)
            if holder == self._own:
                return self
            if holder != seen:
                seen, since = holder, time.monotonic()
            elif holder and time.monotonic() - since > self._grace:
                self._take_away(holder)
            time.sleep(_PAUSE)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it up.

        Raises:
            InputError: If another machine has taken it away, because this one stood still while it held it.
        """
        if not self._take_away(self._own):
            raise InputError(
                f"{self._path}: this process stood still for more than {self._grace:.0f} s while it wrote, and another "
                "went on; run the same command again"
            )

    def _take_away(self, holder: str) -> bool:
        """Remove the lock of a holder; tell whether this process did."""
        if _named(self._path) != holder:
            return False
        aside = self._path.with_name(f".tmp-{uuid.uuid4().hex}")
        # What was moved says whether it was: the answer may be lost, and the lock be another's by now.
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._path, aside)
        look_anew(self._path.parent)
        moved = _named(aside)
        if moved and moved != holder:  # whose lock it became in between: back in its place, if that is free
            with contextlib.suppress(FileExistsError):
                os.symlink(moved, self._path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        return moved == holder


def _named(link: Path) -> str:
    """Return whom a link names; "" where there is none."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""
