"""One point in time for all users: what comes before it trains every kind of method, one item or a day is tested."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench import comparison, item_popularity, token_cost, user_activity
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data import load_dataset

SMALL = ["--preset", "smoke", "--users", "80", "--items", "60", "--min-interactions", "1", "--layers", "2"]
SMALL += ["--no-progress", "--no-report", "--negatives", "20", "--features", "text", "--split", "global-time"]


@pytest.mark.parametrize("strategy", ["frozen", "cached"])
def test_every_kind_of_method(tmp_path, tiny_llm, tiny_encoders, strategy):
    pytest.importorskip("recbole", reason="SASRec is one kind")
    methods = ["title", "no-llm", "item-knn", "sequential-rules", "recent-popularity", "popularity", "sasrec"]
    arguments = [*SMALL, "--llm", str(tiny_llm), *tiny_encoders, "--out", str(tmp_path), "--cf-epochs", "2"]
    arguments += ["--strategy", strategy, "--methods", ",".join(methods)]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
    settings = Settings(
        preset="smoke",
        users=80,
        items=60,
        min_interactions=1,
        layers=2,
        split="global-time",
        llm=str(tiny_llm),
    )
    split = Workspace(settings.resolved()).split
    tested = split.users("test")
    assert 0 < len(tested) < 80
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert set(table["method"]) == set(methods) and set(table["dataset"]) == {"toyshop-80x60-global-time"}
    assert (table["users"] == len(tested)).all() and np.isfinite(table["ndcg@10"]).all()
    store = Store(tmp_path)
    names = np.asarray(split.dataset.user_ids)[tested].tolist()
    for record in store.records("accuracy"):
        ranks = store.read_frame(record, "ranks")
        assert ranks["user_id"].tolist() == names
        assert ranks["history_length"].tolist() == [len(split.history(user, "test")) for user in tested]


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """A folder with the toyshop's sequences, each user's four items a day: its name as a data set."""
    shop = load_dataset("toyshop", users=80, items=60, min_interactions=1)
    folder = tmp_path_factory.mktemp("busy")
    shop.items[["item_id", "title", "category", "description"]].to_csv(folder / "items.csv", index=False)
    users = np.repeat(np.arange(shop.n_users), shop.lengths)
    number = np.arange(len(users)) - shop.offsets[users]
    days = np.random.default_rng(0).integers(0, 20, shop.n_users)[users] + number // 4
    interactions = {
        "user_id": shop.user_ids[users],
        "item_id": shop.items["item_id"].to_numpy()[shop.sequence_items],
        "timestamp": 1_600_041_600 // 86_400 * 86_400 + days * 86_400 + number % 4,
    }
    pd.DataFrame(interactions).to_csv(folder / "interactions.csv", index=False)
    return f"folder:{folder}"


def of_busy(busy: str, *names: str) -> list[str]:
    """Return the options of all runs on it."""
    toyshop = ("--users", "80", "--items", "60", "--features", "text")
    return [*(name for name in SMALL if name not in toyshop), "--dataset", busy, *names]


def test_all_targets_of_a_day(tmp_path, tiny_llm, tiny_encoders, busy, capsys):
    pytest.importorskip("recbole", reason="SASRec is one kind")
    arguments = of_busy(
        busy, "--llm", str(tiny_llm), *tiny_encoders, "--out", str(tmp_path), "--cf-epochs", "1"
    )
    arguments += ["--features", "text"]
    trained = ["title", "no-llm"]  # the first on a frozen LLM, the second on stored states
    assert (
        run(comparison.main, prog="bench.comparison", args=[*arguments, "--methods", ",".join(trained)]) == 0
    )
    store = Store(tmp_path)
    models = sorted(path.name for path in (tmp_path / "store" / "artifacts" / "model").iterdir())
    methods = [*trained, "popularity", "item-knn", "sasrec"]
    arguments += ["--methods", ",".join(methods), "--test-targets", "day"]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
    said = capsys.readouterr().err
    # What is tested is not trained on: the models are those of before.
    assert sorted(path.name for path in (tmp_path / "store" / "artifacts" / "model").iterdir()) == models
    settings = Settings(dataset=busy, min_interactions=1, split="global-time", test_targets="day")
    split = Workspace(settings.resolved()).split
    targets, tested = split.every_target("test"), split.users("test")
    assert len(targets.items) > len(tested) > 0
    new = (np.bincount(split.train_items(), minlength=60)[targets.items] == 0).sum()
    assert f"{len(tested)} of 80 users are tested" in said
    assert f"of {len(targets.items)} targets (all items of each user's day) {new} are items that" in said
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert set(table["method"]) == set(methods) and (table["users"] == len(tested)).all()
    assert len(set(table["dataset"])) == 1 and table["dataset"][0].endswith("-global-time-day")
    records = store.records("accuracy")
    assert len({record.key for record in records}) == len(records) == len(trained) + len(methods)
    names = np.asarray(split.dataset.user_ids)[tested]
    lists = 0
    for record in records:
        ranks, of_day = store.read_frame(record, "ranks"), "test_targets" in record.config["evaluation"]
        assert of_day == ("target" in ranks) == (record.results.get("targets") == len(targets.items))
        assert (ranks["days"] >= 0).all() and len(store.read_frame(record, "lists")) == len(tested)
        if not of_day:
            assert ranks["user_id"].tolist() == names.tolist()
            continue
        lists += 1
        assert ranks["user_id"].tolist() == names[targets.places].tolist()
        assert ranks["target"].tolist() == targets.numbers.tolist()
        gain = np.where(ranks["rank_full"] <= 10, 1 / np.log2(1 + ranks["rank_full"]), 0)
        mean = pd.Series(gain).groupby(ranks["user_id"].to_numpy()).mean().mean()
        assert record.results["full"]["ndcg@10"] == pytest.approx(mean)
    assert lists == len(methods)


def test_groups_of_users_and_items_take_targets_of_a_day(tmp_path, tiny_llm, busy):
    pytest.importorskip("recbole", reason="CF features are SASRec's")
    arguments = of_busy(busy, "--llm", str(tiny_llm), "--out", str(tmp_path), "--test-targets", "day")
    arguments += ["--features", "cf", "--min-users", "1", "--max-steps", "1", "--methods", "title"]
    for experiment in (item_popularity, user_activity):
        assert run(experiment.main, prog=experiment.__name__, args=arguments) == 0
    store = Store(tmp_path)
    (record,) = store.records("accuracy")
    (described,) = store.records("target_popularity")
    ranks, targets = store.read_frame(record, "ranks"), store.read_frame(described, "targets")
    both = ranks.merge(targets, on=["user_id", "target"], validate="one_to_one")
    assert len(both) == len(ranks) > ranks["user_id"].nunique()
    gain = pd.Series(np.where(both["rank_sampled"] <= 5, 1.0, 0.0))
    popular = pd.read_csv(tmp_path / "tables" / "item_popularity.csv")
    rows = popular[popular["candidates"] == "sampled"].set_index("group")
    for group, own in gain.groupby(both["item_group"]):
        of_users = own.groupby(both["user_id"]).mean()
        assert rows.at[group, "users"] == len(of_users)
        assert rows.at[group, "hit@5"] == pytest.approx(of_users.mean(), abs=1e-6)
    active = pd.read_csv(tmp_path / "tables" / "user_activity.csv")
    sizes = active[active["candidates"] == "full"]["users"]
    assert sizes.sum() == ranks["user_id"].nunique() and sizes.max() - sizes.min() <= 1


def test_a_day_needs_the_split(tmp_path, capsys):
    arguments = ["--preset", "smoke", "--methods", "popularity", "--no-report", "--out", str(tmp_path)]
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--test-targets", "day"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "--test-targets" in line]
    assert "needs --split global-time" in line


def test_tokens_are_those_of_users_who_are_tested(tmp_path, tiny_llm):
    arguments = [name for name in SMALL if name not in ("--negatives", "20", "--features", "text")]
    arguments += ["--llm", str(tiny_llm), "--out", str(tmp_path), "--methods", "title"]
    assert run(token_cost.main, prog="bench.token_cost", args=arguments) == 0
