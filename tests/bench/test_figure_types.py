"""Items in the histories of users hit and missed: counts by brute force, the sheet, and bad input."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import figure_types
from bench.changes.changed_images import with_images
from bench.figure_types import (
    TILE,
    check_groups,
    compute_figures,
    figure_cell,
    groups_of_users,
    most_frequent,
    occurrences,
)
from bench.frames.figure_types import COLUMNS, frame, thumbnails
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data.images import KeptImages
from illmrec.errors import InputError

OPTIONS = {"top": 5, "cutoff": 10, "candidates": "sampled"}
LENGTH = 4


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return Workspace(Settings(users=60, items=40, preset="smoke", device="cpu", progress=False).resolved())


def write_ranks(
    store: Store, workspace: Workspace, ranks: np.ndarray, *, users: np.ndarray | None = None, method="illmrec",
    seed=0,
) -> Record:  # fmt: skip
    """Store an accuracy cell as bench.harness.accuracy does, for some users."""
    dataset = workspace.dataset
    config = {
        "method": method,
        "seed": seed,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "llm": {"name": "tiny", "layers": 2},
        "history_length": LENGTH,
    }
    rows = np.arange(len(ranks)) if users is None else users
    table = pd.DataFrame(
        {"user_id": dataset.user_ids[rows], "rank_sampled": ranks, "rank_full": ranks[::-1] + 3}
    )
    cell = Cell(experiment="accuracy", version=2, config=config, method=method, seed=seed, dataset={})
    return store.write(cell, {}, {"ranks": table}, seconds=1)


def compute(store: Store, workspace: Workspace, ranked: Record, **options) -> Record:
    cell = figure_cell(ranked, **{**OPTIONS, **options})
    outcome = compute_figures(workspace, store, {ranked.key: ranked})(cell)
    return store.write(cell, outcome.results, outcome.frames, seconds=1)


def made_ranks(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 30, n).astype(np.int32)


def by_hand(workspace: Workspace, users: list[int]) -> Counter:
    """How often each item occurs in what the method reads of these users' histories."""
    counts: Counter = Counter()
    for user in users:
        for item in workspace.split.history(user, "test")[-LENGTH:].tolist():
            counts[workspace.dataset.items["item_id"][item]] += 1
    return counts


@pytest.mark.parametrize("candidates", ["sampled", "full"])
def test_groups_agree_with_brute_force(workspace, tmp_path, candidates):
    store = Store(tmp_path)
    # Fewer users than there are, in another order: they are found by name.
    users = np.random.default_rng(2).permutation(workspace.dataset.n_users)[:-7]
    ranks = made_ranks(1, len(users))
    ranked = write_ranks(store, workspace, ranks, users=users)
    record = compute(store, workspace, ranked, candidates=candidates)
    table = frame([ranked, record], store)
    assert tuple(table.columns) == COLUMNS
    rank = ranks if candidates == "sampled" else ranks[::-1] + 3
    members = {
        "hit": [user for user, r in zip(users.tolist(), rank, strict=True) if r <= 10],
        "missed": [user for user, r in zip(users.tolist(), rank, strict=True) if r > 10],
    }
    counts = {group: by_hand(workspace, found) for group, found in members.items()}
    assert record.results == {group: len(found) for group, found in members.items()}
    catalogue = workspace.dataset.items["item_id"].tolist()
    for group, other in (("hit", "missed"), ("missed", "hit")):
        rows = table[table["group"] == group]
        expected = sorted(counts[group], key=lambda item: (-counts[group][item], catalogue.index(item)))[:5]
        assert rows["item_id"].tolist() == expected and rows["place"].tolist() == [1, 2, 3, 4, 5]
        assert (rows["users"] == len(members[group])).all() and rows["image"].all()
        for row in rows.itertuples():
            assert row.occurrences == counts[group][row.item_id]
            frequency = counts[group][row.item_id] / len(members[group])
            elsewhere = counts[other][row.item_id] / len(members[other])
            assert (row.frequency, row.other_frequency) == pytest.approx((frequency, elsewhere))
            assert row.lift == pytest.approx(frequency / elsewhere) if elsewhere else np.isnan(row.lift)
            assert row.title == workspace.dataset.items["title"][catalogue.index(row.item_id)]


def test_histories_end_before_the_target_and_repeats_count(workspace):
    dataset = workspace.dataset
    for length in (1, 3, 1000):
        found = occurrences(workspace.split, np.array([3, 0, 7]), max_items=length)
        expected = np.zeros(dataset.n_items, dtype=int)
        for user in (3, 0, 7):
            for item in dataset.sequence(user)[:-1][-length:]:
                expected[item] += 1
        np.testing.assert_array_equal(found, expected)
    everyone = occurrences(workspace.split, np.arange(dataset.n_users), max_items=1000)
    assert everyone.sum() == dataset.n_interactions - dataset.n_users
    assert occurrences(workspace.split, np.array([], dtype=int), max_items=3).sum() == 0


def test_items_that_never_occur_are_not_shown_and_ties_keep_their_order():
    assert most_frequent(np.array([0, 2, 3, 0, 2, 1]), top=3).tolist() == [2, 1, 4]
    assert most_frequent(np.array([0, 1, 0]), top=5).tolist() == [1]


def test_thumbnails_are_small_pngs_of_the_right_items_and_images_may_be_absent(workspace, tmp_path):
    dataset, store = workspace.dataset, Store(tmp_path)
    place = Workspace(workspace.settings)
    kept = np.arange(dataset.n_items) % 2 == 0
    place.__dict__["dataset"] = with_images(dataset, KeptImages(source=dataset.images, kept=kept))
    ranked = write_ranks(store, place, made_ranks(4, dataset.n_users))
    record = compute(store, place, ranked, top=8)
    table, pictures = frame([record], store), thumbnails([record], store)
    assert 0 < table["image"].sum() < len(table)
    assert set(pictures["item_id"]) == set(table[table["image"]]["item_id"])
    assert pictures["item_id"].is_unique and (pictures["fingerprint"] == place.dataset.fingerprint).all()
    ids = dataset.items["item_id"].tolist()
    for row in pictures.itertuples():
        with Image.open(io.BytesIO(row.png)) as picture:
            assert picture.format == "PNG" and max(picture.size) <= TILE
            small = dataset.images.read(ids.index(row.item_id))
            small.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), np.asarray(small))


def test_frames_take_the_newest_cell_of_each_method_and_seed(workspace, tmp_path):
    store = Store(tmp_path)
    records = []
    for method, seed in (("illmrec", 0), ("illmrec", 1), ("tallrec", 0)):
        ranked = write_ranks(
            store, workspace, made_ranks(seed, workspace.dataset.n_users), method=method, seed=seed
        )
        records.append(compute(store, workspace, ranked))
    table = frame(store.records(), store)
    assert table.groupby(["method", "seed", "group"]).size().tolist() == [5] * 6
    newer = compute(store, workspace, ranked, top=2)
    table = frame([*records, newer], store)
    assert (table.query("method == 'tallrec'")["place"] <= 2).all()
    assert len(thumbnails([*records, newer], store)) == table["item_id"].nunique()
    assert frame([], store).empty and thumbnails([], store).empty
    assert tuple(frame([], store).columns) == COLUMNS


def test_small_groups_say_how_many_users_are_missing(workspace, tmp_path):
    store = Store(tmp_path)
    ranks = np.full(workspace.dataset.n_users, 30, dtype=np.int32)
    ranks[:3] = 1
    ranked = write_ranks(store, workspace, ranks)
    cell = figure_cell(ranked, **OPTIONS)
    check_groups(cell, store, {ranked.key: ranked}, min_users=3)
    with pytest.raises(InputError, match=r"3 users hit at 10, and 4 are needed.*--min-users"):
        check_groups(cell, store, {ranked.key: ranked}, min_users=4)


def without_pictures(folder: Path) -> list[str]:
    items = [f"i{number}" for number in range(8)]
    pd.DataFrame({"item_id": items, "title": items, "description": items}).to_csv(
        folder / "items.csv", index=False
    )
    interactions = {"user_id": np.repeat(items, 8), "item_id": items * 8, "timestamp": range(64)}
    pd.DataFrame(interactions).to_csv(folder / "interactions.csv", index=False)
    return ["--dataset", f"folder:{folder}"]


def test_data_without_images_are_one_line(tmp_path, capsys):
    arguments = ["--preset", "smoke", "--no-progress", "--no-report", "--out", str(tmp_path / "out")]
    assert run(figure_types.main, prog="bench", args=[*arguments, *without_pictures(tmp_path)]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and "no item has an image" in error[0] and "still run" in error[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--methods", "popularity"], "--methods popularity"),
        (["--methods", "ilmrec"], "did you mean 'illmrec'"),
        (["--methods", ""], "--methods: give at least one"),
        (["--top", "0"], "--top 0"),
        (["--cutoff", "0"], "--cutoff 0"),
        (["--candidates", "some"], "--candidates"),
        (["--min-users", "-1"], "--min-users -1"),
    ],
)
def test_bad_options_are_one_line(arguments, expected, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--preset", "smoke", "--no-progress", "--no-report", "--out", str(out)]
    assert run(figure_types.main, prog="bench", args=[*common, *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_end_to_end_and_a_second_run_computes_nothing(tmp_path):
    pytest.importorskip("recbole", reason="CF features")
    arguments = [
        *("--preset", "smoke", "--no-progress", "--no-report", "--out", str(tmp_path), "--layers", "1"),
        *("--history-length", "3", "--validation-users", "0", "--batch-size", "4", "--max-steps", "1"),
        *("--min-users", "1", "--top", "3"),
    ]
    assert run(figure_types.main, prog="bench.figure_types", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "figure_types.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["group"].tolist() == ["hit"] * 3 + ["missed"] * 3 and table["image"].all()
    store = Store(tmp_path)
    ranks = store.read_frame(store.records("accuracy")[0], "ranks")
    assert (
        table["users"].tolist()
        == [(ranks["rank_sampled"] <= 10).sum()] * 3 + [(ranks["rank_sampled"] > 10).sum()] * 3
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "cells").rglob("*.*")}
    assert run(figure_types.main, prog="bench.figure_types", args=arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "cells").rglob("*.*")} == before


def test_one_point_in_time_and_several_targets(tmp_path):
    settings = Settings(users=60, items=40, preset="smoke", device="cpu", progress=False, split="global-time")
    place = Workspace(settings.resolved())
    tested = place.split.users("test")
    counts = occurrences(place.split, tested, max_items=LENGTH)
    expected = np.zeros(place.dataset.n_items, dtype=int)
    for user in tested:
        np.add.at(expected, place.split.history(int(user), "test")[-LENGTH:], 1)
    assert counts.tolist() == expected.tolist()
    store = Store(tmp_path)
    # Of three users the first has two targets, one of them hit.
    ranked = write_ranks(
        store, place, np.array([30, 2, 40, 1], dtype=np.int32), users=tested[np.array([0, 0, 1, 2])]
    )
    groups = groups_of_users(figure_cell(ranked, **OPTIONS), store, {ranked.key: ranked})
    names = place.dataset.user_ids[tested]
    assert (
        groups["hit"].tolist() == names[[0, 2]].tolist() and groups["missed"].tolist() == names[[1]].tolist()
    )
