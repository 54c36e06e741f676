"""Accuracy against tokens an item: which cells meet, intervals and the front by hand, and a run as a user has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_models import save_sentence_model
from test_tradeoff import LLM, write_latency
from training_models import N_ITEMS, made_dataset
from vision_models import save_model

from bench import tokens_per_item
from bench.frames import tokens_per_item as frames
from bench.harness.accuracy import accuracy_cell
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.meters.plain_paths import TwoPass
from bench.protocol.metrics import summarise
from bench.store.cell import Cell
from bench.store.store import Store
from illmrec.assembly import ModelConfig, build_model
from illmrec.command_line import run
from illmrec.errors import UnsupportedError
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import load_backbone


def write(store: Store, method: str, ranks: np.ndarray, *, tokens: float, seed: int = 0) -> None:
    config = {
        "method": method,
        "seed": seed,
        "dataset": {"name": "toys", "fingerprint": "f1"},
        "evaluation": {"users": None, "negatives": 100, "part": "test"},
        "representation": f"package:{method}",
        "llm": LLM,
        "risa": True,
        "features": ["image", "cf", "text"],
        "history_length": 10,
        "context": None,
        "instruction": "after",
        "training": {"epochs": 1},
        **({"reader": "smolvlm@1"} if method == "mllm" else {}),
    }
    results = {"users": len(ranks), "sampled": summarise(ranks), "full": summarise(2 * ranks)}
    cell = Cell(experiment="accuracy", version=2, config=config, method=method, seed=seed, dataset={})
    frame = pd.DataFrame(
        {"user_id": [f"u{n}" for n in range(len(ranks))], "rank_sampled": ranks, "rank_full": 2 * ranks}
    )
    store.write(cell, results, {"ranks": frame}, seconds=1)
    write_latency(store, method, 5.0)
    path = next(r.folder for r in store.records("efficiency") if r.method == method) / "cell.json"
    path.with_name("checksums.json").unlink()
    path.write_text(path.read_text().replace('"tokens_per_item": 1.0', f'"tokens_per_item": {tokens}'))


def ndcg(ranks: np.ndarray) -> float:
    return float(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0).mean())


def test_costs_intervals_and_gains_of_each_method(tmp_path):
    store = Store(tmp_path)
    generator = np.random.default_rng(0)
    one = generator.integers(1, 40, 300)
    better = np.maximum(1, one - 5)
    for method, ranks, tokens in (
        ("illmrec", one, 15.0),
        ("illmrec-4-tokens", better, 18.0),
        ("tallrec", generator.integers(1, 60, 300), 30.0),
        ("title", generator.integers(1, 60, 300), 12.0),
        ("mllm", generator.integers(1, 60, 300), 80.0),
    ):
        write(store, method, ranks, tokens=tokens)
    table = frames.frame(store.records(), store)
    assert tuple(table.columns) == frames.COLUMNS and len(table) == 10
    sampled = table[table["candidates"] == "sampled"].set_index("method")
    assert sampled.index.tolist() == ["title", "illmrec", "illmrec-4-tokens", "tallrec", "mllm"]
    assert sampled["image_tokens"].dropna().to_dict() == {"illmrec": 1, "illmrec-4-tokens": 4}
    gain = sampled.loc["illmrec-4-tokens"]
    assert gain["gain_ndcg@10"] == pytest.approx(ndcg(better) - ndcg(one))
    assert 0 < gain["low_gain_ndcg@10"] < gain["gain_ndcg@10"] < gain["high_gain_ndcg@10"]
    # Paired: narrower than what the two intervals apart would say.
    assert gain["high_gain_ndcg@10"] - gain["low_gain_ndcg@10"] < gain["high_ndcg@10"] - gain["low_ndcg@10"]
    assert np.isnan(sampled.loc["illmrec", "gain_ndcg@10"])
    for row in sampled.to_dict("records"):
        half = 1.96 * row["stderr_ndcg@10"]
        assert row["low_ndcg@10"] == pytest.approx(row["ndcg@10"] - half, abs=0.3 * half)
        assert row["high_ndcg@10"] == pytest.approx(row["ndcg@10"] + half, abs=0.3 * half)
    for name, row in sampled.iterrows():
        beaten = any(
            other["tokens_per_item"] <= row["tokens_per_item"] and other["ndcg@10"] > row["ndcg@10"]
            for _, other in sampled.iterrows()
        )
        assert row["on_front"] == (not beaten), name


def test_one_method_is_no_table(tmp_path):
    store = Store(tmp_path)
    write(store, "illmrec", np.arange(1, 30), tokens=15.0)
    assert frames.frame(store.records(), store).empty


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--image-tokens", "1,3"], "--image-tokens 3: give some of 1, 2, 4, 8"),
        (["--image-tokens", "2,2"], "two numbers or more"),
        (["--image-tokens", ""], "two numbers or more"),
        (["--methods", "sasrec"], "--methods sasrec: only LLM methods"),
        (["--repeats", "0"], "--repeats"),
    ],
)
def test_bad_input_is_one_line_before_any_work(arguments, expected, tmp_path, refusal):
    assert expected in refusal(tokens_per_item.main, arguments)
    assert not list(tmp_path.rglob("cell.json"))


def test_plain_padded_passes_give_the_engines_states(tiny_llm):
    generator = np.random.default_rng(3)
    tables = {
        name: FeatureTable(
            values=generator.normal(size=(N_ITEMS, width)).astype(np.float32),
            present=np.ones(N_ITEMS, dtype=bool),
            key=name,
            meta=meta,
        )
        for name, width, meta in (("image", 5, {}), ("image-2", 12, {"vectors": 2}))
    }
    config = ModelConfig(representation="illmrec.prompts.image_tokens:ImageTokens2", heads=("image",))
    model = build_model(
        config,
        dataset=made_dataset(),
        backbone=load_backbone(str(tiny_llm), dtype="float32"),
        features=tables,
        has_image=generator.random(N_ITEMS) < 0.8,
    )
    histories = [generator.integers(N_ITEMS, size=length) for length in (3, 1, 6)]
    path = TwoPass(model, batch_size=3)
    with torch.inference_mode():
        plain = path.retrieval_states([path.trunk(model.prompts.fit(history)) for history in histories])
    torch.testing.assert_close(model.encode(histories), plain, atol=2e-5, rtol=1e-4)


def test_exchanged_features_have_one_vector_each(tiny_llm, tmp_path):
    settings = Settings(preset="smoke", llm=str(tiny_llm), out=tmp_path, progress=False).resolved()
    derived = Workspace(settings).derive(variant={"kind": "x"}, images=lambda: pytest.fail("computed"))
    with pytest.raises(UnsupportedError, match=r"'image-4' features: .* more than one image token"):
        derived.features(["image-4", "image"], seed=0)


def test_a_method_with_more_tokens_is_another_cell_with_the_same_encoder(tiny_llm, tmp_path):
    folder = save_model(tmp_path / "clip", "clip")
    settings = Settings(preset="smoke", llm=str(tiny_llm), vision=str(folder), out=tmp_path, progress=False)
    workspace = Workspace(settings.resolved())
    one, four = (
        accuracy_cell(workspace, name, seed=0, features=("text",)).config
        for name in ("illmrec", "illmrec-4-tokens")
    )
    differing = {name for name in one.keys() | four.keys() if one.get(name) != four.get(name)}
    assert differing == {"method", "representation", "rendered"}
    assert one["encoders"]["image"] != str(folder), "it has a version, as the slots read it"


@pytest.mark.slow
def test_a_run_has_the_curve_and_the_points(tmp_path: Path, tiny_llm):
    pytest.importorskip("recbole", reason="all feature types include CF features")
    arguments = [
        "--preset",
        "smoke",
        "--llm",
        str(tiny_llm),
        "--max-steps",
        "2",
        "--out",
        str(tmp_path / "out"),
    ]
    arguments += ["--vision", str(save_model(tmp_path / "siglip", "siglip"))]
    arguments += ["--text", str(save_sentence_model(tmp_path / "text", "mean", tmp_path / "work"))]
    arguments += [
        "--methods",
        "title",
        "--image-tokens",
        "1,4",
        "--repeats",
        "1",
        "--no-report",
        "--no-progress",
    ]
    assert run(tokens_per_item.main, prog="bench.tokens_per_item", args=arguments) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "tokens_per_item.csv")
    rows = table[table["candidates"] == "full"].set_index("method")
    assert set(rows.index) == {"title", "illmrec", "illmrec-4-tokens"}
    tokens = rows["tokens_per_item"]
    assert tokens["illmrec-4-tokens"] - tokens["illmrec"] == pytest.approx(3)
    length = rows.loc["illmrec", "history_length"]
    prompts = rows["prompt_tokens"]
    assert prompts["illmrec-4-tokens"] - prompts["illmrec"] == pytest.approx(3 * length)
    assert rows.loc["illmrec-4-tokens", "model_gflops"] > rows.loc["illmrec", "model_gflops"]
    cells = {path: path.stat().st_mtime for path in (tmp_path / "out").rglob("cell.json")}
    assert run(tokens_per_item.main, prog="bench.tokens_per_item", args=arguments) == 0
    assert {path: path.stat().st_mtime for path in (tmp_path / "out").rglob("cell.json")} == cells
