"""Folders that machines share over a network, where others' changes are seen late and answers of the server are lost.

On NFS a machine goes for seconds by what it has seen: files that others made are not there yet. A change of its own
brings the folder's state along. A rename whose answer was lost is sent again, and the second one finds nothing to
rename. A file that was replaced while it was being read is gone under the reader's hands.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil

_LOCAL = frozenset(
    {
        "apfs", "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs", "jfs", "msdos", "ntfs", "ntfs3",
        "overlay", "ramfs", "reiserfs", "tmpfs", "ufs", "vfat", "xfs", "zfs",
    }
)  # fmt: skip
"""File systems of one machine, where locks hold and changes are seen at once."""
_TRIES, _WAIT = 20, 0.005


def is_local(path: Path) -> bool:
    """Tell whether a path lies on a file system that only this machine writes to; an unknown one counts as shared."""
    absolute = path.absolute()
    nearest = next(parent for parent in (absolute, *absolute.parents) if parent.exists())
    return file_system(nearest.resolve()) in _LOCAL


def file_system(path: Path) -> str:
    """Return the type of the file system at a path that exists, such as ``ext4`` or ``nfs4``; "" if not known."""
    mounted = mount_types()
    return next((mounted[parent] for parent in (path, *path.parents) if parent in mounted), "")


@cache
def mount_types() -> dict[Path, str]:
    """Return the type of the file system at each mount point; read once by a process, since every cell asks."""
    return {
        Path(partition.mountpoint): partition.fstype.lower()
        for partition in psutil.disk_partitions(all=True)
        if "remote" not in partition.opts.split(",")
    }


def look_anew(folder: Path) -> None:
    """See what other machines have put into a folder until now, not until some seconds ago; if it can be written."""
    if is_local(folder):
        return
    with contextlib.suppress(OSError):
        # Who changes a folder is told its state with the answer.
        os.rmdir(tempfile.mkdtemp(prefix=".tmp-", dir=folder))


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, the new one where it is replaced meanwhile.

    Raises:
        OSError: If it cannot be read.
    """
    for left in reversed(range(_TRIES)):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE or not left:
                raise
    raise AssertionError("the last try returns or raises")


def move(source: Path, target: Path) -> None:
    """Rename a file or folder, over a file that is there; a rename that happened is none that failed.

    It has happened where the source is gone, which nobody else renames, and the target is there: the source itself, or
    what another process has put in its place since.

    Raises:
        OSError: If it cannot be renamed.
    """
    os.lstat(source)
    try:
        os.replace(source, target)
    except FileNotFoundError:
        for left in reversed(range(_TRIES)):
            for folder in {source.parent, target.parent}:
                look_anew(folder)
            if os.path.lexists(target) and not os.path.lexists(source):
                return
            if left and not os.path.lexists(source):  # who replaces it moves it aside first
                time.sleep(_WAIT)
            else:
                raise


def exchange(first: Path, second: Path) -> bool:
    """Let two folders that are there change places in one step; tell whether this system can, and both were there.

    Raises:
        OSError: If they cannot be renamed.
    """
    swap = _renameat2()
    if swap is None or not is_local(second.parent):
        return False
    if not swap(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOENT):
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


_HERE, _RENAME_EXCHANGE = -100, 2


@cache
def _renameat2() -> Any:
    """Return the C library's function, which Python does not have; None where there is none."""
    if platform.system() != "Linux":
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return found


def remove_directory(folder: Path) -> None:
    """Remove a folder with what is in it, whoever else removes it too.

    Raises:
        OSError: If it cannot be removed.
    """
    for left in reversed(range(_TRIES)):
        try:
            shutil.rmtree(folder)
            return
        except FileNotFoundError:
            if not folder.exists():
                return
            if not left:
                raise
