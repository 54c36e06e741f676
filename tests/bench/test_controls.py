"""Floors and controls by name, under the same protocol as everything else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench import comparison, tune
from bench.harness.accuracy import accuracy_cell
from bench.harness.floors import fitted_floor
from bench.harness.methods import CONTROLS, FLOORS
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.model.engine import Engine

SMALL = ["--preset", "smoke", "--users", "60", "--items", "60", "--min-interactions", "1", "--layers", "2"]
SMALL += ["--no-progress", "--no-report", "--negatives", "20", "--features", "image,text"]


def workspace_of(llm, **options) -> Workspace:
    settings = {
        "preset": "smoke",
        "users": 60,
        "items": 60,
        "min_interactions": 1,
        "layers": 2,
        "llm": str(llm),
    }
    return Workspace(Settings(**{**settings, **options}).resolved())


def test_all_floors_and_controls_are_compared(tmp_path, tiny_llm, tiny_encoders):
    names = [*FLOORS, *CONTROLS, "description-token", "illmrec"]
    arguments = [*SMALL, "--llm", str(tiny_llm), "--out", str(tmp_path), "--methods", ",".join(names)]
    arguments += tiny_encoders
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert set(table["method"]) == set(names) and np.isfinite(table["ndcg@10"]).all()
    records = {record.method: record for record in Store(tmp_path).records("accuracy")}
    assert records["no-llm"].config["training"]["strategy"] == "cached"
    assert records["illmrec-zero"].config["training"] == records["illmrec"].config["training"]


def test_without_the_llm_no_llm_is_asked_nor_named(tmp_path, tiny_llm, tiny_encoders, monkeypatch):
    monkeypatch.setattr(Engine, "hidden", lambda *given, **named: pytest.fail("the LLM was asked"))
    arguments = [
        *SMALL,
        "--llm",
        str(tiny_llm),
        *tiny_encoders,
        "--out",
        str(tmp_path),
        "--methods",
        "no-llm",
    ]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
    keys = {
        accuracy_cell(workspace_of(tiny_llm, layers=layers), "no-llm", seed=0, features=("image",)).key
        for layers in (1, 2)
    }
    assert len(keys) == 1


def test_a_control_is_its_method_with_one_thing_changed(tiny_llm):
    workspace = workspace_of(tiny_llm)
    configs = {
        name: accuracy_cell(workspace, name, seed=0, features=("image",)).config
        for name in ("illmrec", "illmrec-shuffled", "llm-and-features")
    }
    plain = {**configs["illmrec"], "method": ""}
    assert {**configs["illmrec-shuffled"], "method": ""} == {**plain, "slot_content": "shuffled"}
    assert {**configs["llm-and-features"], "method": ""} == {**plain, "readout": "last+features"}


def test_content_knn_reads_the_content_among_the_features(tiny_llm):
    workspace = workspace_of(tiny_llm)
    cell = accuracy_cell(workspace, "content-knn", seed=0, features=("image", "cf"))
    assert cell.config["features"] == ["image"]
    scores = fitted_floor(cell, workspace).score(workspace.split.histories("test"))
    assert scores.shape == (workspace.dataset.n_users, workspace.dataset.n_items)


def test_a_method_without_anything_to_read_is_named(tmp_path, tiny_llm, capsys):
    pytest.importorskip("recbole", reason="cf features")
    arguments = [*SMALL[:-2], "--features", "cf", "--llm", str(tiny_llm), "--out", str(tmp_path)]
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--methods", "content-knn"]) == 2
    assert "content-knn reads image and text features" in capsys.readouterr().err


def test_floors_are_tuned_and_used(tmp_path, tiny_llm):
    pytest.importorskip("optuna", reason="searches")
    methods = [
        "--methods",
        "item-knn,sequential-rules,content-knn",
        "--out",
        str(tmp_path),
        "--llm",
        str(tiny_llm),
    ]
    assert run(tune.main, prog="bench.tune", args=[*SMALL, *methods, "--trials", "4"]) == 0
    trials = pd.read_csv(tmp_path / "tables" / "tune.csv")
    assert trials.groupby("method").size().to_dict() == {
        "content-knn": 4,
        "item-knn": 4,
        "sequential-rules": 4,
    }
    assert trials["valid_ndcg@10"].between(0, 1).all()
    assert run(comparison.main, prog="bench.comparison", args=[*SMALL, *methods, "--tuned"]) == 0
    best = trials.loc[trials.groupby("method")["valid_ndcg@10"].idxmax()].set_index("method")
    for record in Store(tmp_path).records("accuracy"):
        for name, value in record.config["training"].items():
            chosen = best.loc[record.method, name]
            assert str(chosen) == str(value) or float(chosen) == pytest.approx(float(value), rel=1e-3)
