"""One point in time for all users: every kind of method is trained before it and tested after it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench import comparison, token_cost
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.store import Store
from illmrec.command_line import run

SMALL = ["--preset", "smoke", "--users", "80", "--items", "60", "--min-interactions", "1", "--layers", "2"]
SMALL += ["--no-progress", "--no-report", "--negatives", "20", "--features", "text", "--split", "global-time"]


@pytest.mark.parametrize("strategy", ["frozen", "cached"])
def test_every_kind_of_method(tmp_path, tiny_llm, strategy):
    pytest.importorskip("recbole", reason="SASRec is one kind")
    methods = ["title", "no-llm", "item-knn", "sequential-rules", "recent-popularity", "popularity", "sasrec"]
    arguments = [*SMALL, "--llm", str(tiny_llm), "--out", str(tmp_path), "--cf-epochs", "2"]
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


def test_tokens_are_those_of_users_who_are_tested(tmp_path, tiny_llm):
    arguments = [name for name in SMALL if name not in ("--negatives", "20", "--features", "text")]
    arguments += ["--llm", str(tiny_llm), "--out", str(tmp_path), "--methods", "title"]
    assert run(token_cost.main, prog="bench.token_cost", args=arguments) == 0
