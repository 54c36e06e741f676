"""What experiments would cost: time by the work that their cells name, energy and money beside it."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from bench.harness.accuracy import accuracy_cell
from bench.harness.methods import RECBOLE
from bench.harness.plan import Plan, Planned, Work
from bench.harness.settings import Settings
from bench.harness.timing import Timing, cost_groups, efficiency_cell
from bench.harness.workspace import Workspace
from bench.store.cell import Cell
from bench.store.store import Store
from bench.suite import collaborative, listing
from bench.suite.catalogue import chosen, experiments
from bench.suite.estimate import Estimate
from bench.suite.probe import Probe, item_tokens
from bench.suite.words import energy_in_words, in_words, money_in_words
from illmrec.command_line import run
from illmrec.training import CachedOptions, TrainingOptions


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "about 5 s"),
        (42, "about 40 s"),
        (720, "about 12 min"),
        (5000, "about 83 min"),
        (9000, "about 2.5 h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds, words):
    assert in_words(seconds) == words


def test_energy_and_money_are_read_at_a_glance():
    energy = {0.0: "0 Wh", 0.0351: "0.035 Wh", 12.34: "12 Wh", 999.0: "1,000 Wh", 3456.0: "3.5 kWh"}
    assert {value: energy_in_words(value) for value in energy} == energy
    money = {0.0: "0 EUR", 0.004: "below 0.01 EUR", 0.0449: "0.045 EUR", 131.0: "130 EUR"}
    assert {value: money_in_words(value, "EUR") for value in money} == money


PROBE = Probe(
    peak_gflops=100.0,
    read=1000.0,
    read_alone=250.0,
    train=500.0,
    depth=15.0,
    token_bytes=1e5,
    base_bytes=1e9,
    fixed_tokens=40,
    branch_tokens=10,
    picture_seconds=0.02,
    start_seconds=7.0,
)


@pytest.fixture
def workspace(tiny_llm, tmp_path) -> Workspace:
    given = Settings(preset="smoke", llm=str(tiny_llm), eval_users=1000, out=tmp_path, seeds=(0,))
    return Workspace(given.resolved())


def plan(workspace: Workspace, *cells: Cell, **work) -> Plan:
    made = Plan(cells=[Planned(cell=cell, place=workspace) for cell in cells])
    made.besides += [Work(**work)] if work else []
    return made


def test_a_model_is_counted_once_and_a_stored_one_not_at_all(workspace, tmp_path):
    store = Store(tmp_path)
    estimate = Estimate(workspace, PROBE, store)
    cell = accuracy_cell(workspace, "illmrec", seed=0, features=("image", "text"))
    first = estimate.cost(plan(workspace, cell)).seconds
    assert estimate.cost(plan(workspace, cell)).seconds == PROBE.start_seconds < first
    # Evaluated on less of the history: the model is there, and its prompts are shorter.
    shorter = accuracy_cell(workspace, "illmrec", seed=0, features=("image", "text"), history_length=2)
    read = estimate.cost(plan(workspace, shorter)).seconds - PROBE.start_seconds
    tokens = 40 + 2 * item_tokens(workspace, "illmrec")
    assert read == pytest.approx(workspace.dataset.n_users * tokens / PROBE.read)
    store.write(cell, {}, seconds=1)
    assert Estimate(workspace, PROBE, store).cost(plan(workspace, cell)).seconds == PROBE.start_seconds


def test_joint_training_reads_histories_of_words_twice_in_all(workspace, tmp_path):
    def seconds(method: str, epochs: int) -> float:
        options = TrainingOptions(epochs=epochs, targets="all", loss="bce", batch_size=16)
        cell = accuracy_cell(workspace, method, seed=0, features=("image",), training=options)
        measured = dataclasses.replace(PROBE, picture_seconds=0.0)
        return Estimate(workspace, measured, Store(tmp_path)).cost(plan(workspace, cell)).seconds

    def later(method: str) -> float:
        return seconds(method, 10) - seconds(method, 8)

    lengths = workspace.split.history_lengths("valid") - 1
    workspace.settings = dataclasses.replace(workspace.settings, history_length=int(lengths.max()))
    assert later("title") == pytest.approx(later("full-description")), (
        "whole in every epoch, and known by then"
    )
    assert later("illmrec+") > 1.5 * later("illmrec"), "what an adaptor learns from is read again"
    workspace.settings = dataclasses.replace(workspace.settings, history_length=int(np.median(lengths)) - 2)
    assert later("title") < later("full-description"), "windows of long histories are drawn anew"


def test_models_without_an_llm_take_what_they_take_beside_sasrec(workspace, tmp_path):
    def seconds(method: str, **probe: float) -> float:
        measured = dataclasses.replace(PROBE, picture_seconds=0.0, **probe)
        estimate = Estimate(workspace, measured, Store(tmp_path))
        cell = accuracy_cell(workspace, method, seed=0)
        return estimate.cost(plan(workspace, cell)).seconds - PROBE.start_seconds

    sasrec = seconds("sasrec")
    assert seconds("bert4rec") == pytest.approx(3.7 * sasrec), "a window is read for each fifth of it"
    assert set(collaborative._BESIDE_SASREC) == set(RECBOLE), "none is left out"
    # 4 FLOPs a weight: 1280 x 33 for a pair of VBPR, 1664 x 64 for one of BM3, at 15 % of 100 GFLOP/s, two epochs.
    pairs = int(np.maximum(workspace.dataset.lengths - 2, 0).sum())
    assert seconds("vbpr") == pytest.approx(2 * pairs * 4 * 1280 * 33 / 15e9)
    assert seconds("bm3") == pytest.approx(2 * pairs * 4 * 1664 * 64 / 15e9)
    assert seconds("vbpr", peak_gflops=200.0) == pytest.approx(seconds("vbpr") / 2)


def test_pictures_that_a_vision_language_model_reads_take_its_time(workspace, tmp_path):
    measured = dataclasses.replace(PROBE, picture_seconds=0.02, reading_seconds=0.5)
    estimate = Estimate(workspace, measured, Store(tmp_path))
    timing = Timing(group_users=6, batch_users=3, repeats=2)
    ((length, users),) = cost_groups(workspace, timing).items()
    mllm, ours = (
        efficiency_cell(workspace, name, length, users, timing=timing) for name in ("mllm", "illmrec")
    )
    estimate.cost(plan(workspace, ours))  # pooled features are there then
    content = estimate._content(mllm, workspace)
    assert content == pytest.approx(workspace.dataset.n_items * 0.5)
    assert estimate._content(mllm, workspace) == 0


def test_projectors_on_stored_states_are_counted_once_for_each_feature_type(workspace, tmp_path):
    estimate = Estimate(workspace, PROBE, Store(tmp_path))

    def seconds(*heads: str, warm_up: int = 0) -> float:
        training = TrainingOptions(strategy="cached", loss="ce", cached=CachedOptions(warm_up=warm_up))
        cell = accuracy_cell(workspace, "tallrec", seed=0, features=heads, training=training)
        return estimate.cost(plan(workspace, cell)).seconds - PROBE.start_seconds

    seconds("image")
    text = seconds("text")
    assert seconds("image", "text") == 0 < text
    # A warm-up trains through the heads: its states are those of no other heads.
    assert seconds("image", "text", warm_up=64) > text


@pytest.mark.parametrize(("method", "shared"), [("tallrec", True), ("illmrec", False)])
def test_histories_of_words_on_stored_states_are_read_once_for_all_seeds(workspace, tmp_path, method, shared):
    training = TrainingOptions(strategy="cached", loss="ce", cached=CachedOptions())
    cells = [
        accuracy_cell(workspace, method, seed=seed, features=("text",), training=training) for seed in (0, 1)
    ]
    estimate = Estimate(workspace, PROBE, Store(tmp_path))
    first, second = (estimate.cost(plan(workspace, cell)).seconds - PROBE.start_seconds for cell in cells)
    assert second < first / 2 if shared else second == pytest.approx(first, rel=0.2)


def test_writing_takes_the_tokens_of_trunks_candidates_and_beams(workspace, tmp_path):
    estimate = Estimate(workspace, PROBE, Store(tmp_path))
    cell = accuracy_cell(workspace, "lc-rec", seed=0)
    first = estimate.cost(plan(workspace, cell)).seconds
    # The same model with other beams: it is not trained again.
    config = {**cell.config, "evaluation": {**cell.config["evaluation"], "beams": 10}}
    read = (
        estimate.cost(plan(workspace, dataclasses.replace(cell, config=config))).seconds - PROBE.start_seconds
    )
    trunks = sum(4 * min(10, length - 1) for length in workspace.dataset.lengths)
    written = 3 * (workspace.settings.negatives + 1 + 10) * workspace.dataset.n_users
    assert read == pytest.approx((2 * trunks + written) / PROBE.read)
    assert first - PROBE.start_seconds > read


def test_words_take_more_tokens_than_fewer_words_and_beams_more_than_none(workspace, tmp_path):
    def seconds(method: str, **parameters: int) -> float:
        cell = accuracy_cell(workspace, method, seed=0, parameters=parameters)
        return Estimate(workspace, PROBE, Store(tmp_path)).cost(plan(workspace, cell)).seconds

    assert seconds("idgenrec", words=6) > seconds("idgenrec", words=2) > PROBE.start_seconds
    assert seconds("tiger", epochs=4) - seconds("tiger", epochs=2) == pytest.approx(
        seconds("tiger", epochs=2) - PROBE.start_seconds
    )
    assert seconds("tiger", epochs=2, width=128) > 2 * seconds("tiger", epochs=2)


def test_evaluation_takes_the_tokens_of_all_prompts(workspace, tmp_path):
    lengths = [min(10, length - 1) for length in workspace.dataset.lengths]
    tokens = sum(40 + item_tokens(workspace, "tallrec") * length for length in lengths)
    for probe in (PROBE, dataclasses.replace(PROBE, read=500.0)):
        found = Estimate(workspace, probe, Store(tmp_path)).cost(plan(workspace, evaluated="tallrec"))
        assert found.seconds == pytest.approx(7.0 + tokens / probe.read)


def test_features_on_changed_data_are_made_where_they_change(workspace, tmp_path):
    estimate = Estimate(workspace, PROBE, Store(tmp_path))
    cell = accuracy_cell(workspace, "illmrec", seed=0, features=("image",))
    first = estimate.cost(plan(workspace, cell)).seconds
    changed = workspace.derive(variant={"kind": "changed", "of": workspace.dataset.fingerprint})
    other = accuracy_cell(changed, "illmrec", seed=0, features=("image",))
    pictures = workspace.dataset.n_items * PROBE.picture_seconds
    assert estimate.cost(plan(changed, other)).seconds == pytest.approx(first - pictures)


def test_prompts_are_timed_in_blocks_and_bounded_work_takes_its_bound(workspace, tmp_path):
    estimate = Estimate(workspace, PROBE, Store(tmp_path))
    timing = Timing(group_users=6, batch_users=3, repeats=2)
    ((length, users),) = cost_groups(workspace, timing).items()
    cell = efficiency_cell(workspace, "tallrec", length, users, timing=timing)
    pictures = workspace.dataset.n_items * PROBE.picture_seconds
    prompt = 40 + length * item_tokens(workspace, "tallrec")
    timed = 3 * 6 * prompt / PROBE.read_alone + 4 * 3 * prompt / PROBE.read
    found = estimate.cost(plan(workspace, cell, seconds=90.0)).seconds
    assert found == pytest.approx(7.0 + 90.0 + pictures + timed)


def test_memory_grows_with_the_logits_of_the_catalogue(workspace, tmp_path):
    bce, ce = (
        accuracy_cell(workspace, "illmrec", seed=0, training=TrainingOptions(loss=loss))
        for loss in ("bce", "ce")
    )
    small, large = (
        Estimate(workspace, PROBE, Store(tmp_path)).cost(plan(workspace, cell)).gigabytes
        for cell in (bce, ce)
    )
    assert 1.0 < small < large


def test_planning_computes_nothing_and_names_what_the_data_cannot_support(workspace, tmp_path, capsys):
    out = tmp_path / "nothing"
    settings = dataclasses.replace(workspace.settings, out=out)
    estimate, loaded = Estimate(workspace, PROBE, Store(out)), {}
    for experiment in experiments():
        cost, reason = listing.expected(experiment, settings, estimate, loaded)
        assert reason or cost.seconds >= PROBE.start_seconds, experiment.name
        assert not reason or not cost.seconds
    cost, reason = listing.expected(
        *(chosen(["user_activity"])[0], dataclasses.replace(settings, eval_users=40), estimate, loaded)
    )
    assert "40 users are evaluated and 5 groups of 10 are needed" in reason
    assert not out.exists() and not capsys.readouterr().out


def test_the_list_tells_energy_and_money_beside_time(tiny_llm, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(listing, "probe", lambda workspace: PROBE)
    table = tmp_path / "estimates.csv"
    args = [
        "--preset",
        "smoke",
        "--llm",
        str(tiny_llm),
        "--out",
        str(tmp_path),
        "--experiments",
        "token_cost",
    ]
    args += ["--table", str(table)]
    priced = ["--watts", "36", "--price-per-hour", "360", "--currency", "EUR"]
    assert run(listing.main, prog="bench list", args=[*args, *priced]) == 0
    (row,) = pd.read_csv(table).to_dict("records")
    assert row["watt_hours"] == pytest.approx(row["seconds"] / 100, rel=1e-3) and row["currency"] == "EUR"
    assert row["cost"] == pytest.approx(row["seconds"] / 10, rel=1e-3)
    shown = capsys.readouterr().out
    assert "Energy is time times 36 W, as --watts says." in shown and "at 360 EUR an hour" in shown
    assert re.search(r"Together about \d+ s, [0-9.]+ Wh, [0-9.]+ EUR", shown)
    assert run(listing.main, prog="bench list", args=args) == 0
    assert pd.read_csv(table)["cost"].isna().all() and "money" not in capsys.readouterr().out
