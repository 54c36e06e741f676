"""Items of a publisher's file as rows: texts, addresses of pictures, names of picture files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from illmrec.data.registry import TEXTS, Layout
from illmrec.data.sources.lines import Part
from illmrec.data.sources.records import BadLine, Read, first_of, read_records, values_at

ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        *((name, pa.string()) for name in TEXTS),
        ("image_url", pa.string()),
        ("low_image_url", pa.string()),
        ("picture_name", pa.string()),
    ]
)


def read_items(part: Part, layout: Layout, *, header: Sequence[str]) -> Read:
    """Read the items of a part: columns of :data:`ITEMS`, texts "" and addresses null where there is none.

    Args:
        part: Lines.
        layout: How they are written.
        header: The columns of a delimited file, in order.
    """
    rows: dict[str, list[Any]] = {name: [] for name in ITEMS.names}
    counts: Counter[str] = Counter()
    bad: list[BadLine] = []
    for _, record in read_records(part, layout, header=header, counts=counts):
        if isinstance(record, BadLine):
            bad.append(record)
            continue
        item = first_of(record, layout.columns["item_id"])
        if item is None or isinstance(item, dict | list):
            counts["items without an id"] += 1
            continue
        rows["item_id"].append(str(item))
        for name in TEXTS:
            rows[name].append(_text(record, name, layout))
        rows["image_url"].append(_address(record, layout.images, layout.no_image))
        rows["low_image_url"].append(_address(record, layout.low_images, layout.no_image))
        picture = record.get(layout.picture_name) if layout.picture_name else item
        rows["picture_name"].append(str(picture))
    return Read(table=pa.table(rows, schema=ITEMS), counts=counts, bad=bad)


def _text(record: Mapping[str, Any], name: str, layout: Layout) -> str:
    """Return a column as one text: parts of descriptions joined by blanks, others by " | "."""
    separator = " " if name == "description" else " | "
    paths = layout.columns.get(name, ())
    if layout.format == "delimited":
        values = [record.get(path) for path in paths]
    else:
        values = [first_of(record, paths)] if paths else []
    return separator.join(piece for value in values for piece in _pieces(value))


def _pieces(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    if isinstance(value, list):
        return [piece for inner in value for piece in _pieces(inner)]
    if isinstance(value, dict):
        return [json.dumps(value, sort_keys=True, ensure_ascii=False)]
    # Escapes of JSON can spell half a character, which no file can hold.
    return [str(value).encode("utf-8", errors="replace").decode()] if str(value).strip() else []


def _address(record: Mapping[str, Any], paths: Sequence[str], no_image: Sequence[str]) -> str | None:
    """Return the first address that stands at one of the paths, or None."""
    for path in paths:
        for value in values_at(record, path):
            for address in value if isinstance(value, list) else [value]:
                usable = isinstance(address, str) and address.startswith(("https://", "http://"))
                if usable and not any(part in address for part in no_image):
                    return str(address).encode("utf-8", errors="replace").decode()
    return None
