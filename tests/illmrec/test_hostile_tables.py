"""Tables that were made to harm."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from illmrec.data.tables import read_table, read_table_file
from illmrec.errors import InputError

ROWS = pd.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"]})


@pytest.mark.parametrize(
    "note",
    [
        b'{"index_columns": ["nothing"], "columns": [], "pandas_version": "3"}',
        b'{"index_columns": [3], "columns": ["x"]}',
        b'{"columns": "x"}',
        b"[1]",
        b"{",
        b"\xff",
    ],
)
def test_notes_of_pandas_that_fit_no_table_are_left_out(note: bytes, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(ROWS).replace_schema_metadata({b"pandas": note})
    parquet.write_table(table, tmp_path / "items.parquet")
    found = read_table_file(tmp_path / "items.parquet")
    assert found["item_id"].tolist() == ["a", "b"] and found["title"].tolist() == ["A", "B"]


def test_a_sound_index_is_read_as_before(tmp_path: Path) -> None:
    ROWS.iloc[[1]].to_parquet(tmp_path / "items.parquet")
    assert list(read_table_file(tmp_path / "items.parquet").columns) == ["item_id", "title"]


def test_a_small_file_of_hundreds_of_millions_of_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "interactions.parquet"
    table = pa.table({"timestamp": pa.nulls(2_000_000, pa.int64())})
    with parquet.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(20):
            writer.write_table(table)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match="bytes claim 40,000,000 cells"):
        read_table_file(path)


@pytest.mark.parametrize("target", ["../secret.csv", "items.csv", "nowhere", "/dev/zero"])
def test_a_table_that_leads_out_of_its_folder_is_not_read(target: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.csv").write_text("item_id,title\na,secret\n")
    (folder / "items.csv").symlink_to(target)
    with pytest.raises(InputError, match=r"items\.csv: ") as caught:
        read_table(folder, "items")
    assert "secret\n" not in str(caught.value)
    (folder / "items.csv").unlink()
    (folder / "mine.csv").write_text("item_id,title\na,A\n")
    (folder / "items.csv").symlink_to("mine.csv")
    assert read_table(folder, "items")[0]["title"].tolist() == ["A"]


def test_a_number_of_json_lines_that_fits_no_float_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.jsonl").write_text(
        '{"item_id": "a", "score": 1}\n{"item_id": "b", "score": 1' + "0" * 400 + "}\n"
    )
    with pytest.raises(
        InputError, match=r"scores\.jsonl, line 2: not valid JSON \(a whole number of 401 digits\)"
    ):
        read_table_file(tmp_path / "scores.jsonl")


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@pytest.mark.parametrize("coded", [False, True])
def test_texts_that_are_not_utf_8_are_refused(kind: pa.DataType, coded: bool, tmp_path: Path) -> None:
    raw = pa.large_binary() if pa.types.is_large_string(kind) else pa.binary()
    titles = pa.array([b"A", b"B\xff"], type=raw).view(kind)
    table = pa.table({"item_id": ["a", "b"], "title": titles.dictionary_encode() if coded else titles})
    parquet.write_table(table, tmp_path / "items.parquet")
    with pytest.raises(InputError, match=r"items\.parquet: cannot be read as parquet"):
        read_table_file(tmp_path / "items.parquet")
