"""Cells, shared cells, studies and summaries that were damaged or made to harm."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from baselines.summarizer.store import Answer, SummaryStore
from bench.harness.tuned import Tuned, _path, study_key
from bench.store.cell import Cell
from bench.store.shared import SharedStore
from bench.store.store import Store
from illmrec.errors import InputError

CELL = Cell(
    experiment="accuracy", version=1, config={"method": "m", "seed": 0}, method="m", seed=0, dataset={"name": "toyshop"}
)  # fmt: skip
RANKS = pd.DataFrame({"user_id": ["a"], "rank": [1]})
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_what_is_no_number_is_damage(number: str, tmp_path: Path) -> None:
    """It is never written; read, it would go into a table as a number."""
    store = Store(tmp_path)
    path = store.write(CELL, {"ndcg": 0.5}, seconds=1).folder / "cell.json"
    (path.parent / "checksums.json").unlink()  # as an earlier version left it
    path.write_text(path.read_text().replace("0.5", number))
    with pytest.raises(InputError, match=r"cannot read .*cell\.json .* delete the folder"):
        store.find(CELL)
    path.write_text(DEEP)
    with pytest.raises(InputError, match="nested too deep"):
        store.find(CELL)


@pytest.mark.parametrize(
    "note", [b'{"columns": "x"}', b'{"index_columns": ["nothing"], "columns": []}', b"[1]"]
)
def test_a_frame_with_broken_notes_of_pandas_is_named(note: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = store.write(CELL, {"ndcg": 0.5}, {"ranks": RANKS}, seconds=1)
    table = pa.Table.from_pandas(RANKS).replace_schema_metadata({b"pandas": note})
    parquet.write_table(table, record.folder / "ranks.parquet")
    with pytest.raises(InputError, match=r"cannot read .*ranks\.parquet"):
        store.read_frame(record, "ranks")


def _object(folder: Path, content: bytes) -> SharedStore:
    place = folder / "shared" / "cells" / "accuracy" / f"{CELL.key}.zip"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return SharedStore(folder / "out", f"file://{folder}/shared")


def _packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_a_shared_cell_grows_to_no_bomb(tmp_path: Path) -> None:
    bomb = _packed({"a.parquet": bytes(1 << 20)}, zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match="packed by bzip2"):
        _object(tmp_path, bomb).find(CELL)
    grown = bytearray(_packed({"a.parquet": bytes(1 << 20)}, zipfile.ZIP_DEFLATED))
    at = grown.index(b"PK\x01\x02") + 24
    grown[at : at + 4] = (3 << 30).to_bytes(4, "little")
    with pytest.raises(InputError, match="more than 1,073,741,824 bytes"):
        _object(tmp_path, bytes(grown)).find(CELL)
    assert not (tmp_path / "out").exists()


def test_a_damaged_or_encrypted_shared_cell_is_named(tmp_path: Path) -> None:
    sound = _packed({"cell.json": b"{}" * 100}, zipfile.ZIP_DEFLATED)
    encrypted = bytearray(sound)
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(signature) + place] |= 1
    damaged = bytearray(sound)
    damaged[40:44] = b"\x07" * 4
    for content in (bytes(encrypted), bytes(damaged), sound[:-5], b"PK"):
        with pytest.raises(InputError, match=r"cannot read .*delete it and run again"):
            _object(tmp_path, content).find(CELL)


STUDY = {"study": "s", "method": "x", "parameters": {"a": 1}, "valid_ndcg10": 0.5, "default_ndcg10": None, "trials": 3,
         "seconds": 1.5}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": 3},
        {"valid_ndcg10": "0.5"},
        {"trials": None},
        {"seconds": float("nan")},
        {"method": 3},
        None,
    ],
)
def test_a_study_has_its_types(change: dict | None, tmp_path: Path) -> None:
    Tuned(**{**STUDY, "study": study_key({"method": "x"})}).write(tmp_path)
    assert Tuned.read(tmp_path, {"method": "x"}).trials == 3
    text = DEEP if change is None else json.dumps({**STUDY, **change})
    _path(tmp_path, study_key({"method": "x"})).write_text(text)
    with pytest.raises(InputError, match="damaged"):
        Tuned.read(tmp_path, {"method": "x"})


def test_lines_of_summaries_that_are_not_sound_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "summaries.jsonl"
    sound = {"item": "a", "title": "A", "summary": "Red.", "cut": False, "seconds": 1.0}
    lines = [json.dumps(sound), DEEP, json.dumps({**sound, "item": "b", "summary": 3}), "[1]",
             json.dumps({**sound, "item": "c"}).replace("Red.", "\\ud800"),
             '{"item": "d", "seconds": 1e999}']  # fmt: skip
    path.write_text("\n".join(lines))
    store = SummaryStore(path)
    assert "a" in store and not any(key in store for key in "bcd")
    store.add([Answer(key="b", text="Blue.", cut=False, seconds=1.0)], titles=["B"])
    assert SummaryStore(path)["b"].text == "Blue."
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="summaries cannot be read"):
        SummaryStore(tmp_path / "folder")
