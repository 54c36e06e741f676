"""Pictures as they come: in folders and zips of any shape, with broken metadata, and broken themselves."""

from __future__ import annotations

import io
import logging
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, features

from illmrec.data import load_dataset
from illmrec.data.images import IMAGE_FORMATS, decode_image
from illmrec.data.picture_files import find_images
from illmrec.errors import InputError
from illmrec.features.vision import image_features

RED = (200, 30, 30)


def picture(kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 12), RED).save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(content)) + name + content
    chunk += struct.pack(">I", zlib.crc32(name + content))
    return png[:33] + chunk + png[33:]


LONG_TEXT = b"Comment\0\0" + zlib.compress(b"x" * 3_000_000)
RAW_PROFILE = b"Raw profile type exif\0\nexif\n 8\nzzzzzzzz\n"


@pytest.mark.parametrize(
    "content",
    [
        with_chunk(picture("PNG"), b"eXIf", b"garbage" * 5),
        with_chunk(picture("PNG"), b"tEXt", RAW_PROFILE),
        with_chunk(picture("PNG"), b"zTXt", LONG_TEXT),
        with_chunk(picture("PNG"), b"iCCP", b"broken\0\0garbage"),
        picture("WEBP", lossless=True, exif=b"Exif\0\0garbage and more of it"),
        picture("JPEG", quality=95, exif=b"Exif\0\0garbage and more of it"),
    ],
    ids=["eXIf", "raw profile", "long text", "colour profile", "WebP", "JPEG"],
)
def test_broken_metadata_is_no_broken_picture(content: bytes) -> None:
    decoded = decode_image(content, where="here")
    assert decoded.size == (16, 12) and decoded.mode == "RGB"
    np.testing.assert_allclose(np.asarray(decoded)[5, 5], RED, atol=6)


def test_sound_metadata_still_turns_a_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(picture("JPEG", exif=exif), where="here").size == (12, 16)
    assert decode_image(picture("PNG", exif=exif), where="here").size == (12, 16)


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_every_format_is_decoded_whatever_its_ending(kind: str) -> None:
    decoded = decode_image(picture(kind), where="here")
    np.testing.assert_allclose(np.asarray(decoded)[5, 5], RED, atol=8)


def test_avif_is_read_where_pillow_can() -> None:
    assert ("AVIF" in IMAGE_FORMATS) == ("avif" in features.get_supported())


def test_a_cut_picture_is_still_broken() -> None:
    whole = picture("PNG")
    for content in (whole[: len(whole) // 2], picture("JPEG")[:40], b"hello"):
        with pytest.raises(InputError, match="here: "):
            decode_image(content, where="here")


IDS = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", unicodedata.normalize("NFC", "Café")]
FILES = {
    "images\\B1.jpg": "JPEG",
    "images/010/B2.jpg": "JPEG",
    "data/images/B3.JPG": "JPEG",
    "images/B4.jpg": "JPEG",
    "B5.gif": "GIF",
    "images/B6.jfif": "JPEG",
    "images/B7.bmp": "BMP",
    "images/B8.tiff": "TIFF",
    unicodedata.normalize("NFD", "images/Café.png"): "PNG",
}


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(folder / "images.zip", "w") as file:
        for name, content in files.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # as it is, backslashes included
            file.writestr(info, content)
    return folder


def test_a_zip_of_any_shape_is_matched(tmp_path: Path) -> None:
    archive(tmp_path, {name: picture(kind) for name, kind in FILES.items()})
    found = find_images(tmp_path, item_ids=IDS)
    assert found is not None and found.available.all()
    for row in range(len(IDS)):
        assert found.read(row).size == (16, 12)


def test_nested_folders_are_matched(tmp_path: Path) -> None:
    for name, kind in FILES.items():
        path = tmp_path / "images" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(kind))
    found = find_images(tmp_path, item_ids=IDS)
    assert found is not None and found.available.all()
    assert found.read(1).size == (16, 12)


def test_pictures_of_no_item_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {
        "images/B1.jpg": picture(),
        "images/x/other.png": picture("PNG"),
        "images/more.gif": picture("GIF"),
    }
    files |= {"__MACOSX/images/._B1.jpg": b"resource fork", "images/.DS_Store": b"", "images/notes.txt": b""}
    archive(tmp_path, files)
    with caplog.at_level(logging.WARNING):
        found = find_images(tmp_path, item_ids=["B1", "B2"])
    assert found is not None and found.available.tolist() == [True, False]
    (said,) = caplog.messages
    assert "2 pictures are named after no item" in said and "images/x/other.png" in said


def test_two_pictures_of_one_item_are_refused(tmp_path: Path) -> None:
    archive(tmp_path, {"a/B1.jpg": picture(), "b/B1.png": picture("PNG")})
    with pytest.raises(InputError, match=r"'a/B1.jpg' and 'b/B1.png' both claim item 'B1'"):
        find_images(tmp_path, item_ids=["B1"])


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Twelve items with pictures, three of them broken, and users enough for the 5-core."""
    folder = tmp_path / "shop"
    folder.mkdir()
    ids = [f"i{item}" for item in range(12)]
    pd.DataFrame({"item_id": ids, "title": ids, "description": "a red mug"}).to_parquet(
        folder / "items.parquet"
    )
    rows = [(f"u{user}", item, time) for user in range(6) for time, item in enumerate(ids)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_parquet(
        folder / "interactions.parquet"
    )
    broken = {"i2": b"hello", "i5": picture()[:30], "i7": b""}
    archive(folder, {f"{name}.jpg": broken.get(name, picture()) for name in ids})
    return folder


def test_all_broken_pictures_are_named_in_one_run(shop: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    dataset = load_dataset(f"folder:{shop}")
    assert dataset.images is not None and dataset.images.available.all()
    with pytest.raises(
        InputError, match=r"3 of 12 pictures cannot be used: .*--broken-images missing"
    ) as error:
        image_features(dataset, progress=False)
    assert all(f"'{name}'" in str(error.value) for name in ("i2", "i5", "i7"))
    assert "\n" not in str(error.value)


def test_broken_pictures_may_count_as_missing(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = load_dataset(f"folder:{shop}")
    with caplog.at_level(logging.WARNING):
        dataset = load_dataset(f"folder:{shop}", broken_images="missing")
    assert any("3 of 12 pictures cannot be used and count as missing" in said for said in caplog.messages)
    assert dataset.images is not None
    assert np.flatnonzero(~dataset.images.available).tolist() == [2, 5, 7]
    assert dataset.fingerprint != whole.fingerprint
    assert dataset.statistics()["images"] == 0.75
    again = load_dataset(f"folder:{shop}", broken_images="missing")
    assert again.fingerprint == dataset.fingerprint
    with pytest.raises(InputError, match="has no image"):
        dataset.images.read(5)


def test_many_broken_pictures_are_counted_beyond_the_first(tmp_path: Path) -> None:
    from illmrec.data.broken import named

    said = named({row: f"zip, item {row}: broken; replace it" for row in range(40)})
    assert said.count("broken") == 5 and said.endswith("and 35 more") and "replace" not in said
