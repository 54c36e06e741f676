"""Checksums of stored files: what is read is what was written, or the file is named.

A folder that is written whole has a file ``checksums.json`` with the size of each file in it and a CRC-32 for every
4 MiB. A JSON file that stands alone, or a line of one that grows, holds a digest of its own content. A CRC-32 is there
for what disks and copies do to files: it misses no single bit and no burst of up to 32 bits, and one other fault in
four billion; it keeps nobody out who may write there.

Files of earlier versions have none and are read as they are, without a word.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from illmrec.errors import DamagedError
from illmrec.files import atomic_directory, atomic_write_text, parsed_json, writing
from illmrec.network_folders import is_local, look_anew, move, read_bytes
from illmrec.temporary import scratch_folder

logger = logging.getLogger(__name__)

CHECKSUMS = "checksums.json"
BLOCK = 4 << 20
"""Bytes that have a checksum of their own."""

ARRAY_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError, MemoryError, OverflowError)
"""What reading a description and a ``.npy`` file has been seen to raise where they were not whole."""

_OWN = "checksum"
_REMEMBERED = 1 << 20  # smaller files are read again sooner than looked up
_THREADS = min(4, os.cpu_count() or 1)  # CRC-32 is computed without the interpreter's lock
_known: dict[tuple[int, int], tuple[int, int, list[str]]] = {}
"""Checksums of large files that this process has read, by device and inode: size, time of change, and the sums."""


def seal(folder: Path, *names: str) -> None:
    """Write ``checksums.json`` over files of a folder.

    Args:
        folder: The folder, which nobody reads yet.
        names: The files, or none for all that are there.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
        OSError: If a file cannot be read.
    """
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = {name: _sums(folder / name) for name in names or found if name != CHECKSUMS}
    write_json(folder / CHECKSUMS, {"block": BLOCK, "files": files}, indent=None)


@contextlib.contextmanager
def sealed_directory(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes ``path``, with checksums of its files; see :func:`atomic_directory`.

    Raises:
        InputError: If the disk is full or the parent folder cannot be written.
    """
    with atomic_directory(path) as folder:
        yield folder
        seal(folder)


def first_fault(folder: Path, *names: str) -> tuple[Path, str] | None:
    """Return the first file of a folder that is not what was written, and in words how it differs; or None.

    Files that are named are read whole; those of 1 MiB and more only once by a process, unless they change. All others
    that the list names have to be there.

    Args:
        folder: What :func:`seal` was given; of one that an earlier version left nothing is known.
        names: The files that are read now, or none for all of the list.
    """
    listed = folder / CHECKSUMS
    before = _inode(listed)
    found = None if before is None else _first_fault(folder, names)
    if found is not None and not is_local(folder):
        # Seen in part before another machine wrote it, and in part after.
        for seen in (folder.parent, folder):
            look_anew(seen)
        before, found = _inode(listed), _first_fault(folder, names)
    while (
        found is not None and (now := _inode(listed)) != before
    ):  # another process has just replaced the folder
        before, found = now, _first_fault(folder, names)
    return found


def _first_fault(folder: Path, names: Collection[str]) -> tuple[Path, str] | None:
    listed = folder / CHECKSUMS
    try:
        known = _listed(listed)
    except DamagedError as error:
        return listed, str(error).partition(": damaged (")[2].removesuffix(")")
    for name in names:
        if name not in known:
            return folder / name, f"{CHECKSUMS} does not name it"
    for name, expected in known.items():
        path = folder / name
        if not names or name in names:
            if found := _difference(path, expected):
                return path, found
        elif not path.is_file():
            return path, "it is missing"
    return None


def check(folder: Path, *names: str, remedy: str) -> None:
    """Make sure that files of a folder are those that were written; see :func:`first_fault`.

    Args:
        folder: The folder.
        names: The files that are read now, or none for all.
        remedy: What the error says is to be done.

    Raises:
        DamagedError: If one is not; the message names it.
    """
    found = first_fault(folder, *names)
    if found is not None:
        raise DamagedError(f"{found[0]}: damaged ({found[1]}); {remedy}")


def seal_file(path: Path, written: Path) -> None:
    """Write ``NAME.json`` with the checksums of a file into a folder that several processes write to.

    Args:
        path: The name that the file is given next.
        written: Where it is now.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    write_json(_beside(path), _sums(written), indent=None)


def file_fault(path: Path) -> str:
    """Return in words how a file that :func:`seal_file` was given differs from what was written, or ""."""
    beside = _beside(path)
    if not beside.is_file():
        return ""
    try:
        return _difference(path, read_json(beside, needed=True))
    except DamagedError:
        return f"{beside.name} is damaged"


def remove_file(path: Path) -> None:
    """Remove a file and its checksums."""
    path.unlink(missing_ok=True)
    _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def renew(path: Path, error: Exception) -> None:
    """Say that what a cache holds is damaged and made again, and take it out of the way.

    Args:
        path: The file, or folder, that is not to be read; another process may have removed it.
        error: What is wrong with it, in one line.

    Raises:
        InputError: If it cannot be removed.
    """
    logger.warning("%s: it is made again now", str(error).partition("; ")[0])
    with writing(path), scratch_folder(path.parent) as aside, contextlib.suppress(FileNotFoundError):
        move(path, aside / "old")


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON values with a digest of them under ``checksum``, in place of one that is there."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    plain.pop(_OWN, None)
    return {**plain, _OWN: _digest(plain)}


def checked(found: Any, *, needed: bool = False) -> dict[str, Any]:
    """Return what :func:`with_checksum` was given.

    Args:
        found: JSON values.
        needed: Whether an object without a checksum is refused, and not returned as it is.

    Raises:
        ValueError: If it is no object, or the checksum is that of another.
    """
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    rest = {name: value for name, value in found.items() if name != _OWN}
    has_one = _OWN in found or any(map(_is_nearly_own, found))
    if (needed or has_one) and found.get(_OWN) != _digest(rest):
        raise ValueError("its checksum is not that of its content")
    return rest


def line(value: Mapping[str, Any]) -> str:
    """Return an object as a line of JSON with a checksum of its own, for a file that grows.

    What UTF-8 cannot hold, halves of surrogate pairs, becomes question marks.
    """
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace").decode()
    return json.dumps(with_checksum(json.loads(text)), ensure_ascii=False) + "\n"


def write_json(path: Path, value: Mapping[str, Any], *, indent: int | None = 1) -> None:
    """Write a JSON file whole, with a checksum of its own.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    atomic_write_text(path, json.dumps(with_checksum(value), indent=indent, ensure_ascii=False) + "\n")


def read_json(path: Path, *, remedy: str = "", needed: bool = False) -> dict[str, Any]:
    """Return what :func:`write_json` wrote, or an earlier version without a checksum.

    Args:
        path: The file.
        remedy: What the error says is to be done.
        needed: Whether a file without a checksum is refused, too.

    Raises:
        DamagedError: If it cannot be read or is not what was written; the message names it.
    """
    try:
        return checked(parsed_json(read_bytes(path).decode("utf-8")), needed=needed)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "cannot be read")
        raise DamagedError(f"{path}: damaged ({reason})" + (f"; {remedy}" if remedy else "")) from error


def kept(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file of a cache holds; None where there is none, or it is damaged: it is named and removed.

    Raises:
        InputError: If it cannot be removed.
    """
    if not path.exists():
        return None
    try:
        return read_json(path)
    except DamagedError as error:
        renew(path, error)
        return None


def _is_nearly_own(name: str) -> bool:
    """Tell whether one letter of the checksum's name is another: it is there, and damaged."""
    return len(name) == len(_OWN) and sum(map(str.__ne__, name, _OWN)) == 1


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _listed(path: Path) -> dict[str, dict[str, Any]]:
    found = read_json(path, needed=True)
    if found.get("block") != BLOCK or not isinstance(found.get("files"), dict):
        raise DamagedError(f"{path}: damaged (no list of checksums)")
    return {str(name): sums for name, sums in found["files"].items()}


def _difference(path: Path, expected: Mapping[str, Any]) -> str:
    try:
        found = _sums(path)
    except OSError as error:
        return error.strerror or "cannot be read"
    if found["bytes"] != expected["bytes"]:
        return f"it has {found['bytes']:,} bytes, not {expected['bytes']:,}"
    for number, (is_now, was) in enumerate(zip(found["crc32"], expected["crc32"], strict=True)):
        if is_now != was:
            last = min((number + 1) * BLOCK, found["bytes"])
            return f"bytes {number * BLOCK:,} to {last:,} are not those that were written"
    return ""


def _sums(path: Path) -> dict[str, Any]:
    """Return the size of a file and a CRC-32 of each block, as they are listed."""
    with path.open("rb") as file:
        state = os.fstat(file.fileno())
        place = (state.st_dev, state.st_ino)
        known = _known.get(place)
        if known is not None and known[:2] == (state.st_size, state.st_mtime_ns):
            return {"bytes": state.st_size, "crc32": known[2]}

        if state.st_size <= BLOCK:
            sums = [_crc(file.read())]
        else:
            with ThreadPoolExecutor(max_workers=_THREADS) as threads:
                sums = list(threads.map(partial(_block, path), range(0, state.st_size, BLOCK)))
    if state.st_size >= _REMEMBERED:
        _known[place] = (state.st_size, state.st_mtime_ns, sums)
    return {"bytes": state.st_size, "crc32": sums}


def _block(path: Path, start: int) -> str:
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        return _crc(file.read(BLOCK))


def _crc(content: bytes) -> str:
    return f"{zlib.crc32(content):08x}"
