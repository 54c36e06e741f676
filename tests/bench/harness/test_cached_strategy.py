"""Strategy cached in the experiments: one set of states for rows, heads and groups, and ranks equal to the LLM's."""

from __future__ import annotations

import numpy as np
import pytest

from bench import ablation, comparison
from bench.harness.accuracy import accuracy_cell
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol.evaluation import evaluate
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.recommender import Recommender

SMALL = [
    *("--preset", "smoke", "--users", "60", "--items", "60", "--min-interactions", "1", "--layers", "2"),
    *("--strategy", "cached", "--instruction", "before", "--no-progress", "--no-report", "--negatives", "20"),
]


def test_rows_of_the_ablation_share_their_states(tmp_path, tiny_llm, tiny_encoders, passes):
    pytest.importorskip("recbole", reason="rows with CF features")
    common = [*SMALL, "--llm", str(tiny_llm), *tiny_encoders, "--out", str(tmp_path), "--cf-epochs", "1"]
    assert run(ablation.main, prog="bench.ablation", args=[*common, "--rows", "e"]) == 0
    first = sum(passes)
    assert run(ablation.main, prog="bench.ablation", args=[*common, "--rows", "a-e"]) == 0
    assert sum(passes) == first, "no row encodes anything again"
    seeds = ["--rows", "a-e", "--seeds", "0,1,2", "--seeds-of", "projectors"]
    assert run(ablation.main, prog="bench.ablation", args=[*common, *seeds]) == 0
    assert sum(passes) == first, "nor does a seed of the projectors"
    seeded = [record for record in Store(tmp_path).records("accuracy") if "base_seed" in record.config]
    assert {record.seed for record in seeded} == {0, 1, 2} and len(seeded) == 12
    assert len({record.results["full"]["ndcg@10"] for record in seeded}) > 5, "seeds differ"
    records = [record for record in Store(tmp_path).records("accuracy") if record not in seeded]
    assert len(records) == 4, "without a warm-up RISA teaches nothing: rows (a) and (b) are one model"
    for record in records:
        training = record.results["training"]
        assert training["converged"] in (True, False) and training["positions"] > 0
        assert training["warm_up_targets"] == 0 and training["encoding"]["rms_error"] < 1e-2


def test_seeds_of_a_text_method_read_histories_once(tmp_path, tiny_llm, passes, capsys, monkeypatch):
    common = [
        *SMALL,
        "--llm",
        str(tiny_llm),
        "--methods",
        "title",
        "--features",
        "text",
        "--dtype",
        "float32",
    ]
    spent, found = {}, {}
    for name, runs in (("together", ["0,1,2"]), ("apart", ["0", "1", "2"])):
        monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / name / "cache"))
        passes.clear()
        for seeds in runs:
            arguments = [*common, "--seeds", seeds, "--out", str(tmp_path / name)]
            assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
        spent[name] = sum(passes)
        store = Store(tmp_path / name)
        found[name] = {record.seed: store.read_frame(record, "ranks") for record in store.records("accuracy")}
    assert "states of 3 seeds" in capsys.readouterr().err
    assert spent["together"] < 0.65 * spent["apart"]
    for seed, ranks in found["apart"].items():
        same = found["together"][seed]["rank_full"].to_numpy() == ranks["rank_full"].to_numpy()
        assert same.mean() > 0.9, "rounding may move a rank"


def test_projectors_have_seeds_of_their_own_on_stored_states_alone(tiny_llm, capsys):
    arguments = ["--llm", str(tiny_llm), "--seeds-of", "projectors"]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 2
    assert "--strategy cached alone" in capsys.readouterr().err


def test_ranks_from_stored_states_are_those_of_the_llm(tmp_path, tiny_llm):
    arguments = [*SMALL, "--llm", str(tiny_llm), "--out", str(tmp_path), "--dtype", "float32"]
    arguments += ["--methods", "title", "--features", "text", "--readout", "last+mean"]
    assert run(comparison.main, prog="bench.comparison", args=arguments) == 0
    store = Store(tmp_path)
    (record,) = store.records("accuracy")
    assert record.config["readout"] == "last+mean" and record.config["training"]["strategy"] == "cached"
    (folder,) = (tmp_path / "store" / "artifacts" / "model").iterdir()
    recommender = Recommender.load(folder)
    settings = Settings(
        preset="smoke", users=60, items=60, min_interactions=1, negatives=20, llm=str(tiny_llm)
    ).resolved()
    workspace = Workspace(settings)
    ranks = evaluate(
        recommender,
        workspace.dataset,
        workspace.split,
        negatives=workspace.negatives(0),
        progress=False,
    )
    stored = store.read_frame(record, "ranks")
    # A stored state is rounded to float16.
    close = np.abs(stored["rank_full"] - ranks["rank_full"]) <= 1
    assert close.mean() > 0.95
    assert abs(stored["rank_sampled"].mean() - ranks["rank_sampled"].mean()) < 0.2


def test_options_of_stored_states_are_part_of_the_key(tiny_llm):
    def key(method: str = "illmrec", **options) -> str:
        settings = Settings(
            preset="smoke", users=40, items=40, min_interactions=1, llm=str(tiny_llm), layers=2, **options
        )
        workspace = Workspace(settings.resolved())
        return accuracy_cell(workspace, method, seed=0, features=("image",)).key

    keys = [
        key(),
        key(strategy="cached"),
        key(strategy="cached", warm_up=100),
        key(strategy="cached", last_targets=3),
        key(strategy="cached", state_dtype="float32"),
        key("no-llm"),
        key("no-llm", state_dtype="float32"),
        key(readout="last+mean"),
        key(adaptor_start="text"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(strategy="cached", warm_up=0) == key(strategy="cached")
    assert key(strategy="cached", state_dtype="float16") == key(strategy="cached")
    assert key(state_dtype="float32") == key(), "joint training stores none"
    assert key(adaptor_start="drawn") == key()
    for method in ("tallrec", "no-llm"):  # which have no adaptor
        assert key(method, adaptor_start="text") == key(method)


@pytest.mark.parametrize("given", [{"warm_up": 10}, {"last_targets": 10}])
def test_options_of_stored_states_without_them_are_refused(given):
    with pytest.raises(InputError, match="--strategy cached alone"):
        Settings(**given)
