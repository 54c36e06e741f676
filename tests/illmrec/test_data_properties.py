"""The same data in Parquet, CSV and JSON lines, in a folder or in a zip file, are the same data set."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from illmrec.data import load_dataset
from illmrec.data.dataset import ITEM_COLUMNS, Dataset

# Whatever a file can hold: no halves of surrogate pairs, no zero byte, and no carriage return, which CSV rewrites.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")
TEXT = st.text(CHARACTERS, max_size=12)
TITLE = TEXT.filter(lambda text: bool(text.strip()))
NAME = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=6)
FLAT = st.lists(st.one_of(TEXT, st.none()), max_size=3)
NESTED = st.lists(FLAT, max_size=3)
CELLS = {
    "brand": st.one_of(st.none(), TEXT.filter(lambda text: not text.strip().startswith("["))),
    "category": st.one_of(st.none(), FLAT),
    "description": st.one_of(st.none(), NESTED),
}


@st.composite
def shops(draw: st.DrawFn) -> dict[str, Any]:
    ids = draw(st.lists(NAME, min_size=3, max_size=6, unique_by=str.lower))
    items = [
        {"item_id": name, "title": draw(TITLE), **{column: draw(cell) for column, cell in CELLS.items()}}
        for name in ids
    ]
    # Of one unit, seconds or milliseconds: several are refused.
    low, high = draw(st.sampled_from([(0, 2**31), (2**39, 2**40)]))
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(["u1", "u2", "0007"]), st.sampled_from(ids), st.integers(low, high)),
            min_size=4,
            max_size=12,
        )
    )
    pictured = draw(st.lists(st.sampled_from(ids), unique=True))
    endings = draw(st.lists(st.sampled_from([".png", ".PNG", ".Png"]), min_size=len(ids), max_size=len(ids)))
    places = draw(st.lists(st.sampled_from(["", "a/", "a/b/"]), min_size=len(ids), max_size=len(ids)))
    names = {name: f"{place}{name}{end}" for name, place, end in zip(ids, places, endings, strict=True)}
    return {"items": items, "interactions": rows, "pictures": {name: names[name] for name in pictured}}


def picture(name: str) -> bytes:
    colour = tuple(np.frombuffer(name.ljust(3).encode()[:3], dtype=np.uint8).tolist())
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


def written(shop: dict[str, Any], folder: Path, *, kind: str, zipped: bool) -> Dataset:
    items = pd.DataFrame(shop["items"])
    interactions = pd.DataFrame(shop["interactions"], columns=["user_id", "item_id", "timestamp"])
    for name, table in (("items", items), ("interactions", interactions)):
        if kind == "parquet":
            table.to_parquet(folder / f"{name}.parquet")
        elif kind == "csv":
            as_json = table.map(lambda cell: json.dumps(cell) if isinstance(cell, list) else cell)
            as_json.to_csv(folder / f"{name}.csv", index=False)
        else:
            lines = [json.dumps(row, ensure_ascii=False) for row in table.to_dict("records")]
            (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    if zipped:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name, path in shop["pictures"].items():
                archive.writestr(f"images/{path}", picture(name))
    else:
        for name, path in shop["pictures"].items():
            target = folder / "images" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture(name))
        (folder / "images").mkdir(exist_ok=True)
    return load_dataset(f"folder:{folder}", min_interactions=1)


@given(shop=shops(), zipped=st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_format_gives_the_same_data(shop: dict[str, Any], zipped: bool) -> None:
    found = []
    for kind in ("parquet", "csv", "jsonl"):
        with tempfile.TemporaryDirectory() as folder:
            read = written(shop, Path(folder), kind=kind, zipped=zipped)
            pictures = [
                None if read.images is None or not read.images.available[row] else read.images.read(row)
                for row in range(read.n_items)
            ]
            found.append((read, [None if seen is None else seen.tobytes() for seen in pictures]))
    first, pictures = found[0]
    for other, seen in found[1:]:
        pd.testing.assert_frame_equal(other.items[list(ITEM_COLUMNS)], first.items[list(ITEM_COLUMNS)])
        assert other.user_ids.tolist() == first.user_ids.tolist()
        assert [other.sequence(u).tolist() for u in range(other.n_users)] == [
            first.sequence(u).tolist() for u in range(first.n_users)
        ]
        assert other.fingerprint == first.fingerprint and other.dropped == first.dropped
        assert seen == pictures
    expected = {name for name in first.items["item_id"] if name in shop["pictures"]}
    assert {name for name, seen in zip(first.items["item_id"], pictures, strict=True) if seen} == expected


@given(shop=shops(), order=st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_lots_do_not_depend_on_the_order_of_rows(shop: dict[str, Any], order: Any) -> None:
    shuffled = list(shop["interactions"])
    order.shuffle(shuffled)
    found = []
    for rows in (shop["interactions"], shuffled):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            pd.DataFrame(shop["items"]).to_parquet(place / "items.parquet")
            flat = [(user, item, time % 2) for user, item, time in rows]
            table = pd.DataFrame(flat, columns=["user_id", "item_id", "timestamp"])
            table.to_parquet(place / "interactions.parquet")
            read = load_dataset(f"folder:{folder}", min_interactions=1, ties="drawn")
            ids = read.items["item_id"].to_numpy()
            found.append({user: ids[read.sequence(row)].tolist() for row, user in enumerate(read.user_ids)})
    assert found[0] == found[1]
