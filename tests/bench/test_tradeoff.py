"""Latency beside accuracy: the front by brute force, which cells meet, and cells shared with other experiments."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import comparison, efficiency, tradeoff
from bench.frames import tradeoff as frames
from bench.protocol.metrics import METRICS, summarise
from bench.store.cell import Cell
from bench.store.store import Store
from illmrec.command_line import run

LLM = {"name": "smollm2-135m", "layers": 4, "dtype": "bfloat16"}
MACHINE = {"cpu": "one", "cores": 2}


def write_accuracy(
    store: Store, method: str, ranks: list[int], *, seed: int = 0, llm=LLM, context=None
) -> None:
    config = {
        "method": method,
        "seed": seed,
        "dataset": {"name": "toys", "fingerprint": "f1"},
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        "representation": f"package:{method}",
        "llm": llm,
        "risa": True,
        "features": ["image", "cf", "text"],
        "history_length": 10,
        "context": context,
        "instruction": "after",
        "training": {"epochs": 1},
    }
    results = {"users": len(ranks), "sampled": summarise(ranks), "full": summarise([2 * r for r in ranks])}
    cell = Cell(experiment="accuracy", version=2, config=config, method=method, seed=seed, dataset={})
    store.write(cell, results, seconds=1)


def write_other(store: Store, method: str, ranks: list[int], *, seed: int = 0, **options) -> None:
    """Write the accuracy of a method that is no representation."""
    config = {
        "method": method,
        "seed": seed,
        "dataset": {"name": "toys", "fingerprint": "f1"},
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        **options,
    }
    results = {"users": len(ranks), "sampled": summarise(ranks), "full": summarise([2 * r for r in ranks])}
    cell = Cell(experiment="accuracy", version=2, config=config, method=method, seed=seed, dataset={})
    store.write(cell, results, seconds=1)


def write_latency(
    store: Store,
    method: str,
    milliseconds: float,
    *,
    length: int = 10,
    llm=LLM,
    machine=MACHINE,
    context=None,
) -> None:
    config = {
        "method": method,
        "seed": 0,
        "dataset": {"name": "toys", "fingerprint": "f1"},
        **({"llm": llm} if llm else {}),
        "context": context,
        "instruction": "after",
        "device": "cpu",
        "machine": machine,
        "history_length": length,
    }
    results = dict.fromkeys(frames.COSTS, 1.0) | {"latency_ms_median": milliseconds, "history_length": length}
    cell = Cell(experiment="efficiency", version=1, config=config, method=method, seed=0, dataset={})
    store.write(cell, results, seconds=1)


def test_the_front_agrees_with_brute_force():
    generator = np.random.default_rng(1)
    for _ in range(50):
        costs, gains = generator.integers(1, 6, (2, 9)).astype(float)
        found = frames.on_front(costs, gains)
        for point in range(9):
            beaten = False
            for other in range(9):
                if costs[other] <= costs[point] and gains[other] >= gains[point]:
                    beaten |= costs[other] < costs[point] or gains[other] > gains[point]
            assert found[point] == (not beaten)


def test_means_over_seeds_stand_beside_latency(tmp_path):
    store = Store(tmp_path)
    first, second = [1, 4, 30, 2], [3, 3, 9, 1]
    write_accuracy(store, "illmrec", first, seed=0)
    write_accuracy(store, "illmrec", second, seed=1)
    write_accuracy(store, "trsr", [1, 1, 1, 50])
    write_accuracy(store, "tallrec", [60, 70, 80, 90])
    for method, milliseconds in (("illmrec", 5.0), ("trsr", 20.0), ("tallrec", 6.0), ("title", 1.0)):
        write_latency(store, method, milliseconds)
    table = frames.frame(store.records(), store)
    assert tuple(table.columns) == frames.COLUMNS
    sampled = table[table["candidates"] == "sampled"].set_index("method")
    assert set(sampled.index) == {"illmrec", "trsr", "tallrec"}
    values = [summarise(first)["ndcg@10"], summarise(second)["ndcg@10"]]
    assert sampled.loc["illmrec", "ndcg@10"] == pytest.approx(statistics.mean(values))
    assert sampled.loc["illmrec", "stderr_ndcg@10"] == pytest.approx(statistics.stdev(values) / 2**0.5)
    assert sampled.loc["illmrec", "seeds"] == 2 and sampled.loc["trsr", "seeds"] == 1
    assert sampled.loc["trsr", "stderr_mrr"] == pytest.approx(summarise([1, 1, 1, 50])["stderr"]["mrr"])
    assert sampled["on_front"].to_dict() == {"illmrec": True, "trsr": True, "tallrec": False}
    assert all(f"stderr_{metric}" in table.columns for metric in METRICS)


def test_only_what_was_measured_under_the_same_settings_meets(tmp_path):
    store = Store(tmp_path)
    for method in ("illmrec", "trsr"):
        write_accuracy(store, method, [1, 2, 3])
        write_latency(store, method, 9.0, llm={**LLM, "layers": 30})
        write_latency(store, method, 8.0, context=512)
    assert frames.frame(store.records(), store).empty
    write_latency(store, "illmrec", 5.0)
    assert frames.frame(store.records(), store).empty, "one method is no trade-off"
    write_latency(store, "trsr", 7.0, length=5)
    assert frames.frame(store.records(), store).empty, "they were measured at different lengths"
    write_latency(store, "trsr", 7.0)
    table = frames.frame(store.records(), store)
    assert table["latency_ms_median"].tolist() == [5.0, 7.0, 5.0, 7.0]
    assert table["history_length"].eq(10).all()


def test_methods_without_an_llm_and_those_that_write_stand_beside_prompts(tmp_path):
    store = Store(tmp_path)
    write_accuracy(store, "illmrec", [1, 4, 30, 2])
    write_other(store, "sasrec", [60, 70, 80, 90], training={"dropout": 0.5})
    for seed in (0, 1):
        write_other(store, "sasrec", [1, 1, 1, 1 + seed], seed=seed, training={"dropout": 0.2})
    write_other(store, "lc-rec", [2, 2, 2, 2], llm=LLM, context=None)
    write_other(store, "idgenrec", [2, 2, 2, 2], llm={**LLM, "layers": 30}, context=None)
    write_other(store, "item-knn", [1, 1, 1, 1], dataset={"name": "others", "fingerprint": "f2"})
    write_other(
        store, "popularity", [1, 1, 1, 1], dataset={"name": "toys", "fingerprint": "f1", "variant": {}}
    )
    for method in ("illmrec", "lc-rec", "idgenrec"):
        write_latency(store, method, 9.0)
    for method in ("sasrec", "item-knn", "popularity"):
        write_latency(store, method, 1.0, llm=None)
    table = frames.frame(store.records(), store)
    sampled = table[table["candidates"] == "sampled"].set_index("method")
    assert set(sampled.index) == {"illmrec", "sasrec", "lc-rec"}
    assert sampled.loc["sasrec", "seeds"] == 2, "the newest options, each seed of them"
    assert sampled["on_front"].to_dict() == {"illmrec": False, "sasrec": True, "lc-rec": False}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--methods", "illmrec,illmrec-zero"], "--methods illmrec-zero: it costs what illmrec costs"),
        (["--methods", "sasrec,popularity"], "give at least one LLM method"),
        (["--methods", "illmrec,illmrec"], "two methods or more"),
        (["--length", "0"], "give at least 1"),
        (["--length", "900"], "0 users of toyshop"),
        (["--instance", "g5.xlrge"], "--instance g5.xlrge: no such instance; did you mean g5.xlarge"),
    ],
)
def test_bad_input_is_one_line_before_any_work(arguments, expected, tmp_path, refusal):
    assert expected in refusal(tradeoff.main, arguments)
    assert not list(tmp_path.rglob("cell.json"))


@pytest.mark.slow
def test_cells_are_those_of_efficiency_and_comparison(tmp_path: Path, tiny_llm):
    pytest.importorskip("recbole", reason="all feature types include CF features")
    common = ["--preset", "smoke", "--llm", str(tiny_llm), "--max-steps", "2", "--out", str(tmp_path)]
    common += ["--methods", "title,tallrec", "--no-report", "--no-progress"]
    assert run(comparison.main, prog="bench.comparison", args=common) == 0
    assert run(efficiency.main, prog="bench.efficiency", args=[*common, "--lengths", "2,5,10,15,20"]) == 0
    before = {str(path) for path in tmp_path.rglob("cell.json")}
    assert run(tradeoff.main, prog="bench.tradeoff", args=common) == 0
    assert {str(path) for path in tmp_path.rglob("cell.json")} == before
    table = pd.read_csv(tmp_path / "tables" / "tradeoff.csv")
    assert tuple(table.columns) == frames.COLUMNS and len(table) == 4
    measured = pd.read_csv(tmp_path / "tables" / "efficiency.csv").query("history_length == 10")
    latency = measured.set_index("method")["latency_ms_median"].to_dict()
    compared = pd.read_csv(tmp_path / "tables" / "comparison.csv").set_index(["method", "candidates"])
    for row in table.to_dict("records"):
        assert row["latency_ms_median"] == pytest.approx(latency[row["method"]], rel=1e-4)
        expected = compared.loc[(row["method"], row["candidates"]), "ndcg@10"]
        assert row["ndcg@10"] == pytest.approx(expected, abs=1e-5)
