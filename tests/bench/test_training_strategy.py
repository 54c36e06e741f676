"""Tables 3 and 10: the cells of the strategies, their frame, and the command as a user runs it."""

from __future__ import annotations

import importlib.util
import math

import pandas as pd
import pytest

from bench import training_strategy
from bench.frames.training_strategy import COLUMNS, KIND, PAPER, STRATEGIES, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.settings import Settings
from bench.harness.training import model_folder
from bench.harness.workspace import Workspace
from bench.protocol.metrics import summarise
from bench.store.cell import Cell, Record
from bench.store.results import published
from bench.store.store import Store
from bench.training_strategy import planned, strategy_options
from illmrec.command_line import run
from reports.sections.results import read_sections

SMOKE_TRAINING = {
    **{"risa": True, "targets": "all", "loss": "ce", "epochs": 1, "max_steps": 4, "batch_size": 8},
    **{"learning_rate": 1e-3, "schedule": "cosine", "answer_tokens": 12, "validation_users": 32},
    "token_budget": 4096,
}
"""What enters keys of a preset whose learning rate has a planned end."""

TRAINED = {
    "frozen": (900, 10.0),
    "lora": (1200, 20.0),
    "end-to-end": (9000, 40.0),
    "two-stage": (900, 5.0),
    "cached": (900, 2.0),
}


@pytest.fixture
def workspace(tiny_llm) -> Workspace:
    pytest.importorskip("recbole", reason="cells of illmrec name the options of its CF features")
    settings = Settings(preset="smoke", users=40, items=40, min_interactions=1, llm=str(tiny_llm), layers=2)
    return Workspace(settings.resolved())


def options_of(workspace: Workspace, strategy: str, **changes):
    given = {"lora_rank": 8, "lora_alpha": 16, "llm_learning_rate": None, **changes}
    return strategy_options(workspace.settings.training(), strategy=strategy, **given)


def test_cells_of_the_frozen_llm_are_found_again(workspace):
    plain = accuracy_cell(workspace, "illmrec", seed=0)
    assert plain.config["training"] == SMOKE_TRAINING
    assert "variant" not in plain.config["dataset"]
    ((place, training),) = planned(workspace, [options_of(workspace, "frozen", lora_rank=2)])
    assert accuracy_cell(place, "illmrec", seed=0, training=training).key == plain.key


def test_other_strategies_have_cells_and_models_of_their_own(workspace, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", object())
    options = [options_of(workspace, name) for name in STRATEGIES]
    options.append(options_of(workspace, "lora", lora_rank=2))
    cells = [accuracy_cell(p, "illmrec", seed=0, training=t) for p, t in planned(workspace, options)]
    assert len({cell.key for cell in cells}) == 7
    for cell, name in zip(cells[1:5], STRATEGIES[1:5], strict=True):
        variant = {"kind": KIND, "of": workspace.dataset.fingerprint, "strategy": name}
        assert cell.config["dataset"]["variant"] == variant
        assert cell.config["training"] == {**SMOKE_TRAINING, "strategy": name}
    assert cells[5].config["training"]["cached"]["warm_up"] == 0
    assert cells[6].config["training"]["lora_rank"] == 2


def write(store: Store, strategy: str, *, seed=0, ranks=(1, 4, 30), variant=True, **training) -> Record:
    """Store an accuracy cell as bench.harness.accuracy does."""
    parameters, seconds = TRAINED[strategy]
    dataset = {"name": "toys", "fingerprint": "f1"}
    if strategy != "frozen":
        training["strategy"] = strategy
        dataset["variant"] = {"kind": KIND, "of": "f1", "strategy": strategy}
    config = {
        "method": "illmrec",
        "seed": seed,
        "dataset": dataset,
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        "llm": {"name": "smollm2-135m", "layers": 2, "dtype": "bfloat16"},
        "risa": True,
        "features": ["image", "cf", "text"],
        "training": {"epochs": 3, **training},
    }
    cell = Cell(experiment="accuracy", version=2, config=config, method="illmrec", seed=seed, dataset={})
    results = {
        "users": len(ranks),
        "sampled": summarise(list(ranks)),
        "full": summarise([2 * rank for rank in ranks]),
        "training": {"parameters": parameters, "seconds": seconds, "targets": 600, "epochs": 3},
    }
    return store.write(cell, results, {}, seconds=1)


def test_frame_has_one_row_per_strategy_seed_and_candidates(tmp_path):
    store = Store(tmp_path)
    write(store, "frozen", epochs=9)  # of another training: compares with nothing
    for seed in (0, 1):
        write(store, "frozen", seed=seed)
        write(store, "end-to-end", seed=seed, ranks=(2, 2, 11))
    write(store, "lora", lora_rank=2)
    write(store, "lora", ranks=(7, 8, 9), llm_learning_rate=1e-4)
    write(store, "two-stage")
    table = frame(store.records(), store)
    assert tuple(table.columns) == COLUMNS
    sampled = table[table["candidates"] == "sampled"]
    assert sampled["strategy"].tolist() == [
        "frozen",
        "frozen",
        "lora",
        "end-to-end",
        "end-to-end",
        "two-stage",
    ]
    assert len(table) == 2 * len(sampled)
    row = sampled[sampled["strategy"] == "end-to-end"].iloc[0]
    assert row["targets_per_second"] == 15 and row["trainable_parameters"] == 9000
    assert row["ndcg@10"] == pytest.approx(2 / math.log2(3) / 3)
    lora = sampled[sampled["strategy"] == "lora"].iloc[0]
    assert lora["mrr"] == pytest.approx((1 / 7 + 1 / 8 + 1 / 9) / 3)  # the newest
    sections = read_sections(store.records())
    assert [len(section.accuracy) for section in sections] == [1]
    assert {record.config["training"].get("strategy") for record in sections[0].accuracy[0].records} == {None}


def test_a_store_without_strategies_has_no_rows(tmp_path):
    store = Store(tmp_path)
    write(store, "frozen")
    assert frame(store.records(), store).empty and frame([], store).empty


def test_rows_of_the_paper_are_those_that_are_published():
    for name in ("table3", "table10"):
        rows = {paper[name] for paper in PAPER.values() if name in paper}
        assert rows == set(published(f"training_strategy_{name}")["strategy"])
    assert tuple(PAPER) == STRATEGIES


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--strategies", "whole"], "--strategies"),
        (["--strategies", ""], "--strategies"),
        (["--strategies", "frozen,lora", "--lora-rank", "0"], "--lora-rank 0"),
        (["--strategies", "end-to-end", "--llm-learning-rate", "-1"], "--llm-learning-rate -1"),
    ],
)
def test_bad_input_is_one_line_before_any_training(arguments, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", object())
    common = ["--preset", "smoke", "--out", str(tmp_path / "out"), "--no-report", "--no-progress"]
    assert run(training_strategy.main, prog="training_strategy", args=[*common, *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and expected in error[0]
    assert not list(tmp_path.rglob("cell.json"))


def test_lora_without_peft_names_the_remedy(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    arguments = ["--preset", "smoke", "--out", str(tmp_path / "out"), "--strategies", "lora"]
    assert run(training_strategy.main, prog="training_strategy", args=arguments) == 2
    assert "pip install peft" in capsys.readouterr().err


@pytest.mark.parametrize("installed", [True, False])
def test_left_open_all_strategies_run_that_can(installed, monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if installed else None)
    names = training_strategy.possible_strategies()
    left_out = {"embeddings"} if installed else {"embeddings", "lora"}
    assert names == tuple(name for name in STRATEGIES if name not in left_out)
    assert ("lora is left out" in caplog.text) != installed


@pytest.mark.slow
def test_every_strategy_trains_and_a_stored_model_recommends(tmp_path, tiny_llm, tiny_encoders):
    pytest.importorskip("recbole", reason="illmrec needs CF features")
    from illmrec.recommender import Recommender

    names = [name for name in STRATEGIES if name != "lora" or importlib.util.find_spec("peft")]
    arguments = [
        *("--preset", "smoke", "--users", "60", "--min-interactions", "1"),
        *("--max-steps", "2"),
        *("--llm", str(tiny_llm), *tiny_encoders, "--layers", "2", "--strategies", ",".join(names)),
        *("--no-progress", "--no-report", "--out", str(tmp_path)),
    ]
    assert run(training_strategy.main, prog="training_strategy", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "training_strategy.csv")
    sampled = table[table["candidates"] == "sampled"].set_index("strategy")
    assert sampled.index.tolist() == names and (sampled["training_seconds"] > 0).all()
    parameters = sampled["trainable_parameters"]
    assert parameters["frozen"] == parameters["two-stage"] < parameters["embeddings"]
    assert parameters["embeddings"] < parameters["end-to-end"]
    cells = {path: path.stat().st_mtime for path in tmp_path.rglob("cell.json")}
    assert len(cells) == len(names)
    assert run(training_strategy.main, prog="training_strategy", args=arguments) == 0
    assert {path: path.stat().st_mtime for path in tmp_path.rglob("cell.json")} == cells
    store = Store(tmp_path)
    for record in store.records("accuracy"):
        recommender = Recommender.load(model_folder(store, record))
        ranks = store.read_frame(record, "ranks")
        model = recommender.model
        user = str(ranks["user_id"].iloc[0])
        row = recommender.dataset.user_ids.tolist().index(user)
        sequence = recommender.dataset.sequence(row)
        scores = model.score([sequence[:-1]])[0]
        scores[sequence[:-1]] = -math.inf
        assert ranks["rank_full"].iloc[0] == (scores >= scores[sequence[-1]]).sum()
