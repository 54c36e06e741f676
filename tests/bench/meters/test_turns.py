"""Timings in turns: every method and length in every block, the same work once, one user alone and batches apart."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from baselines.text_prompts import FullDescription, TitleOnly
from bench.frames.efficiency import ABOUT
from bench.harness import timed_methods
from bench.harness.bench import Bench
from bench.harness.settings import Settings
from bench.harness.timing import Timing, efficiency_cell, run_timed, user_groups
from bench.harness.workspace import Workspace
from bench.meters import turns
from bench.meters.energy import Energy, EnergyMeter
from bench.meters.turns import ALONE, BATCH, Prompts, Session
from bench.store.cell import Cell
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.segments import Representation
from illmrec.prompts.tokens import tokenise_items

N_ITEMS = 30
HISTORIES = [np.arange(start, start + 4) for start in range(5)]


@pytest.fixture(scope="module")
def backbone(tiny_llm: Path) -> Backbone:
    return load_backbone(str(tiny_llm), dtype="float32")


def model(backbone: Backbone, representation: Representation, *, width: int = 8) -> ILLMRec:
    items = pd.DataFrame(
        {"title": [f"mug {i}" for i in range(N_ITEMS)], "description": ["a red lamp " * 9] * N_ITEMS}
    )
    features = np.random.default_rng(0).normal(size=(N_ITEMS, width)).astype(np.float32)
    tokenised = tokenise_items(items, representation, backbone.tokenizer, present={})
    prompts = PromptBuilder(items=tokenised, tokenizer=backbone.tokenizer)
    built = ILLMRec(backbone=backbone, prompts=prompts, features={"text": features}, heads=("text",))
    return built.eval()


def prompts(built: ILLMRec, *, context: int | None = None, batch_users: int = 2) -> Prompts:
    builder = built.prompts if context is None else built.prompts.with_context(context)
    return Prompts(name="some", model=built, builder=builder, histories=HISTORIES, batch_users=batch_users)


def test_every_block_runs_everything_once_in_another_order(backbone: Backbone) -> None:
    title, described = model(backbone, TitleOnly()), model(backbone, FullDescription())
    session = Session({"a": prompts(title), "b": prompts(described)}, repeats=3, progress=False)
    session.run()
    both = pd.concat({key: session.timings(key) for key in "ab"}, names=["key"]).reset_index("key")
    for _, block in both.groupby("repeat"):
        assert sorted(block["order"]) == list(range(len(block)))
        assert block.groupby(["key", "kind"]).size().to_dict() == {
            ("a", ALONE): 5, ("a", BATCH): 1, ("b", ALONE): 5, ("b", BATCH): 1,
        }  # fmt: skip
    orders = [tuple(block.sort_values("order")["key"]) for _, block in both.groupby("repeat")]
    assert len(set(orders)) == 3
    # Neither is run as one piece.
    assert all((np.array(order[1:]) != np.array(order[:-1])).sum() > 2 for order in orders)
    assert (both.loc[both["kind"] == ALONE, "users"] == 1).all()
    assert (both.loc[both["kind"] == BATCH, "users"] == 2).all()


def test_the_order_is_that_of_the_seed(backbone: Backbone) -> None:
    title = model(backbone, TitleOnly())

    def order(seed: int) -> list[tuple[str, int]]:
        session = Session({"a": prompts(title)}, repeats=2, seed=seed, progress=False)
        session.run()
        timed = session.timings("a").sort_values(["repeat", "order"])
        return list(zip(timed["kind"], timed["number"], strict=True))

    assert order(1) == order(1) != order(2)


def test_the_same_prompts_are_run_once(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    title = model(backbone, TitleOnly())
    runs: list[int] = []
    score = title.score
    monkeypatch.setattr(title, "score", lambda histories, **k: runs.append(1) or score(histories, **k))
    given = {
        "loose": prompts(title, context=500),
        "looser": prompts(title, context=600),
        "tight": prompts(title, context=90),
    }
    session = Session(given, repeats=2, progress=False)
    session.run()
    assert session.timed_as == {"loose": "loose", "looser": "loose", "tight": "tight"}
    # Two works: a block that is not counted, a run for memory, then two blocks, each alone and in a batch.
    assert len(runs) == 2 * (1 + 3 * (5 + 1))
    pd.testing.assert_frame_equal(session.timings("loose"), session.timings("looser"))
    results = {key: session.results(key, peak_gflops=1.0) for key in given}
    assert results["loose"]["latency_ms_median"] == results["looser"]["latency_ms_median"]
    assert results["tight"]["prompt_tokens"] < results["loose"]["prompt_tokens"]
    assert len({found["session"] for found in results.values()}) == 1


def test_energy_of_batches_is_read_where_counters_can_be(backbone: Backbone) -> None:
    measured: list[str] = []

    class Meter(EnergyMeter):
        """Says that a batch took 6 J."""

        def measure(self, block, *, seconds: float = 0.0) -> Energy:
            block()
            measured.append("batch")
            return Energy(joules=6.0, read="cpu", runs=3)

    given = {"a": prompts(model(backbone, TitleOnly()), batch_users=2)}
    session = Session(given, repeats=1, progress=False, energy=Meter(None, "cpu"))
    session.run()
    found = session.results("a", peak_gflops=1.0)
    assert measured == ["batch"] and (found["joules_per_user"], found["energy_read"]) == (3.0, "cpu")
    without = Session(given, repeats=1, progress=False)
    without.run()
    assert "joules_per_user" not in without.results("a", peak_gflops=1.0)


def test_latency_is_of_users_and_blocks() -> None:
    # Users 0 and 1 in three blocks, in seconds; the last block is slow for everyone.
    seconds = np.array([[0.010, 0.030], [0.012, 0.032], [0.020, 0.060]])
    rows = [
        {"repeat": repeat, "number": user, "seconds": seconds[repeat, user]}
        for repeat in range(3)
        for user in range(2)
    ]
    found = turns.latency(pd.DataFrame(rows))
    blocks = np.array([20.0, 22.0, 40.0])
    assert found["latency_ms_median"] == pytest.approx((20 * 22 * 40) ** (1 / 3))
    logs = np.log(blocks)
    ends = np.exp(stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs)))
    assert (found["latency_ms_low"], found["latency_ms_high"]) == pytest.approx(tuple(ends))
    assert found["latency_ms_p95_users"] == pytest.approx(np.quantile([12.0, 32.0], 0.95))
    assert found["latency_ms_p95_repeats"] == pytest.approx(np.quantile(blocks, 0.95))
    once = turns.latency(pd.DataFrame(rows[:2]))
    assert once["latency_ms_low"] is None and once["latency_ms_high"] is None


@pytest.mark.parametrize(("asked", "had"), [(2, 2), (9, 5)])
def test_throughput_is_that_of_the_batch(backbone: Backbone, asked: int, had: int) -> None:
    given = {"a": prompts(model(backbone, TitleOnly()), batch_users=asked)}
    session = Session(given, repeats=3, progress=False)
    session.run()
    timed = session.timings("a")
    found = session.results("a", peak_gflops=1.0)
    assert found["batch_users"] == had and found["users"] == 5
    median = timed.loc[timed["kind"] == BATCH, "seconds"].median()
    assert found["users_per_second"] == pytest.approx(had / median)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_memory_of_one_method_is_not_that_of_another(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    needs = {"a": 4, "b": 160}
    given = {}
    for name in order:
        built = model(backbone, TitleOnly(), width=8 if name == "a" else 4096)

        def score(histories: list[np.ndarray], *, catalogue: object, megabytes: int = needs[name]) -> None:
            np.ones(megabytes * 125_000, dtype=np.float64).sum()

        monkeypatch.setattr(built, "score", score)
        given[name] = prompts(built)
    session = Session(given, repeats=1, progress=False)
    session.run()
    results = {name: session.results(name, peak_gflops=1.0) for name in given}
    parameters = sum(p.numel() for p in backbone.model.parameters())
    for found in results.values():
        assert found["weights_mb"] == pytest.approx(4e-6 * parameters, rel=0.02)
        assert found["peak_memory_mb"] == pytest.approx(
            found["weights_mb"] + found["features_mb"] + found["activations_mb"]
        )
    assert results["b"]["activations_mb"] == pytest.approx(160, rel=0.1)
    assert results["a"]["activations_mb"] < 20
    # 30 rows and the layer norm, the first layer and the mean of 4,096 more columns, float32.
    more = 4e-6 * (4096 - 8) * (N_ITEMS + 512 + 2 + 1)
    assert results["b"]["features_mb"] - results["a"]["features_mb"] == pytest.approx(more, rel=0.01)


@pytest.fixture
def workspace(tiny_llm: Path, tmp_path: Path) -> Workspace:
    settings = Settings(
        preset="smoke", llm=str(tiny_llm), layers=1, dtype="float32", out=tmp_path / "out", progress=False
    )
    return Workspace(settings.resolved())


TIMING = Timing(group_users=6, batch_users=3, repeats=2)


def test_the_same_users_are_read_at_every_length(workspace: Workspace) -> None:
    groups = user_groups(workspace, [20, 2, 5], TIMING)
    assert list(groups) == [2, 5, 20]
    assert len({tuple(users) for users in groups.values()}) == 1
    assert (workspace.dataset.lengths[groups[2]] - 1 >= 20).all() and len(groups[2]) == 6
    with pytest.raises(InputError, match=r"--lengths 10000: 0 users .*; leave that length out$"):
        user_groups(workspace, [2, 10_000], TIMING)


def test_defaults_are_twenty_users(workspace: Workspace) -> None:
    assert Timing().resolved("small") == Timing(group_users=20, batch_users=4, repeats=3)
    assert Timing().resolved("smoke") == Timing(group_users=4, batch_users=2, repeats=2)
    with pytest.raises(InputError, match="--repeats 0"):
        Timing(repeats=0)


def test_threads_are_part_of_the_key(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = user_groups(workspace, [2], TIMING)
    keys = set()
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        keys.add(efficiency_cell(workspace, "title", 2, groups[2], timing=TIMING).key)
    assert len(keys) == 2


def test_no_table_is_read_with_a_session_as_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for drawn in ("9248567317e8", "123456789012"):
        monkeypatch.setattr(turns.uuid, "uuid4", lambda drawn=drawn: uuid.UUID(drawn.ljust(32, "0")))
        session = Session({}, repeats=1, progress=False)
        pd.DataFrame({"session": [session.id]}).to_csv(tmp_path / "table.csv", index=False)
        assert pd.read_csv(tmp_path / "table.csv")["session"].tolist() == [session.id]


def test_what_is_missing_is_timed_in_one_session(
    workspace: Workspace,
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def built(place: Workspace, representation: str, **options: object) -> ILLMRec:
        found = model(place.backbone, TitleOnly() if "Title" in representation else FullDescription())
        # As many items as the data have.
        found.prompts = PromptBuilder(
            items=tokenise_items(place.dataset.items, TitleOnly(), backbone.tokenizer, present={}),
            tokenizer=backbone.tokenizer,
        )
        return found

    monkeypatch.setattr(timed_methods, "untrained_model", built)
    groups = user_groups(workspace, [2, 3], TIMING)
    cells = [
        efficiency_cell(workspace, name, length, groups[length], timing=TIMING)
        for name in ("title", "full-description")
        for length in groups
    ]

    def time(cells: list[Cell], **changes: Any) -> set[str]:
        bench = Bench(ABOUT, replace(workspace.settings, **changes))
        return {record.results["session"] for record in run_timed(bench, cells, lambda cell: workspace)}

    assert len(time(cells[:3])) == 1
    assert "timings are there from before" not in caplog.text
    assert len(time(cells)) == 2
    assert "3 of 4 timings are there from before" in caplog.text and "--overwrite always" in caplog.text
    assert len(time(cells, overwrite="always")) == 1
