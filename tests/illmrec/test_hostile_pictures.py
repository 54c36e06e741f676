"""Pictures, zip files, tar files and folders that were made to harm, and pictures of rare kinds as values."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from illmrec.data.images import decode_image
from illmrec.data.picture_files import find_images
from illmrec.data.sources.picture_stores import LocalPictures
from illmrec.errors import InputError


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def values(content: bytes) -> np.ndarray:
    return np.asarray(decode_image(content, where="here")).astype(int)


TURNED = {
    1: lambda rows: rows,
    2: lambda rows: rows[:, ::-1],
    3: lambda rows: rows[::-1, ::-1],
    4: lambda rows: rows[::-1],
    5: lambda rows: rows.transpose(1, 0, 2),
    6: lambda rows: np.rot90(rows, -1),
    7: lambda rows: rows[::-1, ::-1].transpose(1, 0, 2),
    8: lambda rows: np.rot90(rows),
}
"""What a viewer shows of each EXIF orientation, by numpy."""


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(["PNG", "TIFF", "WEBP"]),
    orientation=st.sampled_from(sorted(TURNED)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_pictures_are_turned_upright(kind: str, orientation: int, size: tuple[int, int], seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, size=(*size, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(rows), kind, exif=exif, **options)
    np.testing.assert_array_equal(values(content), TURNED[orientation](rows))


@pytest.mark.parametrize("orientation", sorted(TURNED))
def test_a_jpeg_is_turned_upright(orientation: int) -> None:
    rows = np.zeros((32, 48, 3), dtype=np.uint8)
    rows[:16, :24], rows[:16, 24:], rows[16:, :24] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(rows), "JPEG", exif=exif, quality=100, subsampling=0)
    assert abs(values(content) - TURNED[orientation](rows)).max() <= 3


def test_a_picture_is_turned_though_the_rest_of_its_exif_is_broken() -> None:
    """Pillow's exif_transpose turns it and fails then, as it writes the other tags anew."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x829A, 5, 1, 0xFFFFFF00)
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + entries + bytes(4)
    assert decode_image(encoded(Image.new("RGB", (16, 12)), "PNG", exif=exif), where="here").size == (12, 16)


def test_a_picture_of_many_broken_tags_is_read_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    """Pillow warns of each tag whose value lies beyond the file."""
    whole = encoded(Image.new("RGB", (16, 12), "red"), "TIFF")
    (start,) = struct.unpack_from("<I", whole, 4)
    (count,) = struct.unpack_from("<H", whole, start)
    beyond = b"".join(struct.pack("<HHII", 60_000 + tag, 2, 100, 0xFFFFFF00) for tag in range(30))
    entries = whole[start + 2 : start + 2 + 12 * count] + beyond + bytes(4)
    content = whole[:4] + struct.pack("<I", len(whole)) + whole[8:] + struct.pack("<H", count + 30) + entries
    assert decode_image(content, where="here").size == (16, 12)
    assert not recwarn.list


def test_a_palette_that_is_not_there_is_a_corrupt_picture() -> None:
    whole = encoded(Image.new("P", (8, 8), 3), "PNG")
    start = whole.index(b"PLTE") - 4
    (length,) = struct.unpack_from(">I", whole, start)
    with pytest.raises(InputError, match="here: the image is corrupt"):
        decode_image(whole[:start] + whole[start + 12 + length :], where="here")


LEVELS = np.array([[0, 257 * 10, 65535, 500]], dtype=np.uint16)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.fromarray(LEVELS), "PNG"), [0, 10, 255, 1]),
        (encoded(Image.fromarray(LEVELS), "TIFF"), [0, 10, 255, 1]),
        (encoded(Image.fromarray(LEVELS.astype(np.int32)), "TIFF"), [0, 10, 255, 1]),
        (encoded(Image.frombytes("I;16B", (4, 1), LEVELS.astype(">u2").tobytes()), "TIFF"), [0, 10, 255, 1]),
        (encoded(Image.fromarray(LEVELS), "PNG", transparency=500), [0, 10, 255, 255]),
    ],
    ids=["PNG", "TIFF", "32 bits", "big-endian", "one level is transparent"],
)
def test_16_bits_become_the_upper_eight(content: bytes, expected: list[int]) -> None:
    assert values(content)[0].tolist() == [[level] * 3 for level in expected]


def test_transparency_lies_on_white() -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 255])
    palette.putdata([0, 1, 2])
    found = values(encoded(palette, "PNG", transparency=b"\x00\x80\xff"))
    assert found[0].tolist() == [[255, 255, 255], [227, 127, 127], [0, 0, 255]]
    found = values(encoded(palette, "GIF", transparency=1))
    assert found[0].tolist() == [[10, 20, 30], [255, 255, 255], [0, 0, 255]]
    found = values(encoded(Image.new("LA", (1, 1), (0, 128)), "PNG"))
    assert found[0].tolist() == [[127] * 3]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_become_colours(kind: str) -> None:
    options = {"quality": 100} if kind == "JPEG" else {}
    red = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind, **options)
    np.testing.assert_allclose(values(red)[3, 3], (255, 0, 0), atol=2)


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=10)
        np.testing.assert_allclose(values(content)[2, 2], (255, 0, 0), atol=3)


def test_a_jpeg_that_is_refined_thousands_of_times_is_refused() -> None:
    """A megabyte of scans that say nothing new is minutes of decoding."""
    content = encoded(Image.new("L", (4000, 3000), 90), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    bomb = content[:-2] + content[start:-2] * 3000 + content[-2:]
    with pytest.raises(InputError, match=r"refined 3,0\d\d times, too often for its size"):
        decode_image(bomb, where="here")
    assert decode_image(content, where="here").size == (4000, 3000)


def test_a_broken_frame_of_avif_is_named() -> None:
    """Pillow raises a RuntimeError there."""
    if "AVIF" not in Image.registered_extensions().values():
        pytest.skip("this Pillow reads no AVIF")
    content = bytearray(encoded(Image.new("RGB", (64, 64), "red"), "AVIF"))
    content[content.index(b"mdat") + 4 :] = bytes(len(content) - content.index(b"mdat") - 4)
    with pytest.raises(InputError, match="here: "):
        decode_image(bytes(content), where="here")


def _zip(name: str, packed: bytes, *, method: int, claimed: int) -> bytes:
    encoded_name = name.encode()
    shared = struct.pack("<HHHHHIIIHH", 20, 0, method, 0, 33, 0, len(packed), claimed, len(encoded_name), 0)
    local = b"PK\x03\x04" + shared + encoded_name + packed
    central = (
        b"PK\x01\x02" + struct.pack("<H", 20) + shared + struct.pack("<HHHII", 0, 0, 0, 0, 0) + encoded_name
    )
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """bzip2 is unpacked by zipfile without bound, whatever size the directory claims."""
    import bz2

    (tmp_path / "images.zip").write_bytes(
        _zip("B1.jpg", bz2.compress(bytes(1 << 20)), method=zipfile.ZIP_BZIP2, claimed=100)
    )
    found = find_images(tmp_path, item_ids=["B1"])
    with pytest.raises(InputError, match="packed by bzip2, not by deflate"):
        found.read(0)
    store = LocalPictures(tmp_path / "images.zip", {"B1": ["B1"]}, cache=tmp_path)
    assert store.missing.total() == 1
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(1 << 20)) + packer.flush()
    (tmp_path / "images.zip").write_bytes(
        _zip("B1.jpg", packed, method=zipfile.ZIP_DEFLATED, claimed=3 << 30)
    )
    with pytest.raises(InputError, match="exceeds 200,000,000 bytes"):
        find_images(tmp_path, item_ids=["B1"]).read(0)


def test_a_member_without_a_name_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(_zip("", b"", method=0, claimed=0))
    found = find_images(tmp_path, item_ids=["B1"])
    assert not found.available.any()


def test_a_damaged_stream_in_a_zip_is_missing_as_well(tmp_path: Path) -> None:
    content = b"\x07" * 20  # no deflate stream: zlib.error, which was let through
    (tmp_path / "images.zip").write_bytes(_zip("B1.jpg", content, method=zipfile.ZIP_DEFLATED, claimed=20))
    store = LocalPictures(tmp_path / "images.zip", {"B1": ["B1"]}, cache=tmp_path)
    assert store.missing.total() == 1


def test_a_tar_header_that_claims_exabytes_reserves_nothing(tmp_path: Path) -> None:
    info = tarfile.TarInfo("PaxHeaders/x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 60
    (tmp_path / "images.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(InputError, match="cannot be read as a tar file"):
        find_images(tmp_path, item_ids=["B1"])


@pytest.mark.parametrize("kind", ["circle", "nowhere", "pipe", "outside"])
def test_a_folder_is_read_around_what_is_no_file_of_it(kind: str, tmp_path: Path) -> None:
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(encoded(Image.new("RGB", (4, 4)), "JPEG"))
    (images / "B2.jpg").write_bytes(encoded(Image.new("RGB", (4, 4)), "JPEG"))
    path = images / "B1.jpg"
    if kind == "pipe":
        os.mkfifo(path)  # to read it would wait for ever
    else:
        path.symlink_to({"circle": "B1.jpg", "nowhere": "x.jpg", "outside": "../../secret.jpg"}[kind])
    found = find_images(tmp_path / "data", item_ids=["B1", "B2"])
    assert found.available.tolist() == [False, True]
    store = LocalPictures(images, {"B1": ["B1"], "B2": ["B2"]}, cache=tmp_path)
    assert store.suffixes == {"B2": ".jpg"}


def test_names_in_messages_do_not_steer_a_terminal(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("B\x1b[31m1.jpg", b"x")
    with pytest.raises(InputError) as caught:
        find_images(tmp_path, item_ids=["B\x1b[31m1"]).read(0)
    assert str(caught.value).isprintable()
