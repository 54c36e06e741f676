"""The method mllm as a user runs it: beside one image token on the same LLM, left out where that reads no pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from vision_language_models import TOKENS, save_vision_language_model
from vision_models import save_model

from bench import comparison, token_cost
from bench.harness.accuracy import accuracy_cell
from bench.harness.settings import Settings
from bench.harness.timing import Timing, efficiency_cell, user_groups
from bench.harness.workspace import Workspace
from bench.store.store import Store
from bench.suite.probe import _reading_seconds
from illmrec.command_line import run
from illmrec.recommender import Recommender


@pytest.fixture(scope="module")
def folder(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vision_language_model(tmp_path_factory.mktemp("mllm") / "smolvlm", "smolvlm", tiny_llm)


def arguments(tmp_path: Path, llm: str) -> list[str]:
    clip = tmp_path / "clip"
    return [
        *("--preset", "smoke", "--max-steps", "2", "--batch-size", "4", "--validation-users", "0"),
        *("--users", "12", "--items", "50", "--min-interactions", "1", "--negatives", "9"),
        *("--llm", llm, "--layers", "2", "--history-length", "3", "--no-progress", "--no-report"),
        *(
            "--vision",
            str(clip if clip.is_dir() else save_model(clip, "clip")),
            "--out",
            str(tmp_path / "out"),
        ),
    ]


@pytest.mark.slow
def test_it_runs_beside_one_image_token_and_is_served(folder, tmp_path):
    common = arguments(tmp_path, f"mllm:{folder}")
    methods = ["--methods", "mllm,illmrec,title"]
    assert run(comparison.main, prog="bench.comparison", args=[*common, *methods, "--features", "image"]) == 0
    store = Store(tmp_path / "out")
    found = {record.method: record for record in store.records("accuracy")}
    assert set(found) == {"mllm", "illmrec", "title"}
    assert found["mllm"].config["llm"] == found["illmrec"].config["llm"]
    tokens = {method: record.results["prompt"]["tokens"] for method, record in found.items()}
    assert tokens["mllm"] - tokens["illmrec"] == pytest.approx(3 * (TOKENS["smolvlm"] - 1))
    assert "no adaptor" in found["mllm"].results["training"]["risa_left_out"]
    assert "risa_left_out" not in found["illmrec"].results["training"]

    assert run(token_cost.main, prog="bench.token_cost", args=[*common, *methods]) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "token_cost.csv")
    means = table[table["unit"] == "item"].set_index("method")["mean"]
    assert means["mllm"] - means["illmrec"] == pytest.approx(TOKENS["smolvlm"] - 1)

    saved = next(
        path.parent
        for path in (tmp_path / "out" / "store").rglob("model.json")
        if "MLLMPictures" in path.read_text()
    )
    loaded = Recommender.load(saved)
    scores = loaded.score([np.array([1, 2])])
    assert scores.shape == (1, loaded.dataset.n_items) and np.isfinite(scores).all()


def test_without_a_vision_language_model_it_is_left_out_and_named(tiny_llm, tmp_path, capsys):
    common = arguments(tmp_path, str(tiny_llm))
    methods = ["--methods", "mllm,title", "--features", "image"]
    assert run(comparison.main, prog="bench.comparison", args=[*common, *methods]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line and "mllm" in line]
    assert len(said) == 1 and "--llm mllm:NAME" in said[0]
    assert {record.method for record in Store(tmp_path / "out").records("accuracy")} == {"title"}
    assert run(token_cost.main, prog="bench.token_cost", args=[*common, "--methods", "mllm"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "the LLM itself reads the pictures" in error


def test_another_vision_side_is_another_cell_and_other_methods_are_the_same(tiny_llm, folder, tmp_path):
    from safetensors.torch import load_file, save_file

    other = save_vision_language_model(tmp_path / "smolvlm", "smolvlm", tiny_llm)
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if "vision_model.encoder" in name and name.endswith("fc1.weight"))
    save_file({**weights, name: weights[name] * 1.01}, other / "model.safetensors", metadata={"format": "pt"})
    settings = Settings(preset="smoke", out=tmp_path, progress=False, layers=1, dtype="float32").resolved()
    timing = Timing(group_users=2, batch_users=2, repeats=1)
    keys = {}
    for path in (folder, other):
        workspace = Workspace(replace(settings, llm=f"mllm:{path}"))
        groups = user_groups(workspace, [3], timing)
        for method in ("mllm", "title"):
            cells = [
                accuracy_cell(workspace, method, seed=0, features=("text",)),
                efficiency_cell(workspace, method, 3, groups[3], timing=timing),
            ]
            keys[path, method] = [cell.key for cell in cells]
    assert keys[folder, "mllm"][0] != keys[other, "mllm"][0]
    # What it costs does not depend on what the pictures look like.
    assert keys[folder, "mllm"][1] == keys[other, "mllm"][1]
    assert keys[folder, "title"] == keys[other, "title"]


def test_estimates_know_the_time_of_a_picture_in_its_vision_tower(folder, tiny_llm):
    def seconds(llm: str) -> float:
        settings = Settings(preset="smoke", users=12, items=50, min_interactions=1, llm=llm)
        return _reading_seconds(Workspace(settings.resolved()))

    assert seconds(f"mllm:{folder}") > 0 == seconds(str(tiny_llm))
