"""Where pictures of items are before the folder is written: fetched ones, or a folder or zip file on disk."""

from __future__ import annotations

import logging
import os
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Protocol

from tqdm import tqdm

from illmrec import checksums
from illmrec.data.images import MAX_BYTES, decode_image
from illmrec.data.picture_files import IMAGE_SUFFIXES
from illmrec.errors import InputError
from illmrec.files import hash_json, leads_out
from illmrec.zips import UNPACK_ERRORS, check_member

logger = logging.getLogger(__name__)


class PictureStore(Protocol):
    """Files of pictures by item."""

    @property
    def suffixes(self) -> Mapping[str, str]:
        """The items that have one, and how its name ends."""

    @property
    def missing(self) -> Counter[str]:
        """Why others have none."""

    def read(self, item_id: str) -> bytes:
        """Return an item's file."""


class FetchedPictures:
    """Pictures that were downloaded and checked then."""

    def __init__(self, files: Mapping[str, Path], *, missing: Counter[str]) -> None:
        """Take files.

        Args:
            files: By item.
            missing: Why others have none.
        """
        self._files = files
        self.suffixes = {item_id: path.suffix for item_id, path in files.items()}
        self.missing = missing

    def read(self, item_id: str) -> bytes:
        """Return an item's file."""
        return self._files[item_id].read_bytes()


class LocalPictures:
    """Pictures in a folder or a zip file, found by the names of the files; those that cannot be decoded are missing."""

    def __init__(
        self, path: Path, names: Mapping[str, Sequence[str]], *, cache: Path, progress: bool = False
    ) -> None:
        """List the files and decode those of the items, once: what cannot be decoded is remembered.

        Args:
            path: Folder, whose folders are looked into, or zip file.
            names: Names without suffix that each item's file may have; the first that is there counts.
            cache: Folder that remembers which files are broken.
            progress: Show a bar.

        Raises:
            InputError: If it cannot be read.
        """
        self._zip = _opened(path) if path.is_file() else None
        listed = _listed_zip(self._zip) if self._zip is not None else _listed(path)
        first = {
            item_id: next((name for name in map(_composed, of_item) if name in listed), None)
            for item_id, of_item in names.items()
        }
        found = {item_id: listed[name] for item_id, name in first.items() if name is not None}
        self._root = path
        self._where = {item_id: place for item_id, (place, _) in found.items()}
        broken = self._broken({item_id: state for item_id, (_, state) in found.items()}, cache, progress)
        self.missing: Counter[str] = Counter(broken.values())
        if len(found) < len(names):
            self.missing["no file of that name"] = len(names) - len(found)
        self.suffixes = {
            item_id: PurePosixPath(place).suffix.lower()
            for item_id, place in self._where.items()
            if item_id not in broken
        }

    def read(self, item_id: str) -> bytes:
        """Return an item's file.

        Raises:
            InputError: If it cannot be read, or is above the limit of a file.
        """
        place = self._where[item_id]
        try:
            if self._zip is not None:
                check_member(self._zip.getinfo(place))
                if self._zip.getinfo(place).file_size > MAX_BYTES:
                    raise InputError(f"{place}: exceeds {MAX_BYTES:,} bytes")
                return self._zip.read(place)
            with (self._root / place).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except InputError:
            raise
        except UNPACK_ERRORS as error:
            raise InputError(f"{self._root}, {place}: cannot be read ({error})") from None
        if len(content) > MAX_BYTES:
            raise InputError(f"{place}: exceeds {MAX_BYTES:,} bytes")
        return content

    def _broken(self, states: Mapping[str, str], cache: Path, progress: bool) -> dict[str, str]:
        """Return why files cannot be used, by item; from the cache where the same files were looked at before."""
        path = cache / f"decoded-{hash_json([str(self._root.name), sorted(states.items())])}.json"
        if (known := checksums.kept(path)) is not None:
            found = known.get("broken")  # an earlier version wrote them alone
            return found if isinstance(found, dict) else known

        def fault(item_id: str) -> str:
            try:
                decode_image(self.read(item_id), where=item_id)
            except InputError as error:
                return _in_words(str(error))
            return ""

        # A zip file is read by one thread at a time.
        workers = 1 if self._zip is not None else min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(max_workers=workers) as threads:
            said = list(
                tqdm(
                    threads.map(fault, states),
                    total=len(states),
                    desc="checking pictures",
                    unit="file",
                    disable=not progress,
                    delay=1,
                )
            )
        broken = {item_id: words for item_id, words in zip(states, said, strict=True) if words}
        checksums.write_json(path, {"broken": broken})
        return broken


def _in_words(said: str) -> str:
    for words in ("empty", "pixels", "corrupt or truncated", "exceeds"):
        if words in said:
            return {"pixels": "more pixels than the limit", "exceeds": "larger than the limit"}.get(
                words, words
            )
    return "not a picture"


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except UNPACK_ERRORS as error:
        raise InputError(f"{path}: cannot be read as a zip file ({error}); pack it again") from None


def _listed_zip(archive: zipfile.ZipFile) -> dict[str, tuple[str, str]]:
    """Return path and state of each picture in a zip file, by name without suffix."""
    names = (
        (info.filename, f"{info.CRC} {info.file_size}")
        for info in archive.infolist()
        if not info.filename.endswith("/")
    )
    return _by_name(sorted(names))


def _listed(folder: Path) -> dict[str, tuple[str, str]]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder or zip file of pictures")
    found = []
    for directory, _, files in os.walk(folder):  # links to folders are not followed
        for name in files:
            path = Path(directory, name)
            if not path.is_file() or (path.is_symlink() and leads_out(path, folder)):
                continue  # also what is no file: a pipe would be waited for
            state = path.stat()
            found.append((path.relative_to(folder).as_posix(), f"{state.st_size} {state.st_mtime_ns}"))
    return _by_name(sorted(found))


def _by_name(files: Sequence[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    listed: dict[str, tuple[str, str]] = {}
    twice = 0
    for path, state in files:
        inside = PurePosixPath(path.replace("\\", "/"))
        if inside.suffix.lower() not in IMAGE_SUFFIXES or any(
            part.startswith((".", "__MACOSX")) for part in inside.parts
        ):
            continue
        name = _composed(inside.name[: -len(inside.suffix)])
        twice += name in listed
        listed.setdefault(name, (path, state))
    if twice:
        logger.warning("%d pictures have the name of another; the first of each is used", twice)
    return listed
