"""Checksums: what is read is what was written, whatever a disk did to it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from illmrec import checksums
from illmrec.data.fetching.manifest import Entry, Manifest
from illmrec.errors import DamagedError
from illmrec.training.checkpoint import read_checkpoint, write_checkpoint

BLOCK = 16


def flipped(content: bytes, place: int, bit: int = 0) -> bytes:
    """Return content with one bit changed."""
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of no, less than one, one, and several blocks."""
    monkeypatch.setattr(checksums, "BLOCK", BLOCK)
    folder = tmp_path / "sealed"
    with checksums.sealed_directory(folder) as made:
        for name, size in (("empty", 0), ("less", 5), ("one", BLOCK), ("more", 3 * BLOCK + 1)):
            (made / name).write_bytes(bytes(range(size)))
        (made / "below").mkdir()
        (made / "below" / "file").write_bytes(b"x")
    return folder


def test_nothing_is_wrong_with_what_was_written(sealed: Path) -> None:
    assert checksums.first_fault(sealed) is None
    checksums.check(sealed, remedy="none")
    listed = json.loads((sealed / "checksums.json").read_text())["files"]
    assert listed.keys() == {"empty", "less", "one", "more", "below/file"}
    assert [len(sums["crc32"]) for sums in listed.values()] == [1, 1, 1, 4, 1]
    # By hand: CRC-32 of "x", and of nothing.
    assert listed["below/file"] == {"bytes": 1, "crc32": ["8cdc1683"]}
    assert listed["empty"] == {"bytes": 0, "crc32": ["00000000"]}


def test_every_bit_and_every_length_counts(sealed: Path) -> None:
    for name in ("less", "one", "more", "below/file", "checksums.json"):
        path = sealed / name
        whole = path.read_bytes()
        damaged = [flipped(whole, place, bit) for place in range(len(whole)) for bit in (0, 7)]
        damaged += [whole[:length] for length in range(len(whole))]
        damaged += [whole + b"\0"]
        for content in damaged:
            path.write_bytes(content)
            try:
                fault = checksums.first_fault(sealed)
            except DamagedError as error:
                pytest.fail(f"{name}: {error}")
            if fault is None:  # the last line's end: what the list says is the same
                assert content == whole[:-1] and name == "checksums.json"
            else:
                assert fault[0] == path and "\n" not in fault[1]
        path.write_bytes(whole)
    assert checksums.first_fault(sealed) is None


def test_the_message_names_file_place_and_remedy(sealed: Path) -> None:
    (sealed / "more").write_bytes(flipped((sealed / "more").read_bytes(), 20))
    with pytest.raises(DamagedError) as caught:
        checksums.check(sealed, "more", remedy="train again")
    assert str(caught.value) == (
        f"{sealed / 'more'}: damaged (bytes 16 to 32 are not those that were written); train again"
    )
    checksums.check(sealed, "one", "less", remedy="")  # others are not read


def test_a_missing_file_counts_whichever_is_read_and_an_unlisted_one_only_if_it_is(sealed: Path) -> None:
    (sealed / "new").write_text("x")
    assert checksums.first_fault(sealed, "one") is None
    assert checksums.first_fault(sealed, "new") == (sealed / "new", "checksums.json does not name it")
    (sealed / "less").unlink()
    assert checksums.first_fault(sealed, "one") == (sealed / "less", "it is missing")


def test_what_an_earlier_version_left_is_read_as_it_is(sealed: Path) -> None:
    (sealed / "checksums.json").unlink()
    (sealed / "one").write_bytes(b"other")
    checksums.check(sealed, "one", remedy="")
    assert checksums.first_fault(sealed) is None


def test_a_folder_that_is_replaced_while_it_is_looked_at_is_not_damaged(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = checksums._listed

    def replaced(path: Path) -> dict:
        known = listed(path)
        monkeypatch.setattr(checksums, "_listed", listed)
        with checksums.sealed_directory(sealed) as made:
            (made / "one").write_bytes(b"other")
        return known

    monkeypatch.setattr(checksums, "_listed", replaced)
    assert checksums.first_fault(sealed, "one") is None


def test_a_large_file_is_read_once_unless_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sealed"
    with checksums.sealed_directory(folder) as made:
        np.save(made / "values.npy", np.arange(3 << 20, dtype=np.float32))  # 12 MiB
    read: list[int] = []
    crc = checksums._crc
    monkeypatch.setattr(checksums, "_crc", lambda content: read.append(len(content)) or crc(content))
    checksums.check(folder, "values.npy", remedy="")
    assert not read  # its sums are those of the one who wrote it, in this process
    path = folder / "values.npy"
    content = bytearray(path.read_bytes())
    content[9 << 20] ^= 4
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="bytes 8,388,608 to 12,582,912 are not"):
        checksums.check(folder, "values.npy", remedy="")
    assert sum(read) == len(content)
    with pytest.raises(DamagedError):
        checksums.check(folder, "values.npy", remedy="")
    assert sum(read) == len(content)


@pytest.mark.parametrize("value", [{"a": 0.1, "b": [1, None, "ü"], "c": {"10": 1, "2": {}}}, {}])
def test_a_json_file_comes_back_or_is_named(tmp_path: Path, value: dict) -> None:
    path = tmp_path / "file.json"
    checksums.write_json(path, value)
    assert checksums.read_json(path) == value
    whole = path.read_bytes()
    for content in [flipped(whole, place) for place in range(len(whole))] + [whole[:5], b"", b"[]", b"\xff"]:
        path.write_bytes(content)
        with pytest.raises(DamagedError) as caught:
            checksums.read_json(path, remedy="write it again")
        said = str(caught.value)
        assert str(path) in said and said.endswith("; write it again") and "\n" not in said
    path.write_text(json.dumps(value))
    assert checksums.read_json(path) == value


def test_a_damaged_file_of_a_cache_is_named_and_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "file.json"
    assert checksums.kept(path) is None and not caplog.text
    checksums.write_json(path, {"ratio": 1.5})
    assert checksums.kept(path) == {"ratio": 1.5}
    path.write_text(path.read_text().replace("1.5", "9.5"))
    assert checksums.kept(path) is None
    assert f"{path}: damaged (its checksum is not that of its content): it is made again" in caplog.text
    assert not list(tmp_path.iterdir())


def test_lines_of_a_manifest_that_were_changed_are_not_read(tmp_path: Path) -> None:
    with Manifest(tmp_path / "manifest.jsonl") as manifest:
        for name in ("a", "b\u2028c", "d"):
            manifest.add(Entry(item_id=name, url="https://x.org/\ud800", status=200, bytes=7, file="a.png"))
    path = tmp_path / "manifest.jsonl"
    entries = Manifest(path).entries
    assert entries.keys() == {"a", "b\u2028c", "d"}
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        path.write_bytes(flipped(whole, place))
        found = Manifest(path).entries
        assert all(entries[name] == entry for name, entry in found.items())
        assert len(found) >= 1


def test_an_unfinished_training_that_is_damaged_is_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "k.unfinished"
    assert read_checkpoint(folder) is None
    write_checkpoint(folder, tensors={"a": torch.ones(3)}, state={"step": 2, "sums": [float("nan")]})
    state, tensors = read_checkpoint(folder) or ({}, {})
    assert state["step"] == 2 and tensors["a"].tolist() == [1, 1, 1] and not caplog.text
    for name in ("state.json", "state.safetensors", "checksums.json"):
        whole = (folder / name).read_bytes()
        for content in (flipped(whole, len(whole) - 3), flipped(whole, 20, 2), whole[:9], b""):
            caplog.clear()
            (folder / name).write_bytes(content)
            with caplog.at_level(logging.WARNING):
                assert read_checkpoint(folder) is None
            assert str(folder / name) in caplog.text and "starting anew" in caplog.text
        (folder / name).write_bytes(whole)
    (folder / "checksums.json").unlink()  # as an earlier version left it
    assert read_checkpoint(folder) is not None
    (folder / "state.safetensors").write_bytes(b"no tensors")
    assert read_checkpoint(folder) is None
