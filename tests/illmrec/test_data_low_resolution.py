"""The source's own small pictures: a second folder or zip file beside the pictures of a data set's folder."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from illmrec.data import load_dataset
from illmrec.errors import InputError

IDS = ["a", "b", "c", "lonely"]


def png(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set whose last item the k-core drops, with large pictures."""
    pd.DataFrame({"item_id": IDS, "title": IDS}).to_csv(tmp_path / "items.csv", index=False)
    rows = [(user, item, time) for user in range(3) for time, item in enumerate(IDS[2::-1])]
    rows.append((0, "lonely", 9))
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table.to_csv(tmp_path / "interactions.csv", index=False)
    (tmp_path / "images").mkdir()
    for item_id in IDS:
        (tmp_path / "images" / f"{item_id}.png").write_bytes(png(32))
    return tmp_path


def load(folder: Path):
    return load_dataset(f"folder:{folder}", min_interactions=3)


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with its folder"])
def test_small_pictures_follow_the_items(folder: Path, kind: str) -> None:
    before = load(folder)
    assert before.low_resolution is None
    sides = {"a": 4, "c": 6, "lonely": 8}
    if kind == "folder":
        (folder / "images-low").mkdir()
        for item_id, side in sides.items():
            (folder / "images-low" / f"{item_id}.png").write_bytes(png(side))
    else:
        inside = "images-low/" if "with" in kind else ""
        with zipfile.ZipFile(folder / "images-low.zip", "w") as archive:
            for item_id, side in sides.items():
                archive.writestr(f"{inside}{item_id}.png", png(side))
    dataset = load(folder)
    ids = dataset.items["item_id"].tolist()
    assert sorted(ids) == ["a", "b", "c"]
    low = dataset.low_resolution
    assert low is not None
    assert {ids[row] for row in low.available.nonzero()[0]} == {"a", "c"}
    assert [low.read(ids.index(item_id)).size[0] for item_id in "ac"] == [4, 6]
    # Pictures that no method reads by itself change no result, so they do not change the fingerprint.
    assert dataset.fingerprint == before.fingerprint
    assert dataset.images is not None and dataset.images.read(0).size == (32, 32)


def test_folder_and_zip_at_once_is_one_line(folder: Path) -> None:
    (folder / "images-low").mkdir()
    with zipfile.ZipFile(folder / "images-low.zip", "w"):
        pass
    with pytest.raises(InputError, match=r"both images-low and images-low\.zip; keep one"):
        load(folder)
