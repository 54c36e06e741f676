"""Pictures in a folder, a zip or a tar file, matched to items by listing the names once."""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

import numpy as np
from PIL import Image
from tqdm import tqdm

from illmrec.data.dataset import ImageSource
from illmrec.data.images import MAX_BYTES, REMEDY, decode_image
from illmrec.errors import InputError
from illmrec.files import hash_json, leads_out
from illmrec.zips import UNPACK_ERRORS, check_member

IMAGES, LOW_RESOLUTION = "images", "images-low"
"""Names, of a folder, a zip or a tar file, under which a data set's folder holds pictures and smaller ones of them."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif",
)  # fmt: skip
"""Endings of files that look like pictures, whatever their case."""

_BLOCK = 1 << 22  # bytes that are read at a time: a file may be larger than memory
_PACKED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

_log = logging.getLogger(__name__)


def find_images(folder: Path, *, item_ids: Sequence[str], name: str = IMAGES) -> ImageSource | None:
    """Return the pictures of ``folder/NAME``, ``NAME.zip`` or ``NAME.tar``, or None where there is none of them.

    A picture belongs to the item whose id is its name without the suffix. No path is ever built from an id:
    the names that exist are listed and compared, so an id such as ``../../x`` finds nothing. Links that lead
    out of the folder are not followed. Archives are read where they lie, picture by picture: nothing is unpacked.

    Args:
        folder: The data set's folder.
        item_ids: Item ids by row.
        name: ``IMAGES`` or ``LOW_RESOLUTION``.

    Raises:
        InputError: If there are several, two pictures claim one item, or the archive or the folder cannot be read.
    """
    directory = folder / name
    kinds: dict[Path, Callable[..., FolderImages | ZipImages | TarImages]] = {
        directory: FolderImages,
        folder / f"{name}.zip": ZipImages,
        folder / f"{name}.tar": TarImages,
    }
    found = [path for path in kinds if (path.is_dir() if path == directory else path.is_file())]
    if len(found) > 1:
        raise InputError(f"{folder}: holds both {found[0].name} and {found[1].name}; keep one")
    if not found:
        packed = [path for ending in _PACKED_TAR if (path := folder / f"{name}{ending}").is_file()]
        if packed:
            raise InputError(
                f"{packed[0]}: no picture can be found in a packed tar file without unpacking all before it; unpack it "
                f"to {name}.tar, which is hardly larger, as pictures are packed themselves"
            )
        return None
    images = kinds[found[0]](found[0], item_ids=item_ids)
    if not images.available.any():
        _log.warning(
            "%s: no picture is named after an item id, such as %s.jpg; all count as missing",
            images.path,
            repr(item_ids[0])[1:-1],
        )
    return images


class FolderImages:
    """Pictures ``<item_id>.jpg`` and the like in a folder and the folders in it.

    The fingerprint is over names, sizes and contents.
    """

    def __init__(self, path: Path, *, item_ids: Sequence[str]) -> None:
        """List the folder and read every item's picture once, for the fingerprint."""
        self.path = path
        self._item_ids = item_ids
        # Links may point anywhere inside the data set's folder, nowhere else.
        root = path.parent
        if leads_out(path, root):
            raise InputError(f"{path}: leads out of {root}; put the pictures themselves there")
        names, outside = [], 0
        # Links to folders are not walked into: they may lead in circles.
        for directory, _, files in os.walk(path):
            for file in map(Path(directory).joinpath, files):
                if file.is_symlink() and leads_out(file, root):
                    outside += 1
                elif file.is_file():
                    names.append(file.relative_to(path).as_posix())
        if outside:
            _log.warning("%s: %d links lead out of the folder and were not followed", path, outside)
        self._names = _match(((name, name) for name in sorted(names)), item_ids=item_ids, where=path)
        self.available = np.array([name is not None for name in self._names], dtype=bool)
        self.fingerprint = _content_fingerprint(self._names, self._blocks)

    def read(self, item: int) -> Image.Image:
        """Return the picture of an item, mode RGB."""
        return decode_image(self._content(item), where=self._where(item))

    def _content(self, item: int) -> bytes:
        name = self._names[item]
        if name is None:
            raise InputError(f"{self._where(item)}: the item has no image; ask only for available ones")
        blocks: list[bytes] = []
        for block in self._blocks(item):
            blocks.append(block)
            if sum(map(len, blocks)) > MAX_BYTES:
                raise InputError(f"{self._where(item)}: the file exceeds {MAX_BYTES:,} bytes; {REMEDY}")
        return b"".join(blocks)

    def _blocks(self, item: int) -> Iterator[bytes]:
        try:
            with (self.path / str(self._names[item])).open("rb") as file:
                while block := file.read(_BLOCK):
                    yield block
        except OSError as error:
            raise InputError(f"{self._where(item)}: {error.strerror}; {REMEDY}") from None

    def _where(self, item: int) -> str:
        return f"{self.path}, {self._names[item] or 'no file'!r}, item {self._item_ids[item]!r}"


class TarImages:
    """Pictures in a tar file that is not packed, in whichever of its folders.

    The fingerprint is over names, sizes and contents: that of a folder in which the files lie as in the tar file. Each
    read opens it anew, so that threads and processes share nothing.
    """

    def __init__(self, path: Path, *, item_ids: Sequence[str]) -> None:
        """List the tar file and read every item's picture once, for the fingerprint."""
        self.path = path
        self._item_ids = item_ids
        try:
            with (
                path.open("rb") as file,
                tarfile.open(fileobj=cast("IO[bytes]", _Bounded(file)), mode="r:") as archive,
            ):
                # Links and devices are no files; the parts of a sparse file do not lie together.
                members = [member for member in archive if member.isreg() and not member.issparse()]
            if negative := next((member.name for member in members if member.size < 0), None):
                raise ValueError(f"{negative!r} has less than no bytes")
        except (
            tarfile.TarError,
            OSError,
            ValueError,
            EOFError,
            OverflowError,
            IndexError,
            RecursionError,
        ) as error:
            raise InputError(f"{path}: cannot be read as a tar file ({error}); pack it again") from None
        files = [(member.name.removeprefix("./"), member.offset_data, member.size) for member in members]
        self._places = {name: (offset, size) for name, offset, size in files}
        names = [(name.replace("\\", "/"), name) for name, _, _ in files]
        self._names = _match(names, item_ids=item_ids, where=path)
        self.available = np.array([name is not None for name in self._names], dtype=bool)
        self.fingerprint = _content_fingerprint(self._names, self._blocks)

    def read(self, item: int) -> Image.Image:
        """Return the picture of an item, mode RGB."""
        return decode_image(self._content(item), where=self._where(item))

    def _content(self, item: int) -> bytes:
        name = self._names[item]
        if name is None:
            raise InputError(f"{self._where(item)}: the item has no image; ask only for available ones")
        if self._places[name][1] > MAX_BYTES:
            raise InputError(f"{self._where(item)}: the file exceeds {MAX_BYTES:,} bytes; {REMEDY}")
        return b"".join(self._blocks(item))

    def _blocks(self, item: int) -> Iterator[bytes]:
        offset, size = self._places[str(self._names[item])]
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                while size and (block := file.read(min(size, _BLOCK))):
                    size -= len(block)
                    yield block
        except OSError as error:
            raise InputError(f"{self._where(item)}: {error.strerror}; {REMEDY}") from None
        if size:
            raise InputError(f"{self._where(item)}: the tar file ends within it; pack it again")

    def _where(self, item: int) -> str:
        return f"{self.path}, {self._names[item] or 'no entry'!r}, item {self._item_ids[item]!r}"


class _Bounded:
    """A file of which no more is asked for than it has: tarfile believes a header that claims exabytes of names."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int) -> bytes:
        """Return as many bytes as are there, at most ``size``."""
        return self._file.read(min(size, max(0, self._size - self._file.tell())))

    def seek(self, place: int) -> int:
        """Go to a place."""
        return self._file.seek(place)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()


class ZipImages:
    """Pictures in a zip file, in whichever of its folders.

    The fingerprint is over names, CRC-32 and sizes in the zip's directory. One open file serves every read of
    a process; a forked or spawned worker opens its own.
    """

    def __init__(self, path: Path, *, item_ids: Sequence[str]) -> None:
        """Read the zip file's directory."""
        self.path = path
        self._item_ids = item_ids
        self._open: tuple[int, zipfile.ZipFile] | None = None
        self._lock = threading.Lock()
        # Some programs on Windows write backslashes.
        names = [
            (info.filename.replace("\\", "/"), info.filename)
            for info in self._archive().infolist()
            if not info.filename.endswith("/")  # of a member without a name is_dir() fails
        ]
        self._names = _match(names, item_ids=item_ids, where=path)
        self.available = np.array([name is not None for name in self._names], dtype=bool)
        infos = [self._archive().getinfo(name) for name in self._names if name is not None]
        self.fingerprint = hash_json(sorted([info.filename, info.CRC, info.file_size] for info in infos))

    def read(self, item: int) -> Image.Image:
        """Return the picture of an item, mode RGB."""
        name = self._names[item]
        if name is None:
            raise InputError(f"{self._where(item)}: the item has no image; ask only for available ones")
        try:
            with self._lock:
                archive = self._archive()
                content = _unpacked(archive, name, where=self._where(item))
        except InputError:
            raise
        except UNPACK_ERRORS as error:
            raise InputError(f"{self._where(item)}: cannot be unpacked ({error}); {REMEDY}") from None
        return decode_image(content, where=self._where(item))

    def _archive(self) -> zipfile.ZipFile:
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = (os.getpid(), zipfile.ZipFile(self.path))
            except UNPACK_ERRORS as error:
                raise InputError(
                    f"{self.path}: cannot be read as a zip file ({error}); pack it again"
                ) from None
        return self._open[1]

    def _where(self, item: int) -> str:
        return f"{self.path}, {self._names[item] or 'no entry'!r}, item {self._item_ids[item]!r}"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_open", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _open=None, _lock=threading.Lock())


def _unpacked(archive: zipfile.ZipFile, name: str, *, where: str) -> bytes:
    info = archive.getinfo(name)
    check_member(info)
    if info.file_size > MAX_BYTES:
        raise InputError(f"{where}: the file exceeds {MAX_BYTES:,} bytes; {REMEDY}")
    return archive.read(name)


def _content_fingerprint(names: Sequence[str | None], blocks_of: Callable[[int], Iterable[bytes]]) -> str:
    """Return what identifies names, sizes and contents of the items' files, all of which are read, block by block."""
    entries = []
    there = [item for item, name in enumerate(names) if name is not None]
    for item in tqdm(there, desc="reading pictures", unit="file", delay=1):
        digest, size = hashlib.sha256(), 0
        for block in blocks_of(item):
            digest.update(block)
            size += len(block)
        entries.append([names[item], size, digest.hexdigest()])
    return hash_json(sorted(entries, key=str))


def _match(names: Iterable[tuple[str, str]], *, item_ids: Sequence[str], where: Path) -> list[str | None]:
    """Return each item's picture, given (path with slashes, how to reach it) of all files.

    Names are compared in one Unicode form: file systems decompose letters with accents. What looks like a picture and
    belongs to no item is counted.

    Raises:
        InputError: If two pictures claim one item.
    """
    by_id: dict[str, tuple[str, str]] = {}
    wanted = {_composed(item_id) for item_id in item_ids}
    strangers: list[str] = []
    for path, reach in names:
        inside = PurePosixPath(path)
        # Hidden files, what macOS packs beside pictures, and paths that lead out of where they stand.
        hidden = inside.is_absolute() or any(part.startswith((".", "__MACOSX")) for part in inside.parts)
        if hidden or inside.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        item_id = _composed(inside.name[: -len(inside.suffix)])
        if item_id not in wanted:
            strangers.append(path)
        elif item_id in by_id:
            raise InputError(
                f"{where}: {by_id[item_id][0]!r} and {path!r} both claim item {item_id!r}; keep one"
            )
        else:
            by_id[item_id] = (path, reach)
    if strangers and by_id:
        _log.warning(
            "%s: %d pictures are named after no item and are not used, such as %s",
            where,
            len(strangers),
            repr(strangers[0])[1:-1],
        )
    found = (by_id.get(_composed(item_id)) for item_id in item_ids)
    return [None if picture is None else picture[1] for picture in found]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
