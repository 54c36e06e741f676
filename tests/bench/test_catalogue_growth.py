"""Smaller catalogues by brute force, and a model that serves items it was not trained with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import catalogue_growth
from bench.changes.smaller_catalogue import grown, kept_items, restricted, selected
from bench.frames import catalogue_growth as frames
from bench.harness.accuracy import accuracy_cell
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol.metrics import summarise
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data import load_dataset
from illmrec.data.splits import leave_one_out
from illmrec.features.table import FeatureTable


@pytest.fixture(scope="module")
def shop():
    return load_dataset(name="toyshop", users=80, items=150)


def test_catalogues_are_nested_and_drawn_by_seed():
    small, large = kept_items(200, share=0.3, seed=4), kept_items(200, share=0.7, seed=4)
    assert len(small) == 60 and len(large) == 140 and set(small) < set(large)
    assert (np.diff(large) > 0).all()
    assert small.tolist() != kept_items(200, share=0.3, seed=5).tolist()
    assert kept_items(200, share=1.0, seed=4).tolist() == list(range(200))


def test_a_smaller_catalogue_holds_what_is_left_of_every_sequence(shop):
    rows = kept_items(shop.n_items, share=0.4, seed=1)
    small = restricted(shop, rows)
    ids = shop.items["item_id"].to_numpy()
    expected = {}
    for user in range(shop.n_users):
        left = [ids[item] for item in shop.sequence(user) if item in set(rows.tolist())]
        if len(left) >= 4:
            expected[shop.user_ids[user]] = left
    assert 0 < len(expected) < shop.n_users, "the case is worth testing only if some users go"
    assert small.user_ids.tolist() == list(expected)
    small_ids = small.items["item_id"].to_numpy()
    for user, left in enumerate(expected.values()):
        assert small_ids[small.sequence(user)].tolist() == left
    assert small.items["title"].tolist() == shop.items["title"].iloc[rows].tolist()
    picture = np.asarray(small.images.read(3))
    assert (picture == np.asarray(shop.images.read(int(rows[3])))).all()
    assert small.fingerprint != shop.fingerprint
    assert restricted(shop, rows).fingerprint == small.fingerprint


def test_no_model_has_trained_on_a_target_of_a_larger_catalogue(shop):
    rows = {share: kept_items(shop.n_items, share=share, seed=2) for share in (0.5, 0.8, 1.0)}
    splits = {share: leave_one_out(restricted(shop, kept)) for share, kept in rows.items()}
    for small, large in ((0.5, 0.8), (0.5, 1.0), (0.8, 1.0)):
        trained = splits[small]
        user_of = {name: user for user, name in enumerate(trained.dataset.user_ids)}
        for user, name in enumerate(splits[large].dataset.user_ids):
            if name in user_of:
                target = rows[large][splits[large].targets("test")[user]]
                sequence = shop.sequence(int(np.flatnonzero(shop.user_ids == name)[0]))
                seen = rows[small][trained.train(user_of[name])]
                # Where a user bought the same item twice, the earlier purchase may be in training.
                assert (sequence == target).sum() > 1 or target not in seen


def test_features_of_some_items_and_of_more():
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    table = FeatureTable(values=values, present=np.array([1, 1, 0, 1], dtype=bool), key="k", meta={})
    part = selected(table, np.array([2, 3]))
    assert part.values.tolist() == values[2:].tolist() and part.present.tolist() == [False, True]
    assert part.key != table.key
    more = grown(part, np.array([0, 4]), n_items=5, elsewhere=np.array([7, 8, 9]))
    assert more.values[[0, 4]].tolist() == values[2:].tolist()
    assert (more.values[1:4] == [7, 8, 9]).all() and more.present.tolist() == [
        True,
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--shares", "1"], "--shares: give two shares or more"),
        (["--shares", "0,1"], "--shares: give two shares or more"),
        (["--shares", "0.2,1"], "--shares 0.2: 32 items"),
        (["--feature-sets", "image+sound"], "--feature-sets image+sound"),
        (["--feature-sets", ""], "--feature-sets: give at least one"),
    ],
)
def test_bad_input_is_one_line_before_any_training(arguments, expected, tmp_path, refusal):
    assert expected in refusal(catalogue_growth.main, arguments)
    assert not list(tmp_path.rglob("cell.json"))


@pytest.mark.slow
def test_a_trained_model_serves_the_larger_catalogue(tmp_path: Path, tiny_llm, tiny_encoders):
    pytest.importorskip("recbole", reason="CF features are one of the cases")
    given = {"preset": "smoke", "llm": str(tiny_llm), "max_steps": 2, "validation_users": 0}
    given |= {name.removeprefix("--"): value for name, value in zip(*[iter(tiny_encoders)] * 2, strict=True)}
    given |= {"users": 60, "items": 100, "min_interactions": 1, "negatives": 20}
    arguments = ["--shares", "0.9,1", "--out", str(tmp_path), "--no-report", "--no-progress"]
    for name, value in given.items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    assert run(catalogue_growth.main, prog="bench.catalogue_growth", args=arguments) == 0
    written = pd.read_csv(tmp_path / "tables" / "catalogue_growth.csv")
    assert tuple(written.columns) == frames.COLUMNS
    models = [path for path in (tmp_path / "store" / "artifacts" / "model").iterdir() if path.is_dir()]
    assert len(models) == 4, "two catalogues, two feature sets"
    before = {str(path): path.stat().st_mtime for path in tmp_path.rglob("cell.json")}
    assert run(catalogue_growth.main, prog="bench.catalogue_growth", args=arguments) == 0
    assert {str(path): path.stat().st_mtime for path in tmp_path.rglob("cell.json")} == before

    settings = Settings(**given, out=tmp_path, progress=False, report=False).resolved()
    workspace, store = Workspace(settings), Store(tmp_path)
    small, whole = catalogue_growth.catalogues(workspace, [0.9, 1.0], seed=0)
    assert whole.place is workspace
    targets = workspace.split.targets("test")
    new = sum(int(target) not in set(small.rows.tolist()) for target in targets)
    assert 0 < new < len(targets)
    pairs = written.drop_duplicates(["features", "trained_share", "served_share"])
    assert len(pairs) == 6
    for record in store.records("catalogue_growth"):
        shares = record.config["trained"]["share"], record.config["served"]["share"]
        ranks = store.read_frame(record, "ranks")
        assert ranks["target_is_new"].sum() == (new if shares == (0.9, 1.0) else 0)
        rows = written[
            (written["features"] == "+".join(record.config["features"]))
            & (written["trained_share"] == shares[0])
            & (written["served_share"] == shares[1])
            & (written["candidates"] == "full")
        ].set_index("targets")
        assert rows.loc["all", "users"] == len(ranks)
        for kind, chosen in (("old", ~ranks["target_is_new"]), ("new", ranks["target_is_new"])):
            assert (kind in rows.index) == chosen.any()
            if chosen.any():
                expected = summarise(ranks.loc[chosen, "rank_full"].to_numpy())["ndcg@10"]
                assert rows.loc[kind, "ndcg@10"] == pytest.approx(expected, abs=1e-5)
        widths = 12 + 16 + (64 if "cf" in record.config["features"] else 0)  # of the tiny encoders
        assert rows.loc["all", "feature_bytes_per_item"] == 4 * widths

    features = ("image", "cf", "text")
    training = accuracy_cell(small.place, "illmrec", seed=0, features=features)
    model, _ = catalogue_growth.serving_model(small, training, whole, store)
    unseen = np.setdiff1d(whole.rows, small.rows)
    cf = model.features("cf").numpy()
    assert model.n_items == len(whole.rows)
    assert not cf[unseen].any() and cf[small.rows].any(axis=1).all()
    assert model.features("image").numpy()[unseen].any(axis=1).all()
