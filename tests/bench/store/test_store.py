from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pytest

from bench.store import store as store_module
from bench.store.cell import Cell
from bench.store.store import Store
from illmrec.errors import DamagedError, InputError


def make(method: str = "illmrec", seed: int = 0, version: int = 1, experiment: str = "accuracy") -> Cell:
    return Cell(
        experiment=experiment,
        version=version,
        config={"method": method, "seed": seed, "dataset": {"name": "toyshop"}},
        method=method,
        seed=seed,
        dataset={"dataset": "toyshop", "users": 3},
    )


NEEDS_DEV_FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
RANKS = pd.DataFrame({"user_id": ["a", "ü/..", "<b>"], "rank_full": np.array([1, 2, 3], dtype=np.int32)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_stored_result_is_found_again_with_all_its_fields(store: Store) -> None:
    cell = make()
    assert store.find(cell) is None
    written = store.write(
        cell, {"sampled": {"hit@5": np.float32(0.5)}, "users": 3}, {"ranks": RANKS}, seconds=1.23456
    )
    found = store.find(cell)
    assert found == written
    assert found.results == {"sampled": {"hit@5": 0.5}, "users": 3}
    assert found.seconds == 1.235
    path = store.out / "store" / "cells" / "accuracy" / cell.key / "cell.json"
    assert json.loads(path.read_text()).keys() == {
        *("experiment", "version", "key", "config", "dataset", "method", "seed", "results"),
        *("created", "seconds", "command", "versions", "git_commit", "machine"),
    }
    pd.testing.assert_frame_equal(store.read_frame(found, "ranks"), RANKS, check_dtype=False)
    assert store.read_frame(found, "ranks")["rank_full"].dtype == np.int32


def test_nothing_is_created_by_looking(store: Store) -> None:
    assert store.find(make()) is None
    assert store.records() == []
    assert store.table("accuracy").empty
    store.check_writable()
    assert not store.out.exists()


def test_a_second_write_replaces_the_first_as_a_whole(store: Store) -> None:
    store.write(make(), {"x": 1}, {"ranks": RANKS, "timings": RANKS}, seconds=1)
    record = store.write(make(), {"x": 2}, {"ranks": RANKS.head(1)}, seconds=1)
    assert store.find(make()).results == {"x": 2}
    assert len(store.read_frame(record, "ranks")) == 1
    assert files(store.cells / "accuracy") == {
        record.key,
        f"{record.key}/cell.json",
        f"{record.key}/checksums.json",
        f"{record.key}/ranks.parquet",
    }


@pytest.mark.parametrize("results", [{"x": float("nan")}, {"x": np.float32("inf")}, {"x": np.arange(3)}])
def test_results_that_are_no_numbers_are_refused(store: Store, results: dict) -> None:
    with pytest.raises((TypeError, ValueError)):
        store.write(make(), results, seconds=1)
    assert not store.out.exists()


@NEEDS_DEV_FULL
def test_a_failure_in_mid_write_keeps_the_old_result(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.write(make(), {"x": 1}, {"ranks": RANKS}, seconds=1)
    content = files(store.cells)

    def full(self: pd.DataFrame, path: Path, **options: object) -> None:
        path.write_bytes(b"PAR1")
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(InputError, match="No space left on device"):
        store.write(make(), {"x": 2}, {"ranks": RANKS}, seconds=1)
    with pytest.raises(InputError, match="No space left on device"):
        store.write(make(seed=1), {"x": 2}, {"ranks": RANKS}, seconds=1)
    assert store.find(make()) == before
    assert files(store.cells) == content


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"version": 1}', "\x00\x00"])
def test_a_damaged_result_names_its_file_and_the_remedy(store: Store, damage: str) -> None:
    record = store.write(make(), {"x": 1}, seconds=1)
    path = record.folder / "cell.json"
    path.write_text(damage)
    for read in (lambda: store.find(make()), store.records, lambda: store.table("accuracy")):
        with pytest.raises(InputError) as caught:
            read()
        message = str(caught.value)
        assert str(path) in message
        assert f"delete the folder {record.folder}" in message
        assert "\n" not in message


def test_an_edited_config_and_a_wrong_type_are_noticed(store: Store) -> None:
    record = store.write(make(), {"x": 1}, seconds=1)
    path = record.folder / "cell.json"
    path.with_name("checksums.json").unlink()  # as a store of before there were checksums
    text = path.read_text()
    path.write_text(text.replace("toyshop", "elsewhere"))
    with pytest.raises(InputError, match="key"):
        store.find(make())
    path.write_text(text.replace('"seed": 0', '"seed": "0"'))
    with pytest.raises(InputError, match="'seed' has the wrong type"):
        store.find(make())


def test_a_folder_without_its_file_is_damaged(store: Store) -> None:
    record = store.write(make(), {"x": 1}, seconds=1)
    (record.folder / "cell.json").unlink()
    with pytest.raises(InputError, match=r"cell\.json"):
        store.find(make())


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", None])
def test_a_damaged_frame_names_its_file_and_the_remedy(store: Store, content: bytes | None) -> None:
    record = store.write(make(), {"x": 1}, {"ranks": RANKS}, seconds=1)
    path = record.folder / "ranks.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        store.read_frame(record, "ranks")
    assert str(path) in str(caught.value)
    assert "delete the folder" in str(caught.value)


@pytest.mark.parametrize("name", ["cell.json", "ranks.parquet", "lists.parquet", "checksums.json"])
def test_no_number_is_read_from_a_file_with_a_flipped_bit(store: Store, name: str) -> None:
    record = store.write(make(), {"x": 0.125}, {"ranks": RANKS, "lists": RANKS}, seconds=1)
    path = record.folder / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedError) as caught:
            for frame in ("ranks", "lists"):
                store.read_frame(store.records()[0], frame)
        assert str(path) in str(caught.value) and "delete the folder" in str(caught.value)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    assert store.records() == [record]


def test_a_cell_that_lost_a_frame_is_damaged_not_one_without_ranks(store: Store) -> None:
    record = store.write(make(), {"x": 1}, {"ranks": RANKS}, seconds=1)
    (record.folder / "ranks.parquet").unlink()
    with pytest.raises(DamagedError, match=r"ranks\.parquet \(it is missing\)"):
        store.records()
    (record.folder / "checksums.json").unlink()  # of an earlier version it is not known
    assert store.records() == [record]


def test_frame_and_artifact_names_cannot_leave_their_folder(store: Store) -> None:
    with pytest.raises(ValueError, match="frame name"):
        store.write(make(), {}, {"../ranks": RANKS}, seconds=1)
    with pytest.raises(ValueError, match="artifact kind"):
        store.artifact("../up", {})


def test_artifacts_have_a_folder_per_configuration(store: Store) -> None:
    first = store.artifact("training", {"lr": 1, "seed": 0})
    assert first.parent == store.out / "store" / "artifacts" / "training"
    assert first == store.artifact("training", {"seed": 0, "lr": 1})
    assert first != store.artifact("training", {"seed": 1, "lr": 1})


def test_table_has_one_row_per_cell_with_nested_names_joined(store: Store) -> None:
    for method, seed in (("tallrec", 1), ("illmrec", 1), ("illmrec", 0)):
        store.write(make(method, seed), {"sampled": {"hit@5": seed / 2}}, seconds=1)
    store.write(make(version=2), {"sampled": {"hit@5": 0.9}}, seconds=1)
    store.write(make(experiment="efficiency"), {"other": 1}, seconds=1)
    table = store.table("accuracy", version=1)
    assert table[["method", "seed"]].values.tolist() == [["illmrec", 0], ["illmrec", 1], ["tallrec", 1]]
    assert table["results.sampled.hit@5"].tolist() == [0.0, 0.5, 0.5]
    assert table["config.dataset.name"].tolist() == ["toyshop"] * 3
    assert "results.other" not in table
    assert len(store.records()) == 5
    assert len(store.records("accuracy")) == 4


def test_temporary_folders_are_no_results_and_go_when_abandoned(store: Store) -> None:
    record = store.write(make(), {"x": 1}, seconds=1)
    live, old = (record.folder.parent / name for name in (".tmp-live", ".tmp-old"))
    for folder in (live, old):
        folder.mkdir()
        (folder / "cell.json").write_text("{")
    os.utime(old, (time.time() - 1e5,) * 2)
    assert len(store.records()) == 1
    store.check_writable()
    assert live.exists() and not old.exists()
    assert store.find(make()) == record


def test_a_results_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    store = Store(tmp_path / "file" / "out")
    for attempt in (store.check_writable, lambda: store.write(make(), {}, seconds=1)):
        with pytest.raises(InputError, match="Not a directory"):
            attempt()
    assert files(tmp_path) == {"file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            Store(tmp_path / "out").check_writable()
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("code", ["EROFS", "EACCES", "ENOSPC"])
def test_errors_of_the_system_become_one_line(
    store: Store, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, code)

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store_module, "owned_path", refuse)
    with pytest.raises(InputError, match=f"{os.strerror(number)}; .*--out"):
        store.check_writable()
    assert not store.out.exists()


@NEEDS_DEV_FULL
def test_a_disk_that_fills_up_during_the_probe_is_noticed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file = Path.open

    def on_a_full_disk(path: Path, mode: str = "r", **options: object) -> IO[bytes]:
        return open_file(Path("/dev/full") if mode == "xb" else path, mode.replace("x", "w"), **options)

    monkeypatch.setattr(Path, "open", on_a_full_disk)
    with pytest.raises(InputError, match="No space left on device"):
        store.check_writable()
