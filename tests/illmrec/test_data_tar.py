"""Pictures in a tar file, and files above the limit wherever they lie."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from test_data_folder import load, picture, put_images, write

from illmrec.errors import InputError


def test_a_tar_file_is_the_folder_that_it_was_made_of(tmp_path: Path) -> None:
    prints = set()
    for how in ("folder", "tar"):
        folder = tmp_path / how / "shop"
        folder.mkdir(parents=True)
        write(folder, "csv")
        put_images(folder, how, {"007.png": picture("red"), "NA.png": picture("blue")})
        prints.add(load(folder).fingerprint)
    assert len(prints) == 1


def test_tar_files_that_cannot_be_used(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    put_images(tmp_path, "tar", {"007.png": picture(size=(64, 64)), "NA.png": picture(size=(64, 64))})
    path = tmp_path / "images.tar"
    with tarfile.open(path, "a") as tape:  # what leads elsewhere is no picture
        link = tarfile.TarInfo("5.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tape.addfile(link)
    images = load(tmp_path).images
    assert images is not None and images.available.sum() == 2
    whole = path.read_bytes()
    for content in (whole[:900], b"no tar file" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match="pack it again"):
            load(tmp_path)
    path.rename(tmp_path / "images.tar.gz")
    with pytest.raises(
        InputError, match=r"images\.tar\.gz: no picture can be found .* unpack it to images\.tar"
    ):
        load(tmp_path)
    put_images(tmp_path, "folder", {"007.png": picture()})  # what it was unpacked to
    images = load(tmp_path).images
    assert images is not None and images.available.sum() == 1


def test_a_file_above_the_limit_is_named_where_it_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("illmrec.data.picture_files.MAX_BYTES", 300)
    for how in ("folder", "zip", "tar"):
        folder = tmp_path / how
        folder.mkdir()
        write(folder, "csv")
        put_images(folder, how, {"007.png": picture(), "NA.png": picture() + b"x" * 300})
        images = load(folder).images
        assert images is not None and images.read(0).size == (8, 6)
        with pytest.raises(InputError, match="item 'NA': the file exceeds 300 bytes"):
            images.read(1)
        left = load(folder, broken_images="missing").images
        assert left is not None and left.available.tolist() == [True, *[False] * 5]
