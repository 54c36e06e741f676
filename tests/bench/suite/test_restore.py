"""A store from a gallery is that of the gallery, and what is computed in it stands beside the published results."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench import comparison
from bench.store.store import Store
from bench.suite import restore
from illmrec.command_line import run
from reports.__main__ import main as report

DATA = ["--preset", "smoke", "--users", "60", "--items", "60", "--negatives", "20", "--no-progress"]
METHODS = "popularity,item-knn,sequential-rules"


def compared(out: Path, methods: str, *more: str) -> int:
    given = [*DATA, "--no-report", "--seeds", "0,1", "--methods", methods, "--out", str(out), *more]
    return run(comparison.main, prog="bench.comparison", args=given)


def restored(gallery: Path, out: Path, *more: str) -> int:
    given = [*DATA, "--gallery", str(gallery), "--out", str(out), *more]
    return run(restore.main, prog="python -m bench restore", args=given)


def published(out: Path, folder: Path) -> Path:
    assert run(report, prog="python -m reports", args=["--out", str(out), "--gallery", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store ``own`` and its gallery ``shown``."""
    folder = tmp_path_factory.mktemp("restore")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILLMREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert compared(folder / "own", METHODS) == 0
    published(folder / "own", folder / "shown")
    return folder


@pytest.fixture
def gallery(place: Path, tmp_path: Path) -> Path:
    """A copy of the gallery, to be spoilt."""
    return Path(shutil.copytree(place / "shown", tmp_path / "gallery"))


def test_a_restored_store_has_the_same_results_and_nothing_is_computed_again(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restored(place / "shown", tmp_path) == 0
    assert "6 runs of 3 methods" in capsys.readouterr().out
    own, again = Store(place / "own"), Store(tmp_path)
    expected = {record.key: record for record in own.records("accuracy")}
    found = {record.key: record for record in again.records("accuracy")}
    assert found.keys() == expected.keys()
    for key, record in found.items():
        assert (record.results, record.created) == (expected[key].results, expected[key].created)
        pd.testing.assert_frame_equal(
            again.read_frame(record, "ranks"), own.read_frame(expected[key], "ranks")
        )
    assert compared(tmp_path, METHODS) == 0
    assert "6 of 6 cells found" in capsys.readouterr().err
    tables = published(tmp_path, tmp_path / "shown") / "tables"
    assert "later_day" in pd.read_parquet(place / "shown" / "ranks.parquet")
    for name in (
        "accuracy.csv", "table1.csv", "table1_full.csv", "headline.csv", "multi_day.csv", "claims.csv",
    ):  # fmt: skip
        assert (tables / name).read_bytes() == (place / "shown" / "tables" / name).read_bytes()


def test_a_gallery_whose_ranks_tell_no_days_is_restored_as_well(
    place: Path, gallery: Path, tmp_path: Path
) -> None:
    path, manifest = gallery / "ranks.parquet", gallery / "manifest.json"
    pd.read_parquet(path).drop(columns="later_day").to_parquet(path)
    facts = json.loads(manifest.read_text())
    facts["ranks"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(facts))
    assert restored(gallery, tmp_path / "again") == 0
    for record in Store(place / "own").records("accuracy"):
        again = Store(tmp_path / "again").read(record.experiment, record.key)
        found = Store(tmp_path / "again").read_frame(again, "ranks")
        pd.testing.assert_frame_equal(found, Store(place / "own").read_frame(record, "ranks"))


def test_a_method_of_ones_own_stands_beside_the_published_ones(place: Path, tmp_path: Path) -> None:
    assert restored(place / "shown", tmp_path) == 0 and compared(tmp_path, "recent-popularity") == 0
    table = pd.read_csv(published(tmp_path, tmp_path / "shown") / "tables" / "headline.csv")
    assert len(table) == 4 and (table["seeds"] == 2).all()
    again = pd.read_parquet(tmp_path / "shown" / "ranks.parquet")
    users = again.groupby("method")["user"].unique().map(sorted)
    assert all(numbers == users["popularity"] for numbers in users)


def test_results_that_are_there_stay(place: Path, tmp_path: Path) -> None:
    assert compared(tmp_path, "popularity") == 0
    (first, *_) = Store(tmp_path).records("accuracy")
    assert restored(place / "shown", tmp_path) == 0
    kept = {record.key: record for record in Store(tmp_path).records("accuracy")}
    assert kept[first.key].created == first.created and len(kept) == 6


def test_items_of_a_day_are_restored_each(tmp_path: Path) -> None:
    day = ["--split", "global-time", "--test-targets", "day"]
    assert compared(tmp_path / "own", "popularity,item-knn", *day) == 0
    published(tmp_path / "own", tmp_path / "shown")
    assert restored(tmp_path / "shown", tmp_path / "again", *day) == 0
    for record in Store(tmp_path / "own").records("accuracy"):
        again = Store(tmp_path / "again").read(record.experiment, record.key)
        expected = Store(tmp_path / "own").read_frame(record, "ranks")
        assert "target" in expected
        pd.testing.assert_frame_equal(Store(tmp_path / "again").read_frame(again, "ranks"), expected)


def test_other_data_and_other_users_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restored(place / "shown", tmp_path, "--users", "59") == 2
    assert "its results are on other data than toyshop" in capsys.readouterr().err
    assert compared(tmp_path / "some", "popularity,item-knn", "--eval-users", "9") == 0
    some = published(tmp_path / "some", tmp_path / "shown")
    assert restored(some, tmp_path / "again") == 2
    assert "results on some of the users alone cannot be restored" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_what_is_no_gallery_or_an_older_or_a_damaged_one_is_one_line(
    gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(folder: Path) -> str:
        assert restored(folder, tmp_path / "out") == 2
        *before, error = capsys.readouterr().err.splitlines()
        assert error.startswith("error: ") and all("INFO" in line or "WARNING" in line for line in before)
        return error

    assert "manifest.json: No such file" in said(tmp_path / "nothing")
    manifest = gallery / "manifest.json"
    whole = json.loads(manifest.read_text())

    def manifest_with(**ranks: object) -> None:
        manifest.write_text(json.dumps({**whole, "ranks": {**whole["ranks"], **ranks}}))

    cells = gallery / "cells.parquet"
    content = cells.read_bytes()
    cells.write_bytes(content[:-9])
    assert "not the file that manifest.json names" in said(gallery)
    frame = pd.DataFrame({"key": ["0" * 16], "cell": [json.dumps({"experiment": "../../elsewhere"})]})
    frame.to_parquet(cells)
    digest = hashlib.sha256(cells.read_bytes()).hexdigest()
    manifest_with(cells={"file": "cells.parquet", "sha256": digest})
    assert "experiment '../../elsewhere'" in said(gallery)
    cells.write_bytes(content)
    manifest_with(users=[])
    assert "do not fit together" in said(gallery)
    ranks = gallery / "ranks.parquet"
    pd.read_parquet(ranks).assign(user=lambda frame: frame["user"] + 1).to_parquet(ranks)
    manifest_with(sha256=hashlib.sha256(ranks.read_bytes()).hexdigest())
    assert "do not fit together (IndexError" in said(gallery)
    for older in ({"ranks": {"tables": {}}}, {"cells": 3}):
        manifest.write_text(json.dumps(older))
        assert "made before galleries had results that can be restored" in said(gallery)
    manifest.write_text("{")
    assert "not a gallery's manifest" in said(gallery)
    assert not (tmp_path / "out").exists()
