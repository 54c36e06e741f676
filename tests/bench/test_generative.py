"""Methods that write the next item run by name, are tuned, found trained, and fail alone where codes collapse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from noise_features import put_noise
from torch.utils.flop_counter import FlopCounterMode

from bench import comparison, efficiency, token_cost, tune
from bench.harness import lcrec
from bench.harness.accuracy import accuracy_cell, compute_accuracy, search_of
from bench.harness.methods import GENERATIVE
from bench.harness.search_spaces import GENERATIVE_SPACES, Choice
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.harness.writing import BEAMS
from bench.meters.generation import Scale, compared, drawn_model
from bench.meters.written_prompts import WrittenPrompts
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import load_backbone

SMALL = ["--preset", "smoke", "--users", "60", "--items", "60", "--min-interactions", "1"]
SMALL += ["--negatives", "20", "--layers", "1", "--no-progress", "--no-report"]


@pytest.fixture(autouse=True)
def features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of noise in place of those of encoders."""
    put_noise(monkeypatch)


@pytest.fixture
def workspace(tmp_path: Path, tiny_llm: Path) -> Workspace:
    settings = Settings(
        preset="smoke", users=60, items=60, min_interactions=1, negatives=20, llm=str(tiny_llm), layers=1,
        out=tmp_path, progress=False,
    )  # fmt: skip
    return Workspace(settings.resolved())


def test_they_are_compared_and_tuned(tmp_path, tiny_llm):
    pytest.importorskip("optuna", reason="searches")
    arguments = [*SMALL, "--llm", str(tiny_llm), "--methods", ",".join(GENERATIVE), "--out", str(tmp_path)]
    assert run(tune.main, prog="bench.tune", args=[*arguments, "--trials", "1", "--minutes", "30"]) == 0
    assert pd.read_csv(tmp_path / "tables" / "tune.csv")["valid_ndcg@10"].between(0, 1).all()
    assert run(comparison.main, prog="bench.comparison", args=[*arguments, "--tuned"]) == 0
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert set(table["method"]) == set(GENERATIVE) and np.isfinite(table["ndcg@10"]).all()


@pytest.mark.parametrize("method", GENERATIVE)
def test_a_cell_is_what_its_model_depends_on(workspace, method):
    cell = accuracy_cell(workspace, method, seed=0)
    assert cell.config["features"] == ["text"] and set(cell.config["encoders"]) == {"text"}
    assert cell.config["evaluation"]["beams"] == BEAMS
    for name, value in (("learning_rate", 0.02), ("semantics", "image"), ("codebook", 32), ("tied", False)):
        other = accuracy_cell(workspace, method, seed=0, parameters={name: value})
        assert other.key != cell.key
    assert accuracy_cell(workspace, method, seed=0, features=("image",)).key == cell.key
    search = search_of(workspace, method, features=("image",), seed=0)
    assert {part.name for part in search.space} == {part.name for part in GENERATIVE_SPACES[method]}
    for part in search.space:
        value = search.defaults[part.name]
        assert value in part.values if isinstance(part, Choice) else part.low <= value <= part.high


def test_it_is_found_trained_and_reports_its_codes_and_tokens(workspace, monkeypatch):
    cell = accuracy_cell(workspace, "lc-rec", seed=0)
    store = Store(workspace.settings.out)
    first = compute_accuracy(workspace, store)(cell)
    monkeypatch.setattr(lcrec.LCRecTrainer, "run", None)  # nothing is trained again
    again = compute_accuracy(workspace, store)(cell)
    pd.testing.assert_frame_equal(first.frames["ranks"], again.frames["ranks"])
    training, prompt = first.results["training"], first.results["prompt"]
    assert training["targets"] > 0 and training["parameters"] > 0
    codes = training["codes"]
    assert len(codes["codes_used"]) == 4 and 0 <= codes["colliding_items"] <= workspace.dataset.n_items
    assert prompt["written_tokens"] == 4 + 16 + BEAMS  # a level has four codes here
    lengths = np.minimum(workspace.split.history_lengths("test")[workspace.split.users("test")], 10)
    model, _ = lcrec.built_lcrec(cell, workspace)
    assert prompt["tokens"] == pytest.approx(len(model.prefix) + 4 * lengths.mean())
    # Among all items: in the list, or last.
    ranks = first.frames["ranks"]["rank_full"]
    assert ((ranks <= BEAMS) | (ranks > 30)).all() and (ranks <= BEAMS).any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--strategy", "two-stage"], "strategy two-stage: lc-rec has neither projectors nor adaptors"),
        ([], "semantic IDs: the quantiser collapsed (codes used by level: 1, 1, 1, 1 of 4"),
    ],
)
def test_what_it_cannot_do_leaves_the_others_alone(tmp_path, tiny_llm, monkeypatch, capsys, arguments, said):
    if not arguments:
        flat = FeatureTable(
            values=np.ones((60, 8), dtype=np.float32), present=np.ones(60, dtype=bool), key="1" * 16, meta={}
        )
        monkeypatch.setattr(
            Workspace,
            "features",
            lambda self, names, *, seed: (dict.fromkeys(names, flat), np.ones(60, bool)),
        )
    given = [
        *SMALL,
        *arguments,
        "--llm",
        str(tiny_llm),
        "--methods",
        "lc-rec,popularity",
        "--out",
        str(tmp_path),
    ]
    run(comparison.main, prog="bench.comparison", args=given)
    assert said in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "tables" / "comparison.csv")
    assert set(table["method"]) == {"popularity"}


def test_what_a_list_costs_is_timed_beside_prompts(tmp_path, tiny_llm):
    arguments = [*SMALL, "--llm", str(tiny_llm), "--methods", "lc-rec,idgenrec,title", "--lengths", "2,4"]
    timing = ["--group-users", "2", "--repeats", "1", "--out", str(tmp_path)]
    assert run(efficiency.main, prog="bench.efficiency", args=[*arguments, *timing]) == 0
    table = pd.read_csv(tmp_path / "tables" / "efficiency.csv").set_index(["method", "history_length"])
    assert (table[["latency_ms_median", "users_per_second", "model_gflops"]] > 0).all(axis=None)
    assert (table.loc["lc-rec", "tokens_per_item"] == 4).all()
    assert table["prompt_tokens"].loc["lc-rec"].diff().iloc[-1] == 4 * 2
    words = table.loc["idgenrec"]
    assert words["prompt_tokens"].diff().iloc[-1] / 2 == pytest.approx(
        words["tokens_per_item"].iloc[0], rel=0.5
    )


@pytest.mark.parametrize(("method", "context"), [("lc-rec", 80), ("idgenrec", 250)])
def test_what_stands_in_prompts_is_counted_and_what_a_context_drops(tmp_path, tiny_llm, method, context):
    arguments = [*SMALL, "--llm", str(tiny_llm), "--out", str(tmp_path), "--methods", method]
    for limit in ("none", str(context)):
        assert run(token_cost.main, prog="bench.token_cost", args=[*arguments, "--context", limit]) == 0
    store = Store(tmp_path)
    found = {record.config["context"]: record for record in store.records("token_cost")}
    items = store.read_frame(found[None], "items")["tokens"]
    assert (items == 4).all() if method == "lc-rec" else items.nunique() > 1
    whole, cut = (store.read_frame(found[limit], "prompts") for limit in (None, context))
    assert not whole[["dropped_items", "dropped_tokens"]].any(axis=None)
    assert cut["dropped_items"].any() and cut["tokens"].max() <= context
    pd.testing.assert_series_equal(whole["tokens"] - cut["tokens"], cut["dropped_tokens"], check_names=False)


def test_methods_without_prompts_have_no_tokens_to_count(capsys):
    assert run(token_cost.main, prog="bench.token_cost", args=[*SMALL, "--methods", "sasrec"]) == 2
    assert "sasrec: only LLM methods show items in tokens" in capsys.readouterr().err


def test_flops_of_a_list_are_those_that_torch_counts(tiny_llm):
    backbone = load_backbone(str(tiny_llm), dtype="float32")
    scale = Scale(users=4, items=200, history=6, beams=5, codebook=8)
    model, histories = drawn_model(backbone, scale)
    prompts = WrittenPrompts(name="some", model=model, histories=histories, batch_users=4)
    model.score(histories)  # the prefix is run once
    with FlopCounterMode(display=False) as counter:
        model.score(histories)
    # Counted as well: scores of codes, and the shorter of two users' rows and keys filled up.
    assert 0.8 < prompts.flops() / counter.get_total_flops() < 1


def test_transformers_own_search_has_the_same_lists_and_more_tokens(tiny_llm):
    backbone = load_backbone(str(tiny_llm), dtype="float32")
    scale = Scale(users=3, items=200, history=4, beams=5, codebook=16)
    table = compared(backbone, scale, repeats=1).set_index("path")
    assert (table["same_lists"] == 1).all()
    assert (table["users_per_second"] > 0).all()
    ours, theirs = table.loc["shared-trunks", "tokens"], table.loc["generate", "tokens"]
    assert ours < theirs / 3 and theirs == table.loc["generate-codes", "tokens"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beams": 0}, "--beams 0: give at least 1"),
        ({"codebook": 3}, "--codebook 3: too few codes for --items"),
    ],
)
def test_bad_scales(changes, said):
    with pytest.raises(InputError, match=said):
        Scale(**changes)
