"""Publishers' texts: JSON lines and delimited, plain, packed by gzip or in a zip file."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path

from contained import Reader
from hostile_archives import bomb
from hostile_tables import ITEMS, csv_text, json_lines
from mutated_files import json_text, mutated_bytes, mutated_value

REVIEWS = [
    {
        "reviewerID": f"A{user}",
        "asin": f"B{(user + place) % 4}",
        "unixReviewTime": 1_252_800_000 + 86_400 * place,
        "overall": 5.0,
    }
    for user in range(4)
    for place in range(4)
]
METADATA = [
    {"asin": row["item_id"], "title": row["title"], "brand": "A", "category": ["a", "b"], "description": ["c"],
     "imageURL": ["https://a.example/1.jpg"]}
    for row in ITEMS
]  # fmt: skip
ARTICLES = [
    {"article_id": f"{number:010d}", "prod_name": "Mug", "detail_desc": 'Red, "round"'} for number in range(4)
]
LAYOUTS = {"json": ("json-lines", "s"), "delimited": ("delimited", "s"), "days": ("delimited", "%Y-%m-%d")}


def gzip_bomb() -> bytes:
    """Return a gzip file of one line of hundreds of megabytes."""
    piece = bytes(b"a" * (1 << 24))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(piece) for _ in range(30)) + packer.flush()


def packed(rng: random.Random, content: bytes, folder: Path, name: str) -> None:
    """Write a text plain, by gzip or into a zip file; what packs it may be damaged, too."""
    kind = rng.randrange(6)
    if kind <= 1:
        (folder / name).write_bytes(content)
        return
    if kind == 2:
        file = io.BytesIO()
        with zipfile.ZipFile(
            file,
            "w",
            rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
        ) as archive:
            archive.writestr(f"a/{name}", content)
        whole = file.getvalue()
        place = folder / "text.zip"
    else:
        whole = gzip.compress(content, mtime=0)
        place = folder / name
        if rng.random() < 0.1:
            whole += rng.choice((b"junk", whole, bytes(100)))
        if rng.random() < 0.02:
            whole = gzip_bomb()
    place.write_bytes(mutated_bytes(rng, whole) if rng.random() < 0.5 else whole)


def _write_lines(rng: random.Random, folder: Path, corpus: Path) -> None:
    rows = rng.choice((REVIEWS, METADATA))
    role = "interactions" if rows is REVIEWS else "items"
    if rng.random() < 0.01:
        (folder / "text.zip").write_bytes(
            bomb(rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)), honest=rng.random() < 0.5)
        )
        (folder / "member").write_text("images/B1.jpg")
    else:
        packed(rng, json_lines(rng, rows), folder, "text")
    (folder / "role").write_text(f"{role} json")


def _write_delimited(rng: random.Random, folder: Path, corpus: Path) -> None:
    layout = rng.choice(("delimited", "days"))
    if rng.random() < 0.5:
        moment = "2019-02-03" if layout == "days" else "1252800000"
        rows = [{"user": f"u{number}", "item": f"{number:010d}", "time": moment} for number in range(4)]
        role = "interactions"
    else:
        rows, role = ARTICLES, "items"
    packed(rng, csv_text(rng, rows), folder, "text")
    (folder / "role").write_text(f"{role} {layout}")


def _read(folder: Path, corpus: Path) -> None:
    """Parse as ``python -m illmrec.data get`` does, and check types and counts."""
    from illmrec.data.registry import Layout
    from illmrec.data.sources.catalogue import ITEMS as ITEM_SCHEMA
    from illmrec.data.sources.lines import TextFile
    from illmrec.data.sources.parsing import batches, parse
    from illmrec.data.sources.records import INTERACTIONS as SCHEMA

    role, kind = (folder / "role").read_text().split()
    form, time = LAYOUTS[kind]
    names = {
        ("interactions", "json"): {
            "user_id": ("reviewerID",),
            "item_id": ("asin",),
            "timestamp": ("unixReviewTime",),
        },
        ("items", "json"): {
            "item_id": ("asin",),
            "title": ("title",),
            "category": ("category",),
            "description": ("description",),
        },
        ("interactions", "delimited"): {"user_id": ("user",), "item_id": ("item",), "timestamp": ("time",)},
        ("items", "delimited"): {
            "item_id": ("article_id",),
            "title": ("prod_name",),
            "description": ("detail_desc", "prod_name"),
        },
    }[role, "json" if kind == "json" else "delimited"]
    layout = Layout(format=form, columns=names, time=time, images=("imageURL",) if kind == "json" else ())
    if (folder / "text.zip").is_file():
        member = folder / "member"
        text = TextFile(path=folder / "text.zip", member=member.read_text() if member.is_file() else "a/text")
    else:
        text = TextFile(path=folder / "text")
    done = parse(text, layout, role=role, folder=folder / "work", max_bad_lines=100, workers=1)
    schema = SCHEMA if role == "interactions" else ITEM_SCHEMA
    rows = 0
    for table in batches(done, schema.names):
        table.validate(full=True)
        assert table.schema.remove_metadata().equals(schema), table.schema
        rows += len(table)
    assert rows == done.rows <= max(done.lines, 0) and done.bad <= 100


def _write_manifest(rng: random.Random, folder: Path, corpus: Path) -> None:
    from illmrec.data.fetching.manifest import Entry

    entry = asdict(Entry(**ENTRY))  # type: ignore[arg-type]
    lines = [json.dumps(entry).encode()] * 3
    lines[rng.randrange(3)] = json_text(rng, mutated_value(rng, entry))
    content = b"\n".join(lines)
    (folder / "manifest.jsonl").write_bytes(mutated_bytes(rng, content) if rng.random() < 0.3 else content)


ENTRY = {
    "item_id": "B1",
    "url": "https://a.example/1.jpg",
    "file": "B1.jpg",
    "status": 200,
    "bytes": 12,
    "sha256": "0" * 64,
}


def _read_manifest(folder: Path, corpus: Path) -> None:
    from illmrec.data.fetching.manifest import Manifest

    for item_id, entry in Manifest(folder / "manifest.jsonl").entries.items():
        assert isinstance(item_id, str) and entry.item_id == item_id
        assert isinstance(entry.file, str) and Path(entry.file).name == entry.file  # no path


def _loaded() -> None:
    import illmrec.data.fetching.manifest
    import illmrec.data.sources.parsing
    import illmrec.data.sources.picture_stores  # noqa: F401


READERS = (
    Reader(name="publishers-json", write=_write_lines, read=_read, inputs=120, load=_loaded),
    Reader(name="publishers-delimited", write=_write_delimited, read=_read, inputs=120, load=_loaded),
    Reader(name="manifest", write=_write_manifest, read=_read_manifest, inputs=80, load=_loaded),
)
