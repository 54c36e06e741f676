"""Publishers' files that are damaged, another's or cut short, and reading that is interrupted or shared."""

from __future__ import annotations

import ast
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from publishers import WRITERS, amazon18_items, amazon18_reviews, build, json_lines, write_amazon18

from illmrec.data import load_dataset
from illmrec.data.registry import source_named
from illmrec.data.sources import lines, parsing
from illmrec.data.sources.lines import TextFile, parts
from illmrec.data.sources.measuring import read_by_pandas, read_here, write_reviews
from illmrec.data.sources.parsing import parse
from illmrec.data.sources.pipeline import BuildOptions
from illmrec.errors import InputError

BAD = [
    b"{not json",
    b'["a", "list"]',
    b'{"reviewerID": "A", "asin": "B", "unixReviewTime": "soon"}',
    b'{"reviewerID": "A", "asin": "B", "unixReviewTime": 1' + b"0" * 30 + b"}",
    b'{"reviewerID": "A", "asin": "B", "unixReviewTime": -1e300}',
    b"[" * 100_000,
]


def _raw(folder: Path, extra: list[bytes], *, name: str = "Arts_Crafts_and_Sewing_5.json.gz") -> None:
    rows = amazon18_reviews() if name.startswith("Arts") else amazon18_items()
    content = [json.dumps(row).encode() for row in rows]
    for place, line in enumerate(extra):
        content.insert(3 + 5 * place, line)
    (folder / name).write_bytes(gzip.compress(b"\n".join(content)))  # the last line lacks its end


@pytest.mark.parametrize("name", ["Arts_Crafts_and_Sewing_5.json.gz", "meta_Arts_Crafts_and_Sewing.json.gz"])
def test_bad_lines_are_counted_shown_and_skipped(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_amazon18(tmp_path)
    plain = build("amazon18-art", tmp_path)
    bad = BAD if name.startswith("Arts") else [line for line in BAD if b"Time" not in line]
    _raw(tmp_path, [*bad, b"", b"  "], name=name)
    note = build("amazon18-art", tmp_path)
    assert note["fingerprint"] == plain["fingerprint"]
    role = "interactions" if name.startswith("Arts") else "items"
    assert note["lines"][role]["cannot be read"] == len(bad)
    assert "line 4: not valid JSON" in caplog.text and "{not json" in caplog.text
    with pytest.raises(
        InputError, match=rf"{len(bad)} lines cannot be read, more than --max-bad-lines 2; line 4: "
    ):
        build("amazon18-art", tmp_path, options=BuildOptions(images="none", max_bad_lines=2))


def test_mixed_encodings(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    rows = [
        json.dumps({**row, "title": "Café " + row["title"]}, ensure_ascii=False) for row in amazon18_items()
    ]
    content = b"\n".join(row.encode("cp1252" if place % 2 else "utf-8") for place, row in enumerate(rows))
    (tmp_path / "meta_Arts_Crafts_and_Sewing.json.gz").write_bytes(gzip.compress(content))
    note = build("amazon18-art", tmp_path)
    assert load_dataset("amazon18-art").items["title"].str.startswith("Café Thing").all()
    assert note["lines"]["items"]["lines that are no UTF-8, read as Windows-1252"] == 5


@pytest.mark.parametrize("cut", [30, 5])
def test_a_truncated_gzip_is_refused(cut: int, tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    path = tmp_path / "Arts_Crafts_and_Sewing_5.json.gz"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match=r"Sewing_5\.json\.gz: ends early; fetch it again"):
        build("amazon18-art", tmp_path)


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    path = tmp_path / "Arts_Crafts_and_Sewing_5.json.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 255  # of the checksum
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged .*; fetch it again"):
        build("amazon18-art", tmp_path)


def test_another_data_sets_file_is_named(tmp_path: Path) -> None:
    write_amazon18(tmp_path)
    WRITERS["amazon23-all-beauty"](tmp_path)
    (tmp_path / "All_Beauty.jsonl.gz").replace(tmp_path / "Arts_Crafts_and_Sewing_5.json.gz")
    with pytest.raises(InputError, match=r"has no reviewerID, but .*it looks like interactions of amazon23"):
        build("amazon18-art", tmp_path)
    shutil.copy(
        tmp_path / "meta_Arts_Crafts_and_Sewing.json.gz", tmp_path / "Arts_Crafts_and_Sewing_5.json.gz"
    )
    with pytest.raises(InputError, match=r"has no reviewerID, but .*it looks like items of amazon18"):
        build("amazon18-art", tmp_path)
    (tmp_path / "Arts_Crafts_and_Sewing_5.json.gz").write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        build("amazon18-art", tmp_path)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no Arts_Crafts_and_Sewing_5\.json\.gz, .* it is at https://"):
        build("amazon18-art", tmp_path)
    with pytest.raises(InputError, match=r"accept the rules on the page"):
        build("hm", tmp_path)
    with pytest.raises(InputError, match=r"has no ratings\.dat or ml-1m\.zip"):
        build("movielens-1m", tmp_path)
    (tmp_path / "ml-1m.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"ml-1m\.zip: has the md5 sum .*, not c4d9ee"):
        build("movielens-1m", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        build("movielens-1m", tmp_path / "nowhere")


def _big(folder: Path) -> TextFile:
    """Write reviews that are many parts of 4 kB."""
    json_lines(folder / "Arts_Crafts_and_Sewing_5.json.gz", amazon18_reviews() * 3)
    return TextFile(path=folder / "Arts_Crafts_and_Sewing_5.json.gz")


def _read(text: TextFile, folder: Path, **options) -> parsing.Parsed:
    layout = source_named("amazon18-art").interactions
    return parse(text, layout, role="interactions", folder=folder, part_bytes=4096, **options)


def _rows(done: parsing.Parsed) -> list[dict]:
    return [
        row
        for table in parsing.batches(done, ["user_id", "item_id", "timestamp"])
        for row in table.to_pylist()
    ]


def test_an_interrupted_parse_goes_on_to_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = _big(tmp_path)
    whole = _read(text, tmp_path / "whole")
    assert len(whole.paths) > 8 and whole.rows == 216
    calls = []
    write = parsing._write

    def breaks(part, **options):
        calls.append(part.number)
        if part.number == 5:
            raise KeyboardInterrupt
        write(part, **options)

    monkeypatch.setattr(parsing, "_write", breaks)
    with pytest.raises(KeyboardInterrupt):
        _read(text, tmp_path / "parts")
    there = {path.name for path in (tmp_path / "parts").rglob("part-*.parquet")}
    assert 0 < len(there) < len(whole.paths)
    calls.clear()
    monkeypatch.setattr(
        parsing, "_write", lambda part, **options: (calls.append(part.number), write(part, **options))
    )
    again = _read(text, tmp_path / "parts")
    assert len(calls) == len(whole.paths) - len(there)  # what was read is not read again
    assert _rows(again) == _rows(whole) and again.lines == whole.lines == 216


def test_shards_make_the_whole(tmp_path: Path) -> None:
    text = _big(tmp_path)
    whole = _read(text, tmp_path / "whole")
    for index in (3, 1):
        done = _read(text, tmp_path / "shards", shard=(index, 3))
        assert not done.complete
    done = _read(text, tmp_path / "shards", shard=(2, 3))
    assert done.complete and _rows(done) == _rows(whole)


def test_parts_are_whole_lines_whatever_their_size(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a\nbb\n\nccc\nlast")
    for size in (1, 2, 3, 5, 100):
        found = list(parts(TextFile(path=path), size=size))
        assert b"".join(part.content for part in found) == path.read_bytes()
        assert all(part.content.endswith(b"\n") for part in found[:-1])
        firsts = [part.first_line for part in found]
        assert firsts == np.cumsum([1, *(part.lines for part in found[:-1])]).tolist()


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 100)
    (tmp_path / "text").write_bytes(b"x" * 1000)
    with pytest.raises(InputError, match="line 1: longer than 100 bytes"):
        list(parts(TextFile(path=tmp_path / "text"), size=50))


def test_nothing_is_evaluated_and_no_pickle_is_read() -> None:
    for path in sorted(Path(parsing.__file__).parents[1].rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not modules & {"pickle", "marshal", "shelve", "dill", "joblib"}, path
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "yaml.unsafe_load", "yaml.full_load"), (
                    path,
                    called,
                )
                assert not called.endswith("read_pickle"), path
                assert not any(key.arg == "allow_pickle" and key.value.value for key in node.keywords), path


def test_the_measured_ways_leave_the_same(tmp_path: Path) -> None:
    """Plain pandas is the independent check of reading, duplicates and k-core at once."""
    write_reviews(tmp_path / "reviews.json.gz", 4000)
    here, pandas = (
        way(tmp_path / "reviews.json.gz", tmp_path / "parts", workers=2)
        for way in (read_here, read_by_pandas)
    )
    assert 0 < here["left"] == pandas["left"] < 4000
    assert here["peak"] > 0 and here["cpu"] > 0
