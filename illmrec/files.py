"""Files on disk: where caches live, keys of contents, and writes that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from illmrec.errors import InputError
from illmrec.network_folders import exchange, move
from illmrec.temporary import REPLACED, discard, put_back, replacing, scratch_folder

_TRIES = 20  # others may put a folder there as often


def cache_dir() -> Path:
    """Return the folder for converted models, features and candidates.

    It is ``$ILLMREC_CACHE``, else ``illmrec`` in ``$XDG_CACHE_HOME``, else ``~/.cache/illmrec``.
    """
    configured = os.environ.get("ILLMREC_CACHE")
    if configured:
        return Path(configured)
    shared = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    # A path that is not absolute is to be ignored, says the XDG base directory specification.
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "illmrec"


def hash_json(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON-serialisable value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


MOST_DIGITS = 308
"""Of a whole number: what becomes a number of a table or a model fits a float."""


def parsed_json(text: str | bytes) -> Any:
    """Return the value of a JSON text that came from outside.

    Raises:
        ValueError: If it is none, is not UTF-8, is nested deeper than can be read, or has a whole number of more than
            :data:`MOST_DIGITS` digits.
    """
    try:
        return json.loads(text, parse_int=whole_number)
    except RecursionError:
        raise ValueError("nested too deep") from None


def whole_number(digits: str) -> int:
    """Return the whole number that a text from outside spells.

    Raises:
        ValueError: If it has more than :data:`MOST_DIGITS` digits, and so fits no float.
    """
    if (length := len(digits.lstrip("-"))) > MOST_DIGITS:
        raise ValueError(f"a whole number of {length:,} digits")
    return int(digits)


def is_folder(name: str | Path) -> bool:
    """Return whether a name that came from outside is a folder's; one that is too long for any is none's."""
    return os.path.isdir(name)  # Path.is_dir raises for such names


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
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(path.parent) as temporary:
            yield temporary
            move_directory(temporary, path)


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file whole: the old content stays until the new one is complete.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def move_directory(source: Path, target: Path) -> None:
    """Rename a folder, in place of one that is there or that another process puts there at the same moment.

    There is always one at the target: the two change places in one step. Where the system has no such step, the old one
    is moved aside first, and back again if the new one cannot be moved or the process dies in between.

    Raises:
        OSError: If it cannot be renamed.
    """
    for left in reversed(range(_TRIES)):
        try:
            move(source, target)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not left:
                raise
        if exchange(source, target):
            discard(source)
            return
        with scratch_folder(target.parent) as aside:
            kept = aside / REPLACED
            kept.mkdir(exist_ok=True)  # its own name: one that is there is this one, whose answer was lost
            with contextlib.suppress(FileNotFoundError):  # another process moved it
                move(target, kept / target.name)
            try:
                move(source, target)
                return
            except OSError as error:
                put_back(aside)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full or failing disk, or a folder that cannot be written, into an InputError of one line."""
    try:
        yield
    except Exception as error:
        if is_of_disk(error):
            raise disk_error(path, error) from error
        raise


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


def disk_error(path: object, error: Exception) -> Exception:
    """Turn an error of a disk or file system into an InputError of one line; other errors stay what they are.

    Args:
        path: What was to be written.
        error: An ``OSError``, with an errno or, as pyarrow raises some, without, or one of safetensors.
    """
    if not is_of_disk(error):
        return error
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return InputError(
        f"cannot write {path}: {reason}; free some space or choose another folder (--out, ILLMREC_CACHE)"
    )


def is_of_disk(error: BaseException) -> bool:
    """Tell whether an error is of a disk or file system, and not of a program or a network."""
    if isinstance(error, OSError):
        return not isinstance(error, _NOT_OF_DISKS) and error.errno not in _NETWORK_ERRNOS
    # The library writes by itself and has one class for all its errors.
    return type(error).__name__ == "SafetensorError" and "os error" in str(error)


_NOT_OF_DISKS = (
    FileNotFoundError,
    ConnectionError,
    BlockingIOError,
    ChildProcessError,
    InterruptedError,
    ProcessLookupError,
)
_NETWORK_ERRNOS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH}
