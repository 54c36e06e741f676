"""Collaborative models that see content run by name, are tuned, and say what they lack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bench import comparison, tune
from bench.harness.accuracy import accuracy_cell, compute_accuracy, search_of
from bench.harness.methods import MULTIMODAL
from bench.harness.search_spaces import MULTIMODAL_SPACES, Choice
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.store import Store
from illmrec.command_line import run

SMALL = [
    "--preset",
    "smoke",
    "--users",
    "60",
    "--items",
    "60",
    "--min-interactions",
    "1",
    "--negatives",
    "20",
]
SMALL += ["--no-progress", "--no-report"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    out = tmp_path_factory.mktemp("multimodal")
    settings = Settings(
        preset="smoke", users=60, items=60, min_interactions=1, negatives=20, out=out, progress=False
    )
    return Workspace(settings.resolved())


def test_they_are_compared_and_tuned(tmp_path):
    pytest.importorskip("optuna", reason="searches")
    arguments = [*SMALL, "--methods", ",".join(MULTIMODAL), "--out", str(tmp_path)]
    assert run(tune.main, prog="bench.tune", args=[*arguments, "--trials", "2"]) == 0
    trials = pd.read_csv(tmp_path / "tables" / "tune.csv")
    assert trials.groupby("method").size().to_dict() == dict.fromkeys(MULTIMODAL, 2)
    assert trials["valid_ndcg@10"].between(0, 1).all()
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--tuned"]) == 0
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert set(table["method"]) == set(MULTIMODAL) and np.isfinite(table["ndcg@10"]).all()
    best = trials.loc[trials.groupby("method")["valid_ndcg@10"].idxmax()].set_index("method")
    for record in Store(tmp_path).records("accuracy"):
        assert record.results["training"]["valid_ndcg@10"] == pytest.approx(
            best.loc[record.method, "valid_ndcg@10"]
        )
        assert record.results["training"]["items_without_image"] == 0


@pytest.mark.parametrize("method", MULTIMODAL)
def test_a_cell_is_what_its_model_depends_on(workspace, method):
    cell = accuracy_cell(workspace, method, seed=0)
    assert cell.config["features"] == list(MULTIMODAL[method])
    assert set(cell.config["encoders"]) == set(MULTIMODAL[method])
    assert cell.config["training"]["epochs"] == workspace.settings.cf_epochs
    other = accuracy_cell(workspace, method, seed=0, parameters={"learning_rate": 0.02})
    assert other.config["training"]["learning_rate"] == 0.02 and other.key != cell.key
    assert accuracy_cell(workspace, method, seed=0, features=("text",)).key == cell.key
    settings = replace(workspace.settings, cf_epochs=3)
    changed = accuracy_cell(workspace.derive(variant=workspace.variant, settings=settings), method, seed=0)
    assert changed.key != cell.key
    search = search_of(workspace, method, features=("image",), seed=0)
    assert search.space == MULTIMODAL_SPACES[method]
    for part in search.space:
        value = search.defaults[part.name]
        assert value in part.values if isinstance(part, Choice) else part.low <= value <= part.high


@pytest.mark.parametrize("method", MULTIMODAL)
def test_items_without_an_image_are_counted(workspace, method, monkeypatch):
    tables, has_image = workspace.features(MULTIMODAL[method], seed=0)
    some = has_image.copy()
    some[:7] = False
    monkeypatch.setattr(Workspace, "features", lambda *given, **named: (tables, some))
    outcome = compute_accuracy(workspace, Store(workspace.settings.out))(
        accuracy_cell(workspace, method, seed=0)
    )
    assert outcome.results["training"]["items_without_image"] == 7
    assert np.isfinite(outcome.results["full"]["ndcg@10"])
