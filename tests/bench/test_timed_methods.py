"""Every kind of method is timed: those that read prompts, that write items, and that need no LLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from noise_features import put_noise

from bench import efficiency
from bench.harness.methods import check_timed_methods
from bench.meters.scored_histories import ScoredHistories
from bench.meters.turns import Session
from illmrec.command_line import run

PROMPTED = ("title", "llm-and-features")
TOKENLESS = ("no-llm", "vbpr", "bm3", "item-knn", "content-knn", "popularity", "random")
RECBOLE = ("sasrec", "gru4rec", "bert4rec", "esasrec")


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of noise in place of those of encoders."""
    put_noise(monkeypatch)


def timed(tmp_path: Path, llm: Path, methods: Sequence[str]) -> pd.DataFrame:
    data = ["--preset", "smoke", "--users", "60", "--items", "60", "--min-interactions", "1", "--layers", "1"]
    shown = ["--methods", ",".join(methods), "--lengths", "2,4", "--group-users", "3", "--repeats", "1"]
    where = ["--llm", str(llm), "--out", str(tmp_path), "--no-progress"]
    assert run(efficiency.main, prog="bench.efficiency", args=[*data, *shown, *where]) == 0
    table = pd.read_csv(tmp_path / "tables" / "efficiency.csv")
    assert (table.groupby("method").size() == 2).all() and set(table["method"]) == set(methods)
    assert (table[["latency_ms_median", "users_per_second", "activations_mb"]] >= 0).all(axis=None)
    assert table["session"].nunique() == 1
    assert (tmp_path / "index.html").is_file()
    return table.set_index(["method", "history_length"])


def test_methods_without_prompts_are_timed_beside_them(tmp_path: Path, tiny_llm: Path, noise: None) -> None:
    table = timed(tmp_path, tiny_llm, [*PROMPTED, *TOKENLESS, "tiger"])
    assert (table.loc[list(PROMPTED), ["tokens_per_item", "weights_mb", "model_gflops"]] > 0).all(axis=None)
    rest = table.loc[[*TOKENLESS, "tiger"]]
    assert (rest["weights_mb"] == 0).all() and rest["model_gflops"].isna().all()
    assert table.loc[list(TOKENLESS), ["tokens_per_item", "prompt_tokens"]].isna().all(axis=None)
    assert table.loc["tiger", "prompt_tokens"].tolist() == [8, 16], "four codes an item"
    held = table["features_mb"].groupby(level="method").first()
    assert (held[["no-llm", "vbpr", "bm3", "tiger"]] > 0).all()
    assert held[["item-knn", "popularity"]].isna().all(), "tables of floors are not counted"


def test_all_are_those_that_cost_something_of_their_own() -> None:
    names = check_timed_methods(("all",), llm="smollm2-135m")
    assert {"illmrec", "no-llm", "llm-and-features", "lc-rec", "tiger", "sasrec", "item-knn"} <= set(names)
    assert not {"illmrec-zero", "illmrec-noise", "illmrec-shuffled", "mllm"} & set(names)


def test_sequential_models_are_timed_untrained(tmp_path: Path, tiny_llm: Path, noise: None) -> None:
    pytest.importorskip("recbole", reason="RecBole runs them")
    table = timed(tmp_path, tiny_llm, RECBOLE)
    assert table["tokens_per_item"].isna().all() and (table["features_mb"] > 0).all()


class _Asked:
    """Scores by who a user is, and notes who was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], list[int]]] = []

    def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        self.asked.append((users.tolist(), [len(history) for history in histories]))
        return np.zeros((len(users), 9), dtype=np.float32)


def test_users_are_told_who_they_are() -> None:
    model = _Asked()
    histories = [np.arange(1 + number) for number in range(3)]
    scored = ScoredHistories(
        name="some", model=model, held_mb=None, users=np.array([7, 5, 6]), histories=histories, batch_users=2,
        device=torch.device("cpu"),
    )  # fmt: skip
    session = Session({"a": scored}, repeats=1, progress=False)
    session.run()
    assert {(tuple(users), tuple(lengths)) for users, lengths in model.asked} == {
        ((7,), (1,)),
        ((5,), (2,)),
        ((6,), (3,)),
        ((7, 5), (1, 2)),
    }
    results = session.results("a", peak_gflops=1.0)
    assert results["peak_memory_mb"] is None and results["users_per_second"] > 0
