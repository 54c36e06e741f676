"""Frames of sweeps over trained models and of accuracy by groups: brute force on handmade ranks."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.frames import context_budget as context_frames
from bench.frames import item_popularity as item_frames
from bench.frames import sequence_length as length_frames
from bench.frames import token_cost as token_frames
from bench.frames import unseen_items as unseen_frames
from bench.frames import user_activity as activity_frames
from bench.frames.groups import FEATURE_SETS, equal_groups
from bench.protocol.metrics import summarise
from bench.store.cell import Cell, Record
from bench.store.store import Store

LLM = {"name": "smollm2-135m", "layers": 2, "dtype": "bfloat16"}
ALL = ("image", "cf", "text")
USERS = [f"u{number}" for number in range(23)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def made_ranks(seed: int, users: list[str] = USERS) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "user_id": users,
            "history_length": generator.integers(3, 12, len(users)).astype(np.int32),
            "rank_sampled": generator.integers(1, 40, len(users)).astype(np.int32),
            "rank_full": generator.integers(1, 90, len(users)).astype(np.int32),
        }
    )


def write_accuracy(
    store: Store, ranks: pd.DataFrame, *, method="illmrec", features=ALL, risa=True, seed=0, version=2,
    variant=None, llm=LLM, epochs=3, **limits,
) -> Record:  # fmt: skip
    """Store an accuracy cell as bench.harness.accuracy does."""
    config = {
        "method": method,
        "seed": seed,
        "dataset": {"name": "toys", "fingerprint": "f1"} | ({"variant": variant} if variant else {}),
        "evaluation": {"users": None, "negatives": 100, "part": "test", **limits},
        "representation": f"package:{method}",
        "llm": llm,
        "risa": risa,
        "features": list(features),
        "history_length": 10,
        "context": None,
        "training": {"epochs": epochs},
    } | ({"cf": {"epochs": 2}} if "cf" in features else {})
    cell = Cell(experiment="accuracy", version=version, config=config, method=method, seed=seed, dataset={})
    results = {
        "users": len(ranks),
        "sampled": summarise(ranks["rank_sampled"]),
        "full": summarise(ranks["rank_full"]),
        "prompt": {"tokens": 100.5, "dropped_items": 0.25, "dropped_tokens": 7.5},
    }
    return store.write(cell, results, {"ranks": ranks}, seconds=1)


def write_targets(store: Store, frequencies: np.ndarray, targets: np.ndarray) -> Record:
    """Store the popularity of test items: how often each item occurs, and every user's test item."""
    items = equal_groups(frequencies)
    found = pd.DataFrame({"group": items, "frequency": frequencies}).groupby("group")["frequency"]
    cell = Cell(
        experiment="target_popularity",
        version=1,
        config={"method": "popularity", "seed": 0, "dataset": {"name": "toys", "fingerprint": "f1"}},
        method="popularity",
        seed=0,
        dataset={},
    )
    users = {"user_id": USERS, "target_frequency": frequencies[targets], "item_group": items[targets]}
    groups = found.agg(items="size", lowest="min", highest="max").reset_index()
    # The other way round: users must be found by name, not by position.
    return store.write(cell, {}, {"targets": pd.DataFrame(users)[::-1], "groups": groups}, seconds=1)


def ndcg(rank: int, cutoff: int) -> float:
    return 1 / math.log2(1 + rank) if rank <= cutoff else 0.0


def by_hand(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, spread / math.sqrt(len(values))


@pytest.mark.parametrize("size", [5, 7, 23, 100])
def test_equal_groups_are_fifths_of_the_sorted_values(size):
    values = np.random.default_rng(size).integers(0, 9, size)
    found = equal_groups(values)
    in_order = sorted(range(size), key=lambda place: (values[place], place))
    for position, place in enumerate(in_order):
        assert found[place] == 1 + position * 5 // size
    counts = np.bincount(found, minlength=6)[1:]
    assert counts.sum() == size and counts.max() - counts.min() <= 1


def test_item_groups_agree_with_brute_force(store):
    generator = np.random.default_rng(3)
    frequencies, targets = generator.integers(0, 30, 17), generator.integers(0, 17, len(USERS))
    write_targets(store, frequencies, targets)
    for number, features in enumerate(FEATURE_SETS.values()):
        write_accuracy(store, made_ranks(number), features=features)
    table = item_frames.frame(store.records(), store)
    assert tuple(table.columns) == item_frames.COLUMNS
    assert table["features"].drop_duplicates().tolist() == list(FEATURE_SETS)
    ordered = sorted(range(17), key=lambda item: (frequencies[item], item))
    checked = 0
    for number, name in enumerate(FEATURE_SETS):
        ranks = made_ranks(number)
        for group in range(1, 6):
            members = [item for place, item in enumerate(ordered) if 1 + place * 5 // 17 == group]
            users = [user for user in range(len(USERS)) if targets[user] in members]
            rows = table[(table["features"] == name) & (table["group"] == group)].set_index("candidates")
            assert len(rows) == (2 if users else 0)
            for kind in ("sampled", "full") if len(users) > 1 else ():
                mean, error = by_hand([ndcg(int(ranks[f"rank_{kind}"][user]), 10) for user in users])
                row = rows.loc[kind]
                assert row["users"] == len(users) and row["items"] == len(members)
                assert row["ndcg@10"] == pytest.approx(mean)
                assert row["stderr_ndcg@10"] == pytest.approx(error)
                assert row["lowest"] == min(frequencies[members])
                assert row["highest"] == max(frequencies[members])
                checked += 1
    assert checked > 20


def test_user_groups_agree_with_brute_force(store):
    ranks = made_ranks(4)
    write_accuracy(store, ranks, features=("image",))
    table = activity_frames.frame(store.records(), store)
    ordered = sorted(range(len(USERS)), key=lambda user: (ranks["history_length"][user], user))
    for group in range(1, 6):
        users = [user for place, user in enumerate(ordered) if 1 + place * 5 // len(USERS) == group]
        row = table.query("group == @group and candidates == 'full'").iloc[0]
        mean, error = by_hand([float(ranks["rank_full"][user] <= 20) for user in users])
        assert row["users"] == len(users)
        assert (row["hit@20"], row["stderr_hit@20"]) == pytest.approx((mean, error))
        lengths = [ranks["history_length"][user] for user in users]
        assert (row["shortest"], row["longest"]) == (min(lengths), max(lengths))
    assert table["users"].sum() == 2 * len(USERS)


def test_unseen_items_are_those_without_an_interaction_in_training(store):
    frequencies = np.array([0, 4, 1, 0, 9])
    targets = np.arange(len(USERS)) % 5
    write_targets(store, frequencies, targets)
    ranks = made_ranks(5)
    write_accuracy(store, ranks, features=("image",))
    table = unseen_frames.frame(store.records(), store).query("candidates == 'sampled'").set_index("group")
    unseen = [user for user in range(len(USERS)) if targets[user] in (0, 3)]
    assert table["users"].to_dict() == {"seen": len(USERS) - len(unseen), "unseen": len(unseen)}
    hits = [float(ranks["rank_sampled"][user] <= 5) for user in unseen]
    assert table.loc["unseen", "hit@5"] == pytest.approx(sum(hits) / len(hits))


def test_groups_take_no_cell_of_another_experiment(store):
    own = write_accuracy(store, made_ranks(0), features=("image",))
    write_accuracy(store, made_ranks(1), features=("cf",))
    expected = activity_frames.frame(store.records(), store)
    write_accuracy(store, made_ranks(2), features=("image",), risa=False)
    write_accuracy(store, made_ranks(2), features=("text",))
    write_accuracy(store, made_ranks(2), features=("image",), context=256)
    write_accuracy(store, made_ranks(2), features=("image",), history_length=5)
    write_accuracy(store, made_ranks(2), features=("image",), variant={"kind": "missing", "share": 0.5})
    write_accuracy(store, made_ranks(2), features=("image",), version=1)
    other = write_accuracy(store, made_ranks(2), features=("image",), method="tallrec")
    # The comparison, trained for longer, holds one feature set: not a sweep.
    write_accuracy(store, made_ranks(2), features=ALL, epochs=9)
    records = store.records()
    assert len(records) == 10 and own.key in {record.key for record in records}
    table = activity_frames.frame(records, store)
    ours = table[table["method"] == "illmrec"]
    pd.testing.assert_frame_equal(ours, expected)
    alone = activity_frames.frame([other], store)
    pd.testing.assert_frame_equal(table.drop(index=ours.index).reset_index(drop=True), alone)
    assert (alone["method"] == "tallrec").all() and len(alone) == len(expected) / 2
    assert item_frames.frame(records, store).empty, "no popularity is stored"


def test_context_budgets_are_the_cells_with_a_budget(store):
    for context in (256, 512):
        write_accuracy(store, made_ranks(context), context=context)
    write_accuracy(store, made_ranks(0))
    write_accuracy(store, made_ranks(0), history_length=5)
    write_accuracy(store, made_ranks(0), history_length=5, context=256)
    write_accuracy(store, made_ranks(0), features=("image",), context=256)
    table = context_frames.frame(store.records(), store)
    assert tuple(table.columns) == context_frames.COLUMNS
    assert sorted(table["context"]) == [256, 256, 512, 512]
    row = table.query("context == 512 and candidates == 'full'").iloc[0]
    expected = [ndcg(int(rank), 5) for rank in made_ranks(512)["rank_full"]]
    assert (row["ndcg@5"], row["stderr_ndcg@5"]) == pytest.approx(by_hand(expected))
    assert (row["prompt_tokens"], row["dropped_items"], row["dropped_tokens"]) == (100.5, 0.25, 7.5)
    assert row["llm"] == "smollm2-135m (2 layers)"


def write_cost(
    store: Store,
    method: str,
    length: int,
    latency: float,
    *,
    llm: object = LLM,
    context: int | None = None,
    experiment: str = "efficiency",
    **options: object,
) -> None:
    """Store a cell with costs as bench.efficiency and bench.context_budget do."""
    config = {
        "method": method, "seed": 0, "dataset": {"name": "toys", "fingerprint": "f1"}, "llm": llm,
        "device": "cpu", "machine": {"cpu": "x"}, "history_length": length, "context": context,
        **options,
    }  # fmt: skip
    cell = Cell(experiment=experiment, version=1, config=config, method=method, seed=0, dataset={})
    costs = {
        "prompt_tokens": 10.0 * length,
        "latency_ms_median": latency,
        "latency_ms_low": latency,
        "latency_ms_high": latency,
        "latency_ms_p95_users": latency,
        "session": "s",
    }
    store.write(cell, costs, seconds=1)


def test_latency_within_a_budget_is_that_of_the_same_llm_and_history(store):
    for context in (256, 512):
        write_accuracy(store, made_ranks(context), context=context)
    own = {"experiment": "context_budget", "max_items": 10}
    write_cost(store, "illmrec", 10, 40.0, context=256, **own)
    write_cost(store, "illmrec", 7, 25.0, context=512, **own)  # no history is longer
    write_cost(store, "tallrec", 10, 99.0, context=256, **own)
    write_cost(store, "illmrec", 10, 99.0, context=256, llm={**LLM, "layers": 30}, **own)
    write_cost(store, "illmrec", 20, 99.0, context=256, experiment="context_budget", max_items=20)
    write_cost(store, "illmrec", 10, 99.0, context=256)
    table = context_frames.frame(store.records(), store).query("candidates == 'sampled'").set_index("context")
    assert table["latency_ms_median"].to_dict() == {256: 40.0, 512: 25.0}
    assert table["latency_ms_p95_users"].to_dict() == {256: 40.0, 512: 25.0}


def test_every_length_is_evaluated_on_users_with_the_longest_history(store):
    ranks = {None: made_ranks(1), 2: made_ranks(2), 5: made_ranks(3)}
    for length, frame in ranks.items():
        frame["history_length"] = ranks[None]["history_length"]
        write_accuracy(store, frame, **({} if length is None else {"history_length": length}))
    write_accuracy(store, made_ranks(9), context=256)
    write_cost(store, "illmrec", 5, 12.5)
    write_cost(store, "illmrec", 2, 99.0, llm={**LLM, "layers": 30})
    write_cost(store, "illmrec", 2, 99.0, context=128)
    table = length_frames.frame(store.records(), store)
    table = table.query("candidates == 'sampled'").set_index("history_length")
    assert sorted(table.index) == [2, 5, 10]
    long = ranks[None]["history_length"] >= 10
    assert 0 < long.sum() < len(USERS) and (table["users"] == long.sum()).all()
    expected = [ndcg(int(rank), 10) for rank in ranks[5]["rank_sampled"][long]]
    assert table.loc[5, "ndcg@10"] == pytest.approx(sum(expected) / len(expected))
    assert table.loc[5, "latency_ms_median"] == 12.5 and table.loc[5, "prompt_tokens"] == 50
    assert table.loc[[2, 10], "latency_ms_median"].isna().all()


def test_a_single_length_is_no_sweep(store):
    write_accuracy(store, made_ranks(1))
    write_accuracy(store, made_ranks(1), method="tallrec")
    assert length_frames.frame(store.records(), store).empty


def test_crossing_is_where_the_lines_meet_for_the_last_time():
    cost = pd.Series({2: 10.0, 6: 12.0, 10: 14.0})
    other = pd.Series({2: 4.0, 6: 11.0, 10: 18.0, 20: 40.0})
    assert length_frames.crossing(cost, other) == pytest.approx(6 + 4 * 1 / 5)
    assert length_frames.crossing(other, cost) is None
    assert length_frames.crossing(cost, cost + 1) == 2
    assert length_frames.crossing(cost, pd.Series({3: 1.0})) is None


def test_distribution_agrees_with_sorted_values():
    tokens = np.arange(101)[::-1] * 3
    found = token_frames.distribution(tokens)
    assert found == {"mean": 150, "p5": 15, "p25": 75, "median": 150, "p75": 225, "p95": 285, "max": 300}


def test_frames_load_no_torch():
    names = ", ".join(
        f"bench.frames.{path.stem}" for path in Path(token_frames.__file__).parent.glob("[a-z]*.py")
    )
    code = (
        f"import sys, {names}; print([m for m in ('torch', 'transformers', 'baselines') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_methods_scored_by_tokens_stand_beside_the_others_that_are_trained_alike(store: Store):
    def frame() -> pd.DataFrame:
        return context_frames.frame(store.records("accuracy"), store)

    for context in (128, 256):
        write_accuracy(store, made_ranks(0), method="illmrec", context=context)
        write_accuracy(store, made_ranks(1), method="unimp", features=("item-token",), context=context)
        write_accuracy(store, made_ranks(2), method="tallrec", context=context)
    assert set(frame()["method"]) == {"illmrec", "tallrec", "unimp"} and len(frame()) == 12
    for context in (128, 256):  # the newest, and trained otherwise
        write_accuracy(
            store, made_ranks(1), method="e4srec", features=("item-token",), context=context, epochs=9
        )
    assert set(frame()["method"]) == {"e4srec"}
