"""Files on disk: where caches live, keys of contents, and writes that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import filelock
import numpy as np
import numpy.typing as npt

from illmrec.errors import InputError

logger = logging.getLogger(__name__)


def cache_dir() -> Path:
    """Return the folder for converted models, features and candidates: ``$ILLMREC_CACHE`` or the user's cache."""
    configured = os.environ.get("ILLMREC_CACHE")
    return Path(configured) if configured else Path.home() / ".cache" / "illmrec"


def hash_json(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON-serialisable value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parsed_json(text: str | bytes) -> Any:
    """Return the value of a JSON text that came from outside.

    Raises:
        ValueError: If it is none, is not UTF-8, or is nested deeper than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def loaded_npy(path: Path, *, mode: Literal["r", "c"] | None = None) -> np.ndarray:
    """Return the array of a ``.npy`` file that may be damaged; no pickle is read.

    Args:
        path: The file.
        mode: Mapped for reading (``r``) or for changes that are not written (``c``); None reads it into memory.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not whole, whatever its header says.
    """
    try:
        # Mapped first in any case: of a header that claims terabytes nothing is reserved.
        with np.errstate(over="ignore"):
            array = np.load(path, mmap_mode=mode or "r", allow_pickle=False)
    except (
        SyntaxError,
        tokenize.TokenError,
        TypeError,
        MemoryError,
        OverflowError,
        RecursionError,
        EOFError,
    ) as error:
        raise ValueError(f"{path.name} has no header of an array ({error})") from None
    if not isinstance(array, np.memmap):
        raise ValueError(f"{path.name} is no file of one array")
    return array if mode else np.array(array)


def leads_out(path: Path, folder: Path) -> bool:
    """Tell whether a path, links followed, is outside of a folder, or a link that leads in a circle.

    Args:
        path: What may be a link, or lie behind one.
        folder: The folder; links are followed there, too.
    """
    try:
        return not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a circle, before Python 3.13 a RuntimeError
        return True


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path`` when the block ends without an error.

    A killed process leaves at most a hidden ``.tmp-*`` folder, never a half-written ``path``. Where another
    process finished first, its result is replaced.

    Raises:
        InputError: If the disk is full or the parent folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
        temporary.chmod(_public_mode(directory=True))
        yield temporary
        if path.exists():
            # A folder cannot be replaced in one step: move the old one aside so that path is never half of each.
            old = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
            os.replace(path, old / "old")
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise _disk_error(path, error) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file whole: the old content stays until the new one is complete.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(_public_mode(directory=False))
        os.replace(temporary, path)
    except OSError as error:
        raise _disk_error(path, error) from error
    finally:
        if temporary is not None and temporary.exists():
            temporary.unlink()


@contextlib.contextmanager
def exclusive(directory: Path, description: str) -> Iterator[None]:
    """Let one process at a time compute what goes into a folder; others wait for it.

    A lock that a killed process held is free.

    Args:
        directory: The folder; the lock lies beside it.
        description: What is computed, for the log of those that wait.

    Raises:
        InputError: If the folder beside it cannot be written.
    """
    lock = filelock.FileLock(directory.with_name(directory.name + ".lock"))
    with writing(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            logger.info("%s: another process is computing it; waiting", description)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be written, into an InputError of one line."""
    try:
        yield
    except OSError as error:
        raise _disk_error(path, error) from error


def check_space(folder: Path, needed: int, *, what: str, spare: int = 0) -> None:
    """Check that a file fits on the disk, before anything of it is written.

    Args:
        folder: Where it goes; there already.
        needed: Its bytes.
        what: The beginning of the message.
        spare: Bytes that are to stay free.

    Raises:
        InputError: If less is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free - spare:
        raise InputError(
            f"{what}: needs {needed / 1e9:,.2f} GB, and {free / 1e9:,.2f} GB are free in {folder}; free some space or "
            "choose another folder (ILLMREC_CACHE)"
        )


def allocate(path: Path, *, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Write a ``.npy`` file of zeros that owns its blocks: a full disk is an error here, not a crash later.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    block = bytes(1 << 20)
    kind = np.dtype(dtype)
    remaining = kind.itemsize * int(np.prod(shape))
    with path.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        while remaining:
            remaining -= file.write(block[: min(remaining, len(block))])


_DISK_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
}


def _disk_error(path: Path, error: OSError) -> Exception:
    """Turn a full disk or a folder that cannot be written into an InputError; other errors stay what they are."""
    if error.errno not in _DISK_ERRNOS:
        return error
    return InputError(
        f"cannot write {path}: {error.strerror}; free some space or choose another folder (--out, ILLMREC_CACHE)"
    )


def _public_mode(directory: bool) -> int:
    """Return the mode that the user's umask gives new files; mkstemp and mkdtemp make private ones."""
    umask = os.umask(0)
    os.umask(umask)
    return (0o777 if directory else 0o666) & ~umask
