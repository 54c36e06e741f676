"""Tables that users bring: Parquet, CSV and JSON lines of items, interactions, scores, ranks and prices."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from contained import Reader
from mutated_files import NUMBERS, TEXTS, json_text, mutated_bytes, mutated_value, odd_value

ITEMS = [
    {"item_id": f"B{number}", "title": f"Thing {number}", "brand": ["A", "B"], "category": "[\"x\", 'y']",
     "description": "red mug", "price": 1.5}
    for number in range(4)
]  # fmt: skip
INTERACTIONS = [
    {"user_id": f"u{user}", "item_id": f"B{(user + place) % 4}", "timestamp": 1_600_000_000 + place}
    for user in range(3)
    for place in range(4)
]
SCORES = [
    {"user_id": f"u{user}", "item_id": f"B{item}", "score": user + item / 7}
    for user in range(3)
    for item in range(4)
]
PRICES = [
    {"instance": "a.large", "provider": "A", "region": "eu", "gpus": "1", "gpu": "L4", "price_per_hour": "0.5",
     "currency": "EUR", "date": "2025-01-02", "source": "https://a.example"},
    {"instance": "a.small", "provider": "A", "region": "", "gpus": "", "gpu": "", "price_per_hour": "0.05",
     "currency": "EUR", "date": "2025-01-02", "source": "https://a.example"},
]  # fmt: skip
Rows = list[dict[str, Any]]


def csv_text(rng: random.Random, rows: Rows) -> bytes:
    """Return rows as CSV: quoted, separated and encoded in ways that are met, then damaged by chance."""
    cells = [list(rows[0])] + [[row.get(name, "") for name in rows[0]] for row in rows]
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        row = rng.choice(cells)
        kind = rng.randrange(6)
        if kind == 0:
            row.append(rng.choice(TEXTS))
        elif kind == 1 and row:
            row.pop(rng.randrange(len(row)))
        elif kind == 2:
            cells.insert(rng.randrange(len(cells) + 1), list(row))
        elif kind == 3 and row:
            row[rng.randrange(len(row))] = rng.choice(
                ("[" * 2_000, "['a' 'b']", "[nan]", "[1e999]", '["a", ["b"]]', "[" + "9" * 5_000 + "]")
            )
        elif row:
            row[rng.randrange(len(row))] = rng.choice((*TEXTS, *NUMBERS))
    file = io.StringIO(newline="")
    options: dict[str, Any] = {
        "delimiter": rng.choice((",",) * 8 + (";", "\t")),
        "quoting": rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE)),
        "lineterminator": rng.choice(("\n", "\r\n", "\r")),
        "escapechar": "\\",
    }
    csv.writer(file, **options).writerows(cells)
    text = file.getvalue()
    encoded = text.encode(rng.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16")), "surrogatepass")
    return mutated_bytes(rng, encoded, most=2) if rng.random() < 0.4 else encoded


def json_lines(rng: random.Random, rows: Rows) -> bytes:
    """Return rows as JSON lines, of which some hold something else."""
    lines = [json.dumps(row).encode() for row in rows]
    for _ in range(rng.choice((0, 1, 1, 3))):
        at = rng.randrange(len(lines))
        lines[at] = json_text(rng, mutated_value(rng, rows[at % len(rows)]))
    content = rng.choice((b"\n", b"\n", b"\r\n", b"\n\n")).join(lines)
    return mutated_bytes(rng, content) if rng.random() < 0.3 else content


def parquet(rng: random.Random, rows: Rows) -> bytes:
    """Return rows as a Parquet file whose columns are of odd types, then damaged by chance."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if rng.random() < 0.02:
        return grown(rng)
    columns = {name: pa.array([row[name] for row in rows]) for name in rows[0]}
    names = list(columns)
    for _ in range(rng.choice((0, 1, 1, 2))):
        columns[rng.choice((*names, "other", ""))] = _odd_column(rng, len(rows))
    if rng.random() < 0.1:
        del columns[rng.choice(list(columns))]
    table = pa.table(list(columns.values()), names=list(columns))
    if rng.random() < 0.1:
        table = table.append_column(
            rng.choice(names), _odd_column(rng, len(rows))
        )  # a name that is there twice
    if rng.random() < 0.1:
        table = table.slice(0, rng.choice((0, 1)))
    if rng.random() < 0.1:
        note = json_text(
            rng, mutated_value(rng, {"index_columns": ["item_id"], "columns": [], "pandas_version": "3"})
        )
        table = table.replace_schema_metadata({b"pandas": note})
    file = io.BytesIO()
    pq.write_table(
        table,
        file,
        compression=rng.choice(("none", "snappy", "zstd", "gzip", "brotli")),
        row_group_size=rng.choice((3, 100)),
    )
    content = file.getvalue()
    return mutated_bytes(rng, content) if rng.random() < 0.5 else content


def grown(rng: random.Random, rows: int = 400_000_000) -> bytes:
    """Return a small Parquet file of very many rows: nothing but a number that repeats, or nothing at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    piece = 4_000_000
    columns = rng.choice(
        (
            {"user_id": pa.nulls(piece, pa.string()), "item_id": pa.nulls(piece, pa.string())},
            {"timestamp": pa.repeat(7, piece), "score": pa.repeat(7.0, piece)},
        )
    )
    table = pa.table(columns)
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=piece)
    # One group of rows, which the footer names again and again.
    return _repeated_groups(file.getvalue(), table, rows // piece)


def _repeated_groups(content: bytes, table: Any, times: int) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, compression="zstd", write_statistics=False) as writer:
        for _ in range(min(times, 12)):
            writer.write_table(table, row_group_size=len(table))
    return file.getvalue()


def _odd_column(rng: random.Random, rows: int) -> Any:
    import pyarrow as pa

    moment = datetime(2020, 1, 2, tzinfo=timezone.utc)
    makers: tuple[Callable[[], Any], ...] = (
        lambda: pa.nulls(rows),
        lambda: pa.array([rng.choice(NUMBERS) for _ in range(rows)], pa.int64()),
        lambda: pa.array(
            [rng.choice((0.5, float("nan"), float("inf"), 1e300, 2.0**60)) for _ in range(rows)]
        ),
        lambda: pa.array([rng.choice(TEXTS) for _ in range(rows)]),
        lambda: pa.array([rng.choice(TEXTS) for _ in range(rows)]).dictionary_encode(),
        lambda: pa.array([rng.randbytes(3) for _ in range(rows)], pa.binary()),
        lambda: pa.array([rng.randbytes(4) for _ in range(rows)], pa.binary(4)),
        lambda: pa.array([[rng.choice(TEXTS)] * rng.randint(0, 3) for _ in range(rows)]),
        lambda: pa.array([[[1, 2], None]] * rows),
        lambda: pa.array([{"a": 1, "b": rng.choice(TEXTS)}] * rows),
        lambda: pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
        lambda: pa.array([True, None] * rows)[:rows],
        lambda: pa.array([Decimal("12.50")] * rows),
        lambda: pa.array(
            [moment] * rows, pa.timestamp("us", tz=rng.choice(("UTC", "Europe/Berlin", "No/Where")))
        ),
        lambda: pa.array([2**45] * rows, pa.timestamp(rng.choice(("s", "ns")))),
        lambda: pa.array([2**40] * rows, pa.date64()),
        lambda: pa.array([5] * rows, pa.duration("s")),
        lambda: pa.array([5] * rows, pa.time64("us")),
        lambda: pa.array([2**64 - 1] * rows, pa.uint64()),
        lambda: pa.array(np.array([1.5, np.nan] * rows, dtype=np.float16)[:rows]),
        lambda: pa.array(["a" * 100_000] * rows, pa.large_string()),
    )
    return rng.choice(makers)()


_FORMS: dict[str, Callable[[random.Random, Rows], bytes]] = {
    "parquet": parquet,
    "csv": csv_text,
    "jsonl": json_lines,
}


def _plain(form: str, rows: Rows) -> bytes:
    if form == "jsonl":
        return "\n".join(map(json.dumps, rows)).encode()
    if form == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue().encode()
    import pandas as pd

    return pd.DataFrame(rows).to_parquet()


def _write_data_set(form: str) -> Callable[[random.Random, Path, Path], None]:
    def write(rng: random.Random, folder: Path, corpus: Path) -> None:
        spoilt = rng.choice(("items", "interactions", "both"))
        for name, rows in (("items", ITEMS), ("interactions", INTERACTIONS)):
            content = _FORMS[form](rng, rows) if spoilt in (name, "both") else _plain(form, rows)
            (folder / f"{name}.{form}").write_bytes(content)
        if rng.random() < 0.05:
            path = folder / f"items.{form}"
            path.unlink()
            path.symlink_to(
                rng.choice(("/etc/passwd", "../../outside/secret.txt", path.name, "/dev/zero", "."))
            )

    return write


def _read_data_set(folder: Path, corpus: Path) -> str:
    """Load the folder, check that what comes back is whole, and return its texts."""
    from illmrec.data import load_dataset
    from illmrec.data.dataset import ITEM_COLUMNS

    dataset = load_dataset(f"folder:{folder}", min_interactions=1)
    items = dataset.items
    assert tuple(items.columns[: len(ITEM_COLUMNS)]) == ITEM_COLUMNS
    for name in ITEM_COLUMNS:
        assert all(type(cell) is str for cell in items[name]), name
        assert all(cell.encode() is not None for cell in items[name])  # can be written
    assert items["item_id"].is_unique and (items["title"].str.strip() != "").all()
    assert dataset.offsets[0] == 0 and dataset.offsets[-1] == len(dataset.sequence_items)
    assert (np.diff(dataset.offsets) > 0).all() and len(dataset.offsets) == len(dataset.user_ids) + 1
    assert ((dataset.sequence_items >= 0) & (dataset.sequence_items < len(items))).all()
    assert len(dataset.fingerprint) == 16
    dataset.statistics()
    return " ".join(items[list(ITEM_COLUMNS)].to_numpy().ravel())


def _write_scores(rng: random.Random, folder: Path, corpus: Path) -> None:
    form = rng.choice(tuple(_FORMS))
    (folder / f"scores.{form}").write_bytes(_FORMS[form](rng, SCORES))


def _read_scores(folder: Path, corpus: Path) -> None:
    from baselines.scores_file import content_hash, read_scores

    (path,) = folder.iterdir()
    assert len(content_hash(path)) == 16
    given = read_scores(path, user_ids=["u0", "u1", "u2"], item_ids=[f"B{item}" for item in range(4)])
    scores = given.score_users(np.arange(3), [np.array([0])] * 3)
    assert scores.shape == (3, 4) and scores.dtype == np.float32 and not np.isnan(scores).any()


def _write_prices(rng: random.Random, folder: Path, corpus: Path) -> None:
    (folder / "prices.csv").write_bytes(csv_text(rng, PRICES))


def _read_prices(folder: Path, corpus: Path) -> None:
    from bench.frames.pricing import price_table

    price_table.cache_clear()
    for name, row in price_table(folder / "prices.csv").items():
        assert (
            row.instance == name
            and np.isfinite(row.price_per_hour)
            and row.price_per_hour > 0
            and row.gpus >= 0
        )


def _write_gallery(rng: random.Random, folder: Path, corpus: Path) -> None:
    import hashlib

    rows = [
        {"method": "popularity", "seed": 0, "user_id": f"u{user}", "sampled": 1 + user % 3, "full": 2 + user}
        for user in range(6)
    ]
    content = parquet(rng, rows)
    (folder / "ranks.parquet").write_bytes(content)
    facts = {"rows": 6, "sha256": hashlib.sha256(content).hexdigest(), "tables": {"accuracy": ["popularity"]}}
    value: Any = {"ranks": facts}
    spoilt = rng.random() < 0.5
    (folder / "manifest.json").write_bytes(
        json_text(rng, mutated_value(rng, value)) if spoilt else json.dumps(value).encode()
    )
    (folder / "tables").mkdir()
    (folder / "tables" / "accuracy.csv").write_bytes(
        csv_text(
            rng, [{"method": "popularity", "seed": 0, "candidates": "sampled", "ndcg@10": odd_value(rng)}]
        )
    )


def _read_gallery(folder: Path, corpus: Path) -> None:
    from illmrec.errors import InputError
    from reports.recompute import UnusableError, recompute

    try:
        recompute(folder)
    except UnusableError as error:
        raise InputError(str(error)) from error.__cause__


def _tables_loaded() -> None:
    import reports.recompute  # noqa: F401


READERS = (
    *(
        Reader(name=form, write=_write_data_set(form), read=_read_data_set, inputs=100, load=_tables_loaded)
        for form in _FORMS
    ),
    Reader(name="scores", write=_write_scores, read=_read_scores, inputs=100, load=_tables_loaded),
    Reader(name="prices", write=_write_prices, read=_read_prices, inputs=80, load=_tables_loaded),
    Reader(name="ranks", write=_write_gallery, read=_read_gallery, inputs=80, load=_tables_loaded),
)
