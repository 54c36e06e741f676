"""Zip files, tar files and folders of pictures: bombs, links, names that lead out, damage."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from contained import CANARY, Reader
from hostile_pictures import check_picture, hostile_picture
from mutated_files import TEXTS, mutated_bytes

IDS = ("B1", "B2", "B3", "../B4", "a/b", "..", "Café", "B" * 300, "B\x1b[31m", "CON", "B7 ", "\ud7ff")
_ENDINGS = (".jpg", ".JPG", ".png", ".gif", ".webp", ".tiff", ".txt", "", ".jpg.png")
_FOLDERS = (
    "",
    "images/",
    "a/b/c/",
    "../",
    "../../",
    "/",
    "/etc/",
    "./",
    "C:\\",
    "images\\",
    "__MACOSX/",
    ".hidden/",
    "x" * 250 + "/",
    "//",
)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def odd_name(rng: random.Random) -> str:
    """Return the name of a member: mostly of an item's picture, somewhere."""
    if rng.random() < 0.1:
        return rng.choice(TEXTS)[:200] + rng.choice(_ENDINGS)
    return rng.choice(_FOLDERS) + rng.choice(IDS) + rng.choice(_ENDINGS)


def hostile_zip(rng: random.Random) -> bytes:
    """Return a zip file."""
    kind = rng.randrange(12)
    if kind == 0:
        return bomb(
            rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)), honest=rng.random() < 0.5
        )
    if kind == 1 and rng.random() < 0.2:
        return _many(rng)
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for number in range(rng.randint(0, 5)):
            name = odd_name(rng) if rng.random() < 0.6 else f"images/{rng.choice(IDS[:3])}{number}.jpg"
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = rng.choice(_METHODS)
            content = hostile_picture(rng, small=True)
            if rng.random() < 0.2:  # a symbolic link
                info.create_system, info.external_attr = 3, 0o120777 << 16
                content = rng.choice((b"/etc/passwd", b"../../outside/B1.jpg", b"B1.jpg"))
            try:
                archive.writestr(info, content)
            except (UnicodeEncodeError, ValueError, struct.error):
                continue
    content = bytearray(file.getvalue())
    if kind == 2:
        _set_flags(
            content, rng.choice((1, 1 << 6, 1 << 11, 1 << 13))
        )  # encrypted, strongly so, UTF-8, masked
    elif kind == 3:
        _overlapping(rng, content)
    elif kind == 4:
        return rng.randbytes(rng.choice((1, 5_000))) + bytes(content)
    elif kind == 5:
        return bytes(content) + bytes(rng.choice((1, 70_000)))
    elif kind >= 8:
        return mutated_bytes(rng, bytes(content))
    return bytes(content)


def bomb(method: int, *, honest: bool, size: int = 3_000_000_000) -> bytes:
    """Return a zip file of one member that unpacks to gigabytes, whose directory says so or says 100 bytes."""
    piece = bytes(1 << 24)
    compressor: Any = {
        zipfile.ZIP_DEFLATED: lambda: zlib.compressobj(9, zlib.DEFLATED, -15),
        zipfile.ZIP_BZIP2: lambda: bz2.BZ2Compressor(9),
        zipfile.ZIP_LZMA: lambda: _ZipLzma(),
    }[method]()
    # What is unpacked need not be whole to be a bomb: a part of it already does not fit.
    packed = b"".join(compressor.compress(piece) for _ in range(6)) + compressor.flush()
    claimed = min(size, 2**32 - 2) if honest else 100
    return zip_of("images/B1.jpg", packed, method=method, claimed=claimed)


class _ZipLzma:
    """LZMA as zip files have it: four bytes and the properties before the stream."""

    def __init__(self) -> None:
        filters = [{"id": lzma.FILTER_LZMA1, "preset": 1}]
        properties = lzma._encode_filter_properties(filters[0])  # type: ignore[attr-defined]
        self._head = struct.pack("<BBH", 9, 4, len(properties)) + properties
        self._stream = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)

    def compress(self, data: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + self._stream.compress(data)

    def flush(self) -> bytes:
        return self._stream.flush()


def zip_of(name: str, packed: bytes, *, method: int, claimed: int, crc: int = 0) -> bytes:
    """Return a zip file of one member, with sizes and checksum as told."""
    encoded = name.encode()
    shared = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, crc, len(packed), claimed, len(encoded), 0)
    local = b"PK\x03\x04" + shared + encoded + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + shared + struct.pack("<HHHII", 0, 0, 0, 0, 0) + encoded
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def _many(rng: random.Random) -> bytes:
    """Return a zip file of 100,000 entries."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(100_000):
            archive.writestr(zipfile.ZipInfo(f"images/{number}.jpg"), b"")
        archive.writestr("images/B1.jpg", hostile_picture(rng, small=True))
    return file.getvalue()


def _set_flags(content: bytearray, flags: int) -> None:
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + at] |= flags & 255
            content[start + at + 1] |= flags >> 8
            start = content.find(signature, start + 4)


def _overlapping(rng: random.Random, content: bytearray) -> None:
    """Let all entries of the directory lead to the same place, or to nowhere."""
    start = content.find(b"PK\x01\x02")
    while start >= 0:
        content[start + 42 : start + 46] = struct.pack("<I", rng.choice((0, 0, 1, 2**32 - 1)))
        start = content.find(b"PK\x01\x02", start + 4)


def hostile_tar(rng: random.Random) -> bytes:
    """Return a tar file."""
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
    ) as archive:
        for number in range(rng.randint(0, 5)):
            name = odd_name(rng) if rng.random() < 0.6 else f"images/{rng.choice(IDS[:3])}{number}.jpg"
            info = tarfile.TarInfo(name.replace("\x00", "").replace("\ud7ff", "") or "x")
            info.type = rng.choice((tarfile.REGTYPE,) * 6 + (
                tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
                tarfile.GNUTYPE_SPARSE,
            ))  # fmt: skip
            info.linkname = rng.choice(("/etc/passwd", "../../outside/B1.jpg", "images/B1.jpg"))
            content = hostile_picture(rng, small=True) if info.type == tarfile.REGTYPE else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    content = bytearray(file.getvalue())
    kind = rng.randrange(6)
    if kind == 0 and len(content) > 512:  # a size that the file does not have; checksum right
        content[124:136] = rng.choice(
            (b"77777777777\0", b"00000000001\0", b"\x80" + bytes(6) + b"\x7f" + b"\xff" * 4, b"\xff" * 12)
        )
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
    elif kind == 1:
        return mutated_bytes(rng, bytes(content), most=20)
    elif kind == 2:
        return bytes(content[: rng.randrange(len(content) + 1)])
    return bytes(content)


def _write_zip(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "images.zip").write_bytes(hostile_zip(rng))


def _write_tar(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "images.tar").write_bytes(hostile_tar(rng))


def _write_folder(rng: random.Random, folder: Path, corpus: Path) -> None:
    images = folder / "images"
    if rng.random() < 0.05:
        images.symlink_to(rng.choice(("../../outside", "/etc", ".", "nowhere")))
        return
    images.mkdir()
    for number in range(rng.randint(0, 6)):
        inside = images / rng.choice(("", "a", "a/b", "é"))
        inside.mkdir(parents=True, exist_ok=True)
        name = rng.choice(("B1", "B2", "B3", "Café", f"x{number}", "B\x1b[31m", "\udcff")) + rng.choice(
            _ENDINGS
        )
        path = inside / name
        if path.is_symlink() or path.exists():
            continue
        kind = rng.randrange(10)
        if kind == 0:
            path.symlink_to(
                rng.choice(
                    (
                        "/etc/passwd",
                        "../../../outside/B1.jpg",
                        "../../outside/secret.txt",
                        "nowhere",
                        path.name,
                    )
                )
            )
        elif kind == 1:
            path.symlink_to(rng.choice((".", "..", "../..", "/")), target_is_directory=True)
        elif kind == 2:
            os.mkfifo(path)
        elif kind == 3:
            path.mkdir()
        elif kind == 4 and number < 1:
            with path.open("wb") as file:
                file.truncate(300_000_000)  # of zeros, which take no place
        elif kind == 5:
            path.write_bytes(b"")
            path.chmod(0)
        else:
            path.write_bytes(hostile_picture(rng))


def _read(folder: Path, corpus: Path) -> None:
    """Find the pictures of items and read each; what cannot be read is named."""
    from illmrec.data.picture_files import find_images
    from illmrec.errors import InputError

    found = find_images(folder, item_ids=IDS)
    refused: InputError | None = None
    if found is None:
        return
    assert found.available.shape == (len(IDS),) and found.available.dtype == bool
    assert len(found.fingerprint) == 16
    for item in np.flatnonzero(found.available).tolist():
        try:
            picture = found.read(item)
        except InputError as error:
            refused = error
            continue
        check_picture(picture)
        assert CANARY.encode() not in picture.tobytes()
    if refused is not None:
        raise refused


def _read_publishers(folder: Path, corpus: Path) -> None:
    """Find pictures as a data set's are found, which counts those that cannot be read."""
    from illmrec.data.registry import source_named
    from illmrec.data.sources.picture_stores import LocalPictures
    from illmrec.data.sources.places import pictures_place

    place = pictures_place(source_named("hm"), directory=folder)
    if place is None:
        return
    names = {item_id: [item_id, f"{item_id}0"] for item_id in IDS}
    store = LocalPictures(place, names, cache=folder / "work")
    for item_id in store.suffixes:
        assert isinstance(store.read(item_id), bytes)
    assert all(isinstance(reason, str) for reason in store.missing)


def _write_either(rng: random.Random, folder: Path, corpus: Path) -> None:
    rng.choice((_write_zip, _write_folder))(rng, folder, corpus)


READERS = (
    Reader(name="zip", write=_write_zip, read=_read, inputs=120),
    Reader(name="tar", write=_write_tar, read=_read, inputs=120),
    Reader(name="folders", write=_write_folder, read=_read, inputs=80),
    Reader(name="publishers-pictures", write=_write_either, read=_read_publishers, inputs=80),
)
