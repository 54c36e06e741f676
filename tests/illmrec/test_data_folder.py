"""A user's own folder: tables in three formats, pictures in a folder or a zip, everything that can be wrong."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from illmrec.data import load_dataset
from illmrec.data.images import MAX_PIXELS, decode_image
from illmrec.errors import InputError

IDS = ["007", "NA", "../../x", "日本", "a b", "5"]


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    items = pd.DataFrame(
        {
            "item_id": IDS,
            "title": ["None", 'null, "quoted"', "x", "日本の本", "1984", "nan"],
            "description": ["<p>hi</p>", "", "two\nlines", "описание", "NA", "-"],
        }
    )
    rows = [(f"0{u}", item, 10 * k) for u in range(6) for k, item in enumerate(IDS)]
    return items, pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def write(folder: Path, kind: str) -> Path:
    for stem, table in zip(("items", "interactions"), tables(), strict=True):
        path = folder / f"{stem}.{kind}"
        if kind == "parquet":
            table.to_parquet(path)
        elif kind == "csv":
            table.to_csv(path, index=False, encoding="utf-8-sig")
        else:
            path.write_text(
                "".join(json.dumps(row) + "\n" for row in table.to_dict("records")), encoding="utf-8"
            )
    return folder


def picture(
    colour: str = "red", *, mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (8, 6)
) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


def load(folder: Path, **options):
    return load_dataset(f"folder:{folder}", **options)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_formats_give_the_same_data(tmp_path: Path, kind: str) -> None:
    dataset = load(write(tmp_path, kind))
    items, _ = tables()
    for column in items.columns:
        assert dataset.items[column].tolist() == items[column].tolist()
    assert dataset.user_ids.tolist() == [f"0{u}" for u in range(6)]
    assert dataset.sequence(0).tolist() == list(range(6))
    assert dataset.images is None
    assert dataset.name == tmp_path.name
    (tmp_path / "reference").mkdir()
    assert dataset.fingerprint == load(write(tmp_path / "reference", "parquet")).fingerprint


def test_blank_lines_of_json_are_skipped(tmp_path: Path) -> None:
    write(tmp_path, "jsonl")
    path = tmp_path / "items.jsonl"
    path.write_text("\n" + path.read_text(encoding="utf-8") + "\n\n", encoding="utf-8")
    assert load(tmp_path).n_items == 6


def _break_table(folder: Path, name: str, content: bytes | None) -> None:
    write(folder, name.rpartition(".")[2])
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("items.csv", None, ["no table of items", "items.parquet"]),
        ("interactions.csv", None, ["no table of interactions"]),
        ("items.csv", b"", ["items.csv", "empty"]),
        ("items.csv", b"item_id,title\n1,\xff\xfe\n", ["items.csv", "UTF-8"]),
        ("items.csv", b'item_id,title\n1,"open\n', ["items.csv", "cannot be read"]),
        ("items.csv", b"item_id,title\n1,a\n2,b,c,d\n", ["items.csv", "line 3"]),
        ("items.csv", b"item_id,title\n1,a,x\n2,b,x\n", ["items.csv", "cannot be read"]),
        ("items.csv", b"item_id,title\n1,a\n2\n", ["items.csv, data row 2", "empty title"]),
        ("items.csv", b"id,name\n1,a\n", ["items.csv", "item_id, title", "id, name"]),
        ("items.parquet", b"PAR1 not really", ["items.parquet", "cannot be read"]),
        ("items.jsonl", b'{"item_id": "1", "title": "a"}\n{"item_id": \n', ["items.jsonl, line 2", "not valid JSON"]),
        ("items.jsonl", b'["1", "a"]\n', ["items.jsonl, line 1", "object"]),
        ("items.jsonl", b"[" * 100_000, ["items.jsonl, line 1"]),
        ("items.jsonl", b'{"item_id": ' + b"1" * 5_000 + b"}", ["items.jsonl, line 1", "not valid JSON"]),
        ("items.jsonl", b'{"item_id": "1", "title": "\\ud800"}\n', ["items.jsonl, line 1", "surrogate"]),
        ("items.jsonl", b"", ["items.jsonl", "item_id"]),
    ],
)  # fmt: skip
def test_broken_tables(tmp_path: Path, name: str, content: bytes | None, parts: list[str]) -> None:
    _break_table(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_two_tables_of_items(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    write(tmp_path, "parquet")
    with pytest.raises(InputError, match=r"items\.parquet and items\.csv"):
        load(tmp_path)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load(tmp_path / "nope")
    with pytest.raises(InputError, match="needs a path"):
        load_dataset("folder:")


def put_images(folder: Path, how: str, files: dict[str, bytes]) -> None:
    if how == "folder":
        (folder / "images").mkdir()
        for name, content in files.items():
            (folder / "images" / name).write_bytes(content)
    elif how == "tar":
        with tarfile.open(folder / "images.tar", "w") as tape:
            for name, content in files.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size = len(content)
                tape.addfile(member, io.BytesIO(content))
    else:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"images/{name}" if how == "zip with a folder" else name, content)


HOWS = ["folder", "zip", "zip with a folder", "tar"]


def test_a_tar_file_with_a_negative_size_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    with tarfile.open(tmp_path / "images.tar", "w", format=tarfile.GNU_FORMAT) as tape:
        member = tarfile.TarInfo("1.png")
        member.size = -1
        tape.addfile(member)
    with pytest.raises(
        InputError, match=r"images\.tar: cannot be read as a tar file .*1\.png.*; pack it again"
    ):
        load(tmp_path)


@pytest.mark.parametrize("how", HOWS)
def test_images_match_by_item_id(tmp_path: Path, how: str) -> None:
    write(tmp_path, "csv")
    put_images(
        tmp_path,
        how,
        {
            "007.PNG": picture("red"),
            "NA.jpg": picture("blue", kind="JPEG"),
            "日本.webp": picture("lime", kind="WEBP"),
            "7.png": picture(),
            "5.txt": b"not a picture, and not looked at",
            "x.png": picture(),
        },
    )
    dataset = load(tmp_path)
    assert dataset.images is not None
    assert dataset.images.available.tolist() == [True, True, False, True, False, False]
    image = dataset.images.read(0)
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (8, 6), (255, 0, 0))
    assert dataset.statistics()["images"] == 0.5
    with pytest.raises(InputError, match="has no image"):
        dataset.images.read(2)
    assert pickle.loads(pickle.dumps(dataset.images)).read(0).size == (8, 6)  # as data loader workers do


@pytest.mark.parametrize("how", HOWS)
def test_image_content_is_in_the_fingerprint(tmp_path: Path, how: str) -> None:
    prints = []
    for number, colour in enumerate(["red", "red", "blue"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder, "csv")
        put_images(folder, how, {"007.png": picture(colour)})
        prints.append(load(folder).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_images_of_dropped_items_do_not_shift(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    interactions = tables()[1]
    interactions = interactions[interactions["item_id"] != "NA"]
    interactions.to_csv(tmp_path / "interactions.csv", index=False)
    put_images(
        tmp_path, "zip", {"007.png": picture("red"), "NA.png": picture("lime"), "日本.png": picture("blue")}
    )
    dataset = load(tmp_path)
    assert dataset.items["item_id"].tolist() == ["007", "../../x", "日本", "a b", "5"]
    assert dataset.images is not None
    assert dataset.images.read(2).getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("how", HOWS)
def test_two_pictures_for_one_item(tmp_path: Path, how: str) -> None:
    write(tmp_path, "csv")
    put_images(tmp_path, how, {"5.png": picture(), "5.jpg": picture(kind="JPEG")})
    with pytest.raises(InputError, match="both claim item '5'"):
        load(tmp_path)


def test_folder_and_zip_together(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    put_images(tmp_path, "folder", {})
    put_images(tmp_path, "zip", {})
    with pytest.raises(InputError, match="keep one"):
        load(tmp_path)


def test_no_picture_matches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "csv")
    put_images(tmp_path, "folder", {"0007.png": picture()})
    with caplog.at_level(logging.WARNING):
        dataset = load(tmp_path)
    assert dataset.images is not None and not dataset.images.available.any()
    assert "no picture is named after an item id" in caplog.text


def test_ids_are_never_paths(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b" / "data"
    data.mkdir(parents=True)
    write(data, "csv")
    (tmp_path / "a" / "x.png").write_bytes(picture())  # where images/../../x.png would lead, and further up
    (tmp_path / "a" / "b" / "x.png").write_bytes(picture())
    put_images(data, "folder", {"5.png": picture()})
    dataset = load(data)
    assert dataset.images is not None
    assert dataset.images.available.tolist() == [False] * 5 + [True]


def test_zip_entries_outside_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    put_images(tmp_path, "zip", {"../../x.png": picture(), "deep/er/5.png": picture(), "007.png": picture()})
    dataset = load(tmp_path)
    assert dataset.images is not None
    assert dataset.images.available.tolist() == [True, False, False, False, False, True]


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data, "csv")
    (tmp_path / "secret.png").write_bytes(picture())
    put_images(data, "folder", {"007.png": picture()})
    os.symlink(tmp_path / "secret.png", data / "images" / "5.png")
    os.symlink(data / "images" / "007.png", data / "images" / "NA.png")
    with caplog.at_level(logging.WARNING):
        dataset = load(data)
    assert dataset.images is not None
    assert dataset.images.available.tolist() == [True, True] + [False] * 4
    assert "1 links lead out" in caplog.text


def test_a_linked_images_folder_outside(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write(data, "csv")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", data / "images")
    with pytest.raises(InputError, match="leads out"):
        load(data)


def bomb_png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with hardly any data behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def corrupt_png() -> bytes:
    content = bytearray(picture(size=(64, 64)))
    middle = content.index(b"IDAT") + 8
    content[middle : middle + 12] = b"\xff" * 12
    return bytes(content)


BAD_IMAGES = {
    "zero bytes": (b"", "empty"),
    "truncated JPEG": (picture(kind="JPEG", size=(64, 64))[:200], "not a|truncated"),
    "truncated PNG": (picture(size=(64, 64))[:-30], "truncated"),
    "truncated WebP": (picture(kind="WEBP", size=(64, 64))[:30], "not a|truncated"),
    "corrupt PNG": (corrupt_png(), "corrupt"),
    "text": (b"<html>404 not found</html>", "not a JPEG, PNG, WEBP"),
    "SVG named png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG, PNG, WEBP"),
    "bomb": (bomb_png(8000, 7000), "8000 x 7000"),
    "larger bomb": (bomb_png(12000, 12000), "pixels"),
    "huge bomb": (bomb_png(60000, 60000), "pixels"),
}


@pytest.mark.parametrize("how", ["folder", "zip", "tar"])
@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_bad_images_name_file_item_and_remedy(tmp_path: Path, how: str, bad: str) -> None:
    content, reason = BAD_IMAGES[bad]
    write(tmp_path, "csv")
    put_images(tmp_path, how, {"007.png": picture(), "a b.png": content})
    dataset = load(tmp_path)
    assert dataset.images is not None
    with pytest.raises(InputError, match=reason) as caught:
        dataset.images.read(4)
    message = str(caught.value)
    assert "'a b.png', item 'a b'" in message
    assert "replace or delete it; an item without an image counts as missing" in message
    assert "\n" not in message
    assert dataset.images.read(0).size == (8, 6)  # the others can still be read


def test_a_damaged_zip_entry_and_a_damaged_zip(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    put_images(tmp_path, "zip", {"007.png": picture(size=(64, 64))})
    path = tmp_path / "images.zip"
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    images = load(tmp_path).images
    assert images is not None
    with pytest.raises(InputError, match="cannot be unpacked"):
        images.read(0)
    path.write_bytes(b"PK but no zip")
    with pytest.raises(InputError, match="cannot be read as a zip"):
        load(tmp_path)


def test_pictures_of_other_modes_become_rgb() -> None:
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((0, 0), (0, 0, 255, 255))
    buffer = io.BytesIO()
    half.save(buffer, "PNG")
    image = decode_image(buffer.getvalue(), where="x")
    assert (image.getpixel((0, 0)), image.getpixel((1, 0))) == ((0, 0, 255), (255, 255, 255))
    assert decode_image(picture("white", mode="L"), where="x").getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(picture("white", mode="1"), where="x").mode == "RGB"
    deep = io.BytesIO()
    Image.fromarray(np.full((3, 3), 128 * 256, dtype=np.uint16)).save(deep, "PNG")
    assert decode_image(deep.getvalue(), where="x").getpixel((0, 0)) == (128, 128, 128)
    assert decode_image(picture(mode="CMYK", kind="JPEG", colour="white"), where="x").mode == "RGB"


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    assert decode_image(buffer.getvalue(), where="x").size == (4, 8)


def test_the_pixel_limit_is_that_of_the_specification() -> None:
    assert MAX_PIXELS == 50_000_000


def test_a_folder_without_its_prefix_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"unknown data set 'plain': did you mean 'folder:plain'\?"):
        load_dataset("plain")
