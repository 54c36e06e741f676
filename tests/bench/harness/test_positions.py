"""Histories that the LLM's positions cut are told of, once for each method, unless a budget was asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from noise_features import put_noise

from bench import comparison, efficiency, serving, token_cost, tune
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Record
from bench.store.store import Store
from bench.token_cost import shown_items
from illmrec.command_line import run
from illmrec.prompts.packing import PromptBuilder

POSITIONS = 512
SIZE = {"preset": "smoke", "users": 60, "items": 60, "min_interactions": 1, "negatives": 20}


@pytest.fixture
def short_llm(tiny_llm: Path, tmp_path: Path) -> Path:
    """The tiny LLM with so few positions that long items do not fit."""
    folder = shutil.copytree(tiny_llm, tmp_path / "short-llm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": POSITIONS}))
    return folder


@pytest.fixture
def arguments(short_llm: Path, tmp_path: Path) -> list[str]:
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SIZE.items()]
    where = ["--llm", str(short_llm), "--out", str(tmp_path / "out"), "--no-progress", "--no-report"]
    return [*sizes, *where]


def warned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [text for line in lines if "positions" in (text := line.partition(" WARNING ")[2])]


def accuracies(tmp_path: Path) -> dict[str, Record]:
    return {record.method: record for record in Store(tmp_path / "out").records("accuracy")}


def test_each_method_that_loses_items_is_named_once(arguments, tmp_path, capsys, monkeypatch):
    put_noise(monkeypatch)
    short = [*arguments, "--max-steps", "1", "--seeds", "0,1", "--features", "image,text"]
    command = [*short, "--methods", "illmrec,full-description"]
    assert run(comparison.main, prog="bench.comparison", args=command) == 0
    stored = accuracies(tmp_path)
    assert stored["illmrec"].results["prompt"]["dropped_items"] == 0
    dropped = [
        record.results["prompt"]["dropped_items"]
        for record in Store(tmp_path / "out").records("accuracy")
        if record.method == "full-description" and record.seed == 0
    ]
    expected = [
        f"full-description: {dropped[0]:.1f} of 10 items on average do not fit the LLM's {POSITIONS} positions; the "
        "oldest are dropped"
    ]
    assert dropped[0] > 1 and warned(capsys) == expected
    # What is found says it as well.
    assert run(comparison.main, prog="bench.comparison", args=command) == 0
    assert len(warned(capsys)) == 1
    asked = [*command, "--context", "300"]
    assert run(comparison.main, prog="bench.comparison", args=asked) == 0
    assert not warned(capsys), "a budget that was asked for is no surprise"


def test_a_search_says_what_is_cut_of_histories_in_validation(arguments, capsys, monkeypatch):
    pytest.importorskip("optuna", reason="searches")
    put_noise(monkeypatch)
    command = [*arguments, "--methods", "full-description", "--features", "text", "--trials", "1"]
    assert run(tune.main, prog="bench.tune", args=command) == 0
    (said,) = warned(capsys)
    assert (
        said.startswith("full-description: ")
        and f"of 10 items on average do not fit the LLM's {POSITIONS}" in said
    )


@pytest.mark.parametrize(
    ("experiment", "options"), [(efficiency, ["--batch-users", "1"]), (serving, ["--sessions", "1"])]
)
def test_timed_prompts_that_are_cut_are_told_of(experiment, options, arguments, capsys, monkeypatch):
    put_noise(monkeypatch)
    timing = ["--group-users", "2", "--repeats", "1", "--lengths", "10", *options]
    command = [*arguments, *timing, "--methods", "full-description,illmrec"]
    assert run(experiment.main, prog="bench", args=command) == 0
    (said,) = warned(capsys)
    assert said.startswith("full-description: ") and f"the LLM's {POSITIONS} positions" in said


def test_counted_prompts_beyond_the_positions_are_told_of(arguments, short_llm, capsys):
    for _ in range(2):  # counted, and found counted
        command = [*arguments, "--methods", "illmrec,full-description"]
        assert run(token_cost.main, prog="bench.token_cost", args=command) == 0
        (said,) = warned(capsys)
    workspace = Workspace(Settings(**SIZE, llm=str(short_llm)).resolved())
    prompts = PromptBuilder(
        items=shown_items(workspace, "baselines.text_prompts:FullDescription"),
        tokenizer=workspace.backbone.tokenizer,
    )
    users = workspace.split.users("test")
    fitted = [prompts.fit(workspace.split.history(int(user), "test")[-10:]) for user in users]
    tokens = np.asarray(prompts.token_counts(fitted))
    assert said.startswith(
        f"full-description: {(tokens > POSITIONS).sum()} of {len(users)} prompts, of up to {tokens.max():,} tokens, "
        f"exceed the LLM's {POSITIONS} positions"
    )
