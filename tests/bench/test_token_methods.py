"""A-LLMRec, UniMP-style and E4SRec-style by name: what their cells say, and which experiments refuse them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import ablation, catalogue_growth, comparison, unseen_items
from bench.harness.accuracy import accuracy_cell, search_of
from bench.harness.settings import Settings
from bench.harness.training import model_folder
from bench.harness.workspace import Workspace
from bench.store.cell import Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data.dataset import Dataset
from illmrec.features.table import FeatureTable
from illmrec.model.heads import ITEM_TOKEN
from illmrec.recommender import Recommender

pytest.importorskip("recbole", reason="cf features")

SMALL = ["--preset", "smoke", "--users", "40", "--items", "60", "--min-interactions", "1", "--layers", "1"]
SMALL += ["--no-progress", "--no-report", "--negatives", "20", "--features", "cf,text"]
SMALL += ["--strategy", "cached", "--history-length", "4"]
NAMES = ("a-llmrec", "cf-token", "unimp", "e4srec")


WITHOUT_IMAGE = 7


def drawn(
    names: Sequence[str], *, dataset: Dataset, **given: object
) -> tuple[dict[str, FeatureTable], np.ndarray]:
    """Return features of noise in place of those of encoders; some items lack a picture."""
    has_image = np.arange(dataset.n_items) >= WITHOUT_IMAGE
    generator = np.random.default_rng(0)
    tables = {
        name: FeatureTable(
            values=generator.normal(size=(dataset.n_items, 8)).astype(np.float32),
            present=np.ones(dataset.n_items, dtype=bool),
            key=name,
            meta={},
        )
        for name in ("image", "text")
    }
    return {name: tables[name] for name in tables if name in names}, has_image


@pytest.fixture(scope="module", autouse=True)
def _drawn_features() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.harness.workspace.content_features", drawn)
        patch.setattr("illmrec.recommender.content_features", drawn)
        yield


def workspace_of(llm: Path, **options: object) -> Workspace:
    given = {"preset": "smoke", "users": 40, "items": 60, "min_interactions": 1, "layers": 1, "llm": str(llm)}
    given |= {"strategy": "cached", "negatives": 20, "history_length": 4}
    return Workspace(Settings(**{**given, **options}).resolved())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, tiny_llm: Path, _drawn_features: None) -> Path:
    """Where the four methods were compared."""
    folder = tmp_path_factory.mktemp("token-methods")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ILLMREC_CACHE", str(folder / "cache"))
        arguments = [*SMALL, "--llm", str(tiny_llm), "--out", str(folder), "--methods", ",".join(NAMES)]
        assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
    return folder


@pytest.fixture(scope="module")
def records(out: Path) -> dict[str, Record]:
    return {record.method: record for record in Store(out).records("accuracy")}


def test_they_are_compared(out: Path, records: dict[str, Record]) -> None:
    table = pd.read_csv(out / "tables" / "comparison.csv")
    assert set(table["method"]) == set(NAMES) == set(records) and np.isfinite(table["ndcg@10"]).all()
    aligned = records["a-llmrec"].config
    assert aligned["alignment"]["name"] == "full" and aligned["alignment"]["item_reconstruction"] == 0.5
    assert 0 < records["a-llmrec"].results["alignment"]["matched"] <= 1
    assert aligned["features"] == records["cf-token"].config["features"] == ["cf", "text"]


def test_those_scored_by_tokens_say_so(records: dict[str, Record], tiny_llm: Path) -> None:
    split = workspace_of(tiny_llm).split
    untrained = int((np.bincount(split.train_items(), minlength=split.dataset.n_items) == 0).sum())
    for name in ("unimp", "e4srec"):
        config = records[name].config
        assert config["features"] == [ITEM_TOKEN] and config["training"]["loss"] == "ce"
        assert records[name].results["untrained_tokens"] == untrained
    assert records["e4srec"].config["adaptor"] == "linear" and "adaptor" not in records["unimp"].config


def test_their_loss_is_a_softmax_whatever_that_of_the_others_is(tiny_llm: Path) -> None:
    workspace = workspace_of(tiny_llm, loss="bce", negatives_from="catalogue")
    losses = {name: accuracy_cell(workspace, name, seed=0).config["training"] for name in ("unimp", "title")}
    assert losses["title"]["loss"] == "bce" and losses["unimp"]["loss"] == "ce"
    assert "negatives_from" in losses["title"] and "negatives_from" not in losses["unimp"]
    searched = search_of(workspace, "unimp", features=("image",), seed=0)
    assert {"loss", "together"}.isdisjoint(part.name for part in searched.space)


def test_alignment_is_of_a_llmrec_alone(tiny_llm: Path) -> None:
    keys = [
        {name: accuracy_cell(workspace_of(tiny_llm, alignment=each), name, seed=0).key for name in NAMES}
        for each in ("full", "no-matching", "none")
    ]
    assert len({found.pop("a-llmrec") for found in keys}) == 3
    assert keys[0] == keys[1] == keys[2]


def test_without_alignment_it_is_the_cf_token(
    out: Path, records: dict[str, Record], tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ILLMREC_CACHE", str(out / "cache"))
    arguments = [*SMALL, "--llm", str(tiny_llm), "--out", str(out), "--methods", "a-llmrec,cf-token"]
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--alignment", "none"]) == 0
    found = [r for r in Store(out).records("accuracy") if r.config.get("alignment") == {"name": "none"}]
    assert [record.results["full"] for record in found] == [records["cf-token"].results["full"]]
    assert found[0].results["alignment"] == {}
    assert records["a-llmrec"].results["full"] != records["cf-token"].results["full"]


@pytest.mark.parametrize("name", ["a-llmrec", "unimp", "e4srec"])
def test_a_stored_model_is_whole(
    out: Path, records: dict[str, Record], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("ILLMREC_CACHE", str(out / "cache"))
    folder = model_folder(Store(out), records[name])
    kept = {part for part in ("aligned", "cf") if (folder / f"{part}.safetensors").is_file()}
    assert kept == {"a-llmrec": {"aligned", "cf"}, "unimp": set(), "e4srec": {"cf"}}[name]
    recommended = Recommender.load(folder).recommend(["toy-00000", "toy-00002"], k=5)
    assert len(recommended) == 5 and recommended["score"].is_monotonic_decreasing


@pytest.mark.parametrize(
    ("main", "method", "said"),
    [
        (ablation.main, "unimp", "scores items by tokens of their own"),
        (unseen_items.main, "e4srec", "training has not seen"),
        (catalogue_growth.main, "unimp", "scores items by tokens of their own"),
        (catalogue_growth.main, "a-llmrec", "no aligned embedding"),
        (comparison.main, "unimpp", "did you mean 'unimp'"),
    ],
)
def test_experiments_that_they_do_not_suit_refuse_them(refusal, main, method, said) -> None:  # type: ignore[no-untyped-def]
    error = refusal(main, ["--methods", method])
    assert f"{method}" in error and said in error


def test_a_readout_of_features_leaves_them_out(out: Path, tiny_llm: Path, monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("ILLMREC_CACHE", str(out / "cache"))
    arguments = [*SMALL, "--llm", str(tiny_llm), "--out", str(out), "--methods", "unimp,random"]
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--readout", "last+features"]) == 0
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "left out: unimp" in line]
    assert "tokens of their own" in said
