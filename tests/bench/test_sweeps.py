"""Sweeps over trained models, and accuracy by groups, as a user runs them: one store for all."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bench import (
    context_budget,
    efficiency,
    item_popularity,
    sequence_length,
    token_cost,
    unseen_items,
    user_activity,
)
from bench.frames import context_budget as context_frames
from bench.frames import item_popularity as item_frames
from bench.frames import sequence_length as length_frames
from bench.frames import token_cost as token_frames
from bench.frames import unseen_items as unseen_frames
from bench.frames import user_activity as activity_frames
from bench.store.store import Store
from illmrec.command_line import run


@pytest.mark.parametrize(
    ("program", "arguments", "expected"),
    [
        (context_budget, ["--contexts", "256,4096"], "reads at most 2048 tokens"),
        (context_budget, ["--contexts", "9"], "--context 9"),
        (context_budget, ["--contexts", ""], "--contexts"),
        (context_budget, ["--context", "512"], "give --contexts instead"),
        (context_budget, ["--methods", "sasrec"], "--methods sasrec"),
        (context_budget, ["--repeats", "0"], "--repeats"),
        (sequence_length, ["--lengths", "5"], "two lengths or more"),
        (sequence_length, ["--lengths", "2,500"], "--lengths 500: 0 evaluated users"),
        (sequence_length, ["--methods", "popularity"], "--methods popularity"),
        (sequence_length, ["--batch-users", "0"], "--batch-users"),
        (item_popularity, ["--features", "image+text"], "unknown feature set"),
        (item_popularity, ["--min-users", "27"], "is the test item's for 10 users and 27 are needed"),
        (user_activity, ["--eval-users", "49"], "49 users are evaluated and 5 groups of 10"),
        (user_activity, ["--min-users", "0"], "--min-users 0"),
        (unseen_items, [], "0 evaluated users have a test item that is not in training and 10 are needed"),
        (token_cost, ["--methods", "gru4rec"], "--methods gru4rec"),
        (token_cost, ["--context", "9"], "--context 9"),
    ],
)
def test_bad_input_is_one_line_before_any_training(program, arguments, expected, tmp_path, capsys, tiny_llm):
    name = program.__name__
    common = ["--preset", "smoke", "--layers", "2", "--llm", str(tiny_llm), "--out", str(tmp_path / "out")]
    assert run(program.main, prog=name, args=[*common, "--no-report", "--no-progress", *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and expected in error[0]
    assert not list((tmp_path / "out").rglob("cell.json"))


def test_token_cost_counts_what_the_tokenizer_gives(tmp_path, tiny_llm):
    from transformers import AutoTokenizer

    arguments = ["--preset", "smoke", "--llm", str(tiny_llm), "--layers", "2", "--out", str(tmp_path)]
    arguments += ["--methods", "title,tallrec,illmrec", "--no-report", "--no-progress"]
    assert run(token_cost.main, prog="bench.token_cost", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "token_cost.csv")
    assert tuple(table.columns) == token_frames.COLUMNS and len(table) == 6
    items = table[table["unit"] == "item"].set_index("method")
    assert items.loc["title", "mean"] < items.loc["illmrec", "mean"] < items.loc["tallrec", "mean"]
    store = Store(tmp_path)
    record = next(record for record in store.records("token_cost") if record.method == "title")
    counted = store.read_frame(record, "items").set_index("item_id")["tokens"]

    from baselines.text_prompts import TitleOnly
    from illmrec.data import load_dataset

    dataset = load_dataset(name="toyshop", users=150, items=160)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    for _, item in dataset.items.iloc[::40].iterrows():
        text = "".join(segment.text for segment in TitleOnly().render(item, frozenset()))
        assert counted[item["item_id"]] == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    before = stored(tmp_path)
    assert run(token_cost.main, prog="bench.token_cost", args=arguments) == 0
    assert stored(tmp_path) == before


def stored(out: Path) -> dict[str, float]:
    return {
        str(path): path.stat().st_mtime for path in sorted((out / "store").rglob("*.*")) if path.is_file()
    }


SMALL = [
    *("--preset", "smoke", "--users", "60", "--items", "400", "--min-interactions", "1", "--max-steps", "2"),
    *("--validation-users", "0", "--no-progress", "--no-report"),
]
EXPERIMENTS = {
    item_popularity: ["--features", "image,image+cf+text", "--min-users", "1"],
    user_activity: ["--features", "image,image+cf+text"],
    unseen_items: ["--features", "image,image+cf+text", "--min-users", "9"],
    context_budget: [
        "--methods",
        "illmrec",
        "--contexts",
        "256,2048",
        "--group-users",
        "2",
        "--repeats",
        "1",
    ],
    efficiency: ["--methods", "illmrec", "--lengths", "2,10", "--repeats", "1"],
    sequence_length: ["--methods", "illmrec", "--lengths", "2,10", "--repeats", "1"],
}


def run_all(out: Path, llm: Path, encoders: list[str]) -> None:
    given = [*SMALL, "--llm", str(llm), *encoders, "--out", str(out)]
    for program, arguments in EXPERIMENTS.items():
        assert run(program.main, prog=program.__name__, args=[*given, *arguments]) == 0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llm: Path, tiny_encoders: list[str]) -> Path:
    """A store with all sweeps on two feature sets."""
    pytest.importorskip("recbole", reason="the feature set with cf needs CF features")
    out = tmp_path_factory.mktemp("sweeps")
    run_all(out, tiny_llm, tiny_encoders)
    return out


@pytest.mark.slow
def test_two_models_serve_all_sweeps_and_a_second_run_computes_nothing(finished, tiny_llm, tiny_encoders):
    models = [path for path in (finished / "store" / "artifacts" / "model").iterdir() if path.is_dir()]
    assert len(models) == 2
    before = stored(finished)
    run_all(finished, tiny_llm, tiny_encoders)
    assert stored(finished) == before


@pytest.mark.slow
def test_frames_over_the_whole_store_are_the_tables_of_the_commands(finished):
    store = Store(finished)
    records = store.records()
    frames = {
        "item_popularity": item_frames,
        "user_activity": activity_frames,
        "unseen_items": unseen_frames,
        "context_budget": context_frames,
        "sequence_length": length_frames,
    }
    for name, module in frames.items():
        written = pd.read_csv(finished / "tables" / f"{name}.csv")
        columns = list(module.COLUMNS)
        keys = [column for column in columns[: columns.index("users")] if column != "candidates"]
        built = module.frame(records, store)
        assert not written.empty and written.columns.tolist() == columns
        order = [*keys, "candidates"]
        pd.testing.assert_frame_equal(
            built.sort_values(order, ignore_index=True),
            written.sort_values(order, ignore_index=True),
            check_dtype=False,
            rtol=1e-4,
        )


@pytest.mark.slow
def test_groups_and_budgets_hold_what_was_evaluated(finished):
    tables = {
        name: pd.read_csv(finished / "tables" / f"{name}.csv") for name in ("item_popularity", "unseen_items")
    }
    for table in tables.values():
        users = table.groupby(["features", "candidates"])["users"].sum()
        assert users.nunique() == 1
    unseen = tables["unseen_items"].query("group == 'unseen'")
    assert (unseen["users"] == 9).all()
    budgets = (
        pd.read_csv(finished / "tables" / "context_budget.csv")
        .drop_duplicates("context")
        .set_index("context")
    )
    assert budgets.loc[256, "dropped_items"] > 0 == budgets.loc[2048, "dropped_items"]
    assert budgets.loc[256, "prompt_tokens"] <= 256 < budgets.loc[2048, "prompt_tokens"]
    assert (budgets["latency_ms_median"] > 0).all()
    costs = Store(finished).records("context_budget")
    read = {record.config["context"]: record.results["prompt_tokens"] for record in costs}
    assert read[256] <= 256 < read[2048] and all(record.results["users"] == 2 for record in costs)
    lengths = pd.read_csv(finished / "tables" / "sequence_length.csv")
    assert lengths["latency_ms_median"].gt(0).all() and lengths["users"].nunique() == 1
    groups = pd.read_csv(finished / "tables" / "user_activity.csv")
    whole = groups.query("features == 'image' and candidates == 'full'")
    assert whole["group"].tolist() == [1, 2, 3, 4, 5] and whole["users"].sum() == budgets["users"].iloc[0]


def test_a_sweep_that_is_flat_by_construction_says_so(caplog):
    table = pd.DataFrame({"context": [256, 4096], "dropped_items": [0.0, 0.0], "dropped_tokens": 0.0})
    context_budget.warn_if_flat(table, length=10)
    sequence_length.warn_if_longer([2, 5, 20], trained=10)
    assert "histories of --history-length 10 items fit into 256 tokens" in caplog.text
    assert "trained on the last 10 items and evaluated on up to 20" in caplog.text
    caplog.clear()
    context_budget.warn_if_flat(table.assign(dropped_items=[0.5, 0.0]), length=10)
    sequence_length.warn_if_longer([2, 10], trained=10)
    assert not caplog.text
