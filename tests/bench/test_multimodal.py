"""Collaborative models that see content run by name, are tuned, and say what they lack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from noise_features import put_noise

from baselines import epochs
from bench import comparison, tune
from bench.harness.accuracy import accuracy_cell, compute_accuracy, search_of
from bench.harness.methods import MULTIMODAL
from bench.harness.search_spaces import MULTIMODAL_SPACES, Choice
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import UnsupportedError

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


WITHOUT_IMAGE = 7


@pytest.fixture(autouse=True)
def features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of noise in place of those of encoders; some items lack a picture."""
    put_noise(monkeypatch, without_image=WITHOUT_IMAGE)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    out = tmp_path_factory.mktemp("multimodal")
    settings = Settings(
        preset="smoke", users=60, items=60, min_interactions=1, negatives=20, out=out, progress=False
    )
    return Workspace(settings.resolved())


def test_they_are_compared_and_tuned(tmp_path):
    pytest.importorskip("optuna", reason="searches")
    methods = set(MULTIMODAL) - {"tiger"}  # which takes seconds a trial, and the same way
    arguments = [*SMALL, "--methods", ",".join(methods), "--out", str(tmp_path)]
    assert run(tune.main, prog="bench.tune", args=[*arguments, "--trials", "2", "--minutes", "30"]) == 0
    trials = pd.read_csv(tmp_path / "tables" / "tune.csv")
    assert trials.groupby("method").size().to_dict() == dict.fromkeys(methods, 2)
    assert trials["valid_ndcg@10"].between(0, 1).all()
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--tuned"]) == 0
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert set(table["method"]) == methods and np.isfinite(table["ndcg@10"]).all()
    best = trials.loc[trials.groupby("method")["valid_ndcg@10"].idxmax()].set_index("method")
    for record in Store(tmp_path).records("accuracy"):
        assert record.results["training"]["valid_ndcg@10"] == pytest.approx(
            best.loc[record.method, "valid_ndcg@10"], abs=1e-3
        )
        assert record.results["training"]["items_without_image"] == WITHOUT_IMAGE


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
def test_what_it_reports_of_its_training(workspace, method):
    cell = accuracy_cell(workspace, method, seed=0, parameters={"width": 16} if method == "tiger" else None)
    results = compute_accuracy(workspace, Store(workspace.settings.out))(cell).results
    training = results["training"]
    assert training["parameters"] > 0
    if method == "tiger":
        assert training["scores"] == "exact" and 1 < training["tokens_per_user"] < workspace.dataset.n_items
        assert training["semantic_ids"]["codebook"] == 8
    else:
        assert training["items_without_image"] == WITHOUT_IMAGE
    assert 1 <= training["best_epoch"] <= training["epochs"] <= workspace.settings.cf_epochs
    assert not training["converged"] and 0 <= training["valid_ndcg@10"] <= 1
    assert np.isfinite(results["full"]["ndcg@10"])


def test_codes_that_collapse_stop_tiger(workspace):
    cell = accuracy_cell(workspace, "tiger", seed=0, parameters={"codebook": 2})
    with pytest.raises(UnsupportedError, match="the quantiser collapsed"):
        compute_accuracy(workspace, Store(workspace.settings.out))(cell)


@pytest.mark.parametrize("method", ["tiger", "bm3", "esasrec", "sasrec-recbole"])
def test_an_interrupted_training_goes_on_where_it_stopped(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(folder: str) -> int:
        monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / folder))  # where RecBole's models are
        given = [*SMALL, "--cf-epochs", "4", "--methods", method, "--out", str(tmp_path / folder)]
        return run(comparison.main, prog="bench.comparison", args=given)

    def ranks(folder: str) -> pd.DataFrame:
        store = Store(tmp_path / folder)
        (record,) = store.records("accuracy")
        return store.read_frame(record, "ranks")

    assert start("undisturbed") == 0
    monkeypatch.setattr(epochs, "CHECKPOINT_SECONDS", 0.0)
    epoch, trained = epochs.EpochTraining._epoch, []

    def counted(self: epochs.EpochTraining) -> None:
        if len(trained) == 2:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append("epoch")
        epoch(self)

    monkeypatch.setattr(epochs.EpochTraining, "_epoch", counted)
    assert start("again") == 130
    assert list((tmp_path / "again").rglob("*.unfinished"))
    assert start("again") == 0
    pd.testing.assert_frame_equal(ranks("again"), ranks("undisturbed"))
    assert trained.count("epoch") == 4 and not list((tmp_path / "again").rglob("*.unfinished"))
