"""IDGenRec runs by name, is tuned and found trained, and LoRA stands in for a frozen LLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.harness import idgenrec
from bench.harness.accuracy import accuracy_cell, compute_accuracy, search_of
from bench.harness.search_spaces import GENERATIVE_SPACES, Choice
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.store import Store
from bench.tune import Study


@pytest.fixture
def workspace(tmp_path: Path, tiny_llm: Path) -> Workspace:
    settings = Settings(
        preset="smoke", users=30, items=40, min_interactions=1, negatives=20, llm=str(tiny_llm), layers=1,
        max_steps=2, validation_users=4, eval_users=6, out=tmp_path, progress=False,
    )  # fmt: skip
    return Workspace(settings.resolved())


def test_a_cell_is_what_its_model_depends_on(workspace):
    cell = accuracy_cell(workspace, "idgenrec", seed=0)
    assert cell.config["training"]["strategy"] == "lora" and cell.config["evaluation"]["beams"] == 20
    for name, value in (("llm_learning_rate", 0.02), ("words", 2), ("history_length", 3)):
        assert accuracy_cell(workspace, "idgenrec", seed=0, parameters={name: value}).key != cell.key
    assert accuracy_cell(workspace, "idgenrec", seed=0, features=("image",)).key == cell.key
    search = search_of(workspace, "idgenrec", features=("image",), seed=0)
    assert [part.name for part in search.space] == [part.name for part in GENERATIVE_SPACES["idgenrec"]]
    for part in search.space:
        value = search.defaults[part.name]
        assert value in part.values if isinstance(part, Choice) else part.low <= value <= part.high


def test_it_is_found_trained_reports_its_tokens_and_is_tuned(workspace, monkeypatch):
    pytest.importorskip("peft")
    cell, store = accuracy_cell(workspace, "idgenrec", seed=0), Store(workspace.settings.out)
    results = compute_accuracy(workspace, store)(cell).results
    assert results["training"]["parameters"] > 0 and results["training"]["tokens_per_item"] > 2
    assert results["prompt"]["tokens"] > 0 and results["prompt"]["written_tokens"] > 0
    assert all(np.isfinite(results[kind]["ndcg@10"]) for kind in ("sampled", "full"))
    monkeypatch.setattr(idgenrec, "idgenrec_trainer", lambda *_, **__: pytest.fail("trained again"))
    again = compute_accuracy(workspace, store)(cell).results
    assert again["sampled"] == results["sampled"] and again["full"] == results["full"]
    pytest.importorskip("optuna", reason="searches")
    told: list[float] = []
    study = Study(workspace, "idgenrec", heads=["text"], seed=0)
    value = study.evaluate({"words": 2, "history_length": 10}, lambda epoch, found: told.append(found))
    assert told and value == max(told)
