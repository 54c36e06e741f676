"""Claims: of all processes and machines that share a store one at a time computes a cell.

A claim is a numbered file beside the results. Who creates it, which is atomic on local and on shared file systems
(``O_EXCL``) and on object stores (put if absent), has the cell, and rewrites it every so often while it computes. A
claim is free again when its owner says so, when its owner ran on this machine and is dead, or when it did not change
for the length of its lease, measured by the clock of the one who looks: clocks of machines are never compared. Taking
over creates the file of the next number, so that of several that want to, one does; no claim is ever removed, and
whoever stood still for longer than its lease finds the next number there and gives its result up.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol

from illmrec.errors import InputError
from illmrec.files import parsed_json, writing
from illmrec.network_folders import is_local, look_anew, read_bytes
from illmrec.temporary import discard, owned_path, place, process_start, replacing

logger = logging.getLogger(__name__)

LEASE = 120.0
"""Seconds without a sign of life after which a claim of another machine is free."""
_POLL = 0.5


class ClaimFiles(Protocol):
    """Where claims lie."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one, in one step; tell whether it was written."""
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Write a file whole over the one that is there."""
        ...

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None."""
        ...


class FolderFiles:
    """Claims in a folder of a local or a shared file system.

    Args:
        folder: The folder; it is made when the first claim is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one.

        Raises:
            InputError: If the disk is full or the folder cannot be written.
        """
        path = self._folder / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = owned_path(self._folder)
            try:
                temporary.write_bytes(content)
                return _linked(temporary, path)
            finally:
                discard(temporary)

    def replace(self, name: str, content: bytes) -> None:
        """Write a file whole over the one that is there."""
        with replacing(self._folder / name) as temporary:
            temporary.write_bytes(content)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None."""
        for _ in range(2):
            with contextlib.suppress(FileNotFoundError):
                return read_bytes(self._folder / name)
            if is_local(self._folder):
                break
            look_anew(self._folder)  # another machine may have made it a moment ago
        return None


class Claim:
    """The right to compute one cell.

    Args:
        files: Where claims lie.
        name: Of the cell.
        lease: Seconds without a sign of life after which others may take over.
        generation: Where to look first; those before it were given up.
    """

    def __init__(self, files: ClaimFiles, name: str, *, lease: float = LEASE, generation: int = 1) -> None:
        self._files, self._name, self._lease = files, name, lease
        self._owner = uuid.uuid4().hex
        self._generation = generation
        self._seen: tuple[int, bytes] | None = None
        self._since = 0.0
        self._beat = 0
        self._confirmed = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def taken(self) -> bool:
        """Whether the claim was taken and not given up."""
        return self._thread is not None

    @property
    def generation(self) -> int:
        """The claim's number: above 1, somebody held it before."""
        return self._generation

    @property
    def holder(self) -> str:
        """Who held the claim when it was looked at last, as :meth:`acquire` takes it; empty where nobody did."""
        return "" if self._seen is None else str(_parsed(self._seen[1]).get("owner", ""))

    def acquire(self, *, wait: bool = True, abandoned: Collection[str] = ()) -> bool:
        """Take the claim; tell whether it was taken.

        Args:
            wait: Wait until it is free.
            abandoned: Holders that somebody else has watched for the length of their lease.

        Raises:
            InputError: If the disk is full or the folder of claims cannot be written.
        """
        while True:
            if self._files.create(self._file(self._generation), self._content()):
                self._start()
                return True
            if self.free(abandoned):
                self._generation += 1
            elif wait:
                time.sleep(_POLL)
            else:
                return False

    def free(self, abandoned: Collection[str] = ()) -> bool:
        """Look whether the claim's last owner has given it up, is dead, or gave no sign of life for its lease."""
        content = self._files.read(self._file(self._generation))
        if content is None:
            return False
        owner = _parsed(content)
        if (self._generation, content) != self._seen:
            self._seen, self._since = (self._generation, content), time.monotonic()
        if owner.get("released") or owner.get("owner") in abandoned or _is_dead(owner):
            return True
        return time.monotonic() - self._since > float(owner.get("lease", self._lease))

    def vacant(self) -> bool:
        """Look whether :meth:`acquire` would take the claim; nothing is taken."""
        while self._files.read(self._file(self._generation)) is not None:
            if not self.free():
                return False
            self._generation += 1
        return True

    def held(self) -> bool:
        """Tell whether the claim that was taken still holds: nobody took over, and nobody had reason to."""
        if time.monotonic() - self._confirmed > self._lease:
            return False
        return self._files.read(self._file(self._generation + 1)) is None

    def release(self) -> None:
        """Give the claim up; one that cannot be written expires by itself."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            if self._files.read(self._file(self._generation + 1)) is None:
                with contextlib.suppress(OSError, InputError):
                    self._files.replace(self._file(self._generation), self._content(released=True))

    def close(self) -> None:
        """Give the claim up, as :meth:`release`, for ``contextlib.closing``."""
        self.release()

    def _start(self) -> None:
        self._confirmed = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"claim {self._name}", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        """Show that the owner lives, until it gives the claim up or another has taken over."""
        while not self._stop.wait(self._lease / 4):
            self._beat += 1
            try:
                if self._files.read(self._file(self._generation + 1)) is not None:
                    return
                self._files.replace(self._file(self._generation), self._content())
            except (OSError, InputError) as error:
                logger.warning("the claim on %s cannot be renewed: %s", self._name, error)
            else:
                self._confirmed = time.monotonic()

    def _file(self, generation: int) -> str:
        return f"{self._name}.{generation}.claim"

    def _content(self, *, released: bool = False) -> bytes:
        pid = os.getpid()
        fields = {
            "owner": self._owner,
            "place": place(),
            "pid": pid,
            "started": process_start(pid),
            "lease": self._lease,
            "beat": self._beat,
            "released": released,
        }
        return json.dumps(fields).encode()


def _parsed(content: bytes) -> dict[str, Any]:
    """Return the fields of a claim; none of one that is being written."""
    try:
        fields = parsed_json(content)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file that is written its name unless there is one; a claim without its owner would block for its lease."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        # Of a link over the network the answer can be lost: then the file has two names.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
    try:  # a file system without links
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(temporary.read_bytes())
    except OSError:
        discard(path)
        raise
    return True


def _is_dead(owner: dict[str, Any]) -> bool:
    """Tell whether an owner ran among this machine's processes and is there no more."""
    if owner.get("place") != place():
        return False
    pid, started = owner.get("pid"), owner.get("started")
    return isinstance(pid, int) and isinstance(started, int) and process_start(pid) != started
