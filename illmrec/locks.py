"""One process at a time computes what goes into a folder: by a lock, or by a claim where machines share the folder.

On file systems that machines share, a lock may be none: NFS without its lock server gives one to each machine. There
the folder is claimed (:mod:`illmrec.claims`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

import filelock

from illmrec.claims import Claim, FolderFiles
from illmrec.files import writing
from illmrec.network_folders import is_local

logger = logging.getLogger(__name__)

_generations: dict[Path, int] = {}
"""The number of the last claim that was held here on each folder: where to look first."""


@contextlib.contextmanager
def exclusive(directory: Path, description: str) -> Iterator[None]:
    """Let one process at a time compute what goes into a folder; others wait for it.

    A lock that a killed process held is free; a claim that a process of another machine held, once it gave no sign of
    life for its lease.

    Args:
        directory: The folder; the lock lies beside it.
        description: What is computed, for the log of those that wait.

    Raises:
        InputError: If the folder beside it cannot be written.
    """
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
    beside = directory.with_name(directory.name + ".lock")
    with _lock(beside, description) if is_local(directory.parent) else _claim(beside, description):
        yield


@contextlib.contextmanager
def _lock(path: Path, description: str) -> Iterator[None]:
    lock = filelock.FileLock(path)
    with writing(path):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            _say_waiting(description)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _claim(path: Path, description: str) -> Iterator[None]:
    claim = Claim(FolderFiles(path.parent), path.name, generation=_generations.get(path, 1))
    with contextlib.closing(claim):
        if not claim.acquire(wait=False):
            _say_waiting(description)
            claim.acquire()
        _generations[path] = claim.generation
        yield


def _say_waiting(description: str) -> None:
    logger.info("%s: another process is computing it; waiting", description)
