"""Energy and money of 1,000 users against sums by hand, and keys that no price changes."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest

from bench.frames import efficiency, preparation
from bench.frames.costs import energy_note, spent, unknown_costs, user_costs
from bench.frames.energy import assumed_watts, gpu_watts
from bench.frames.pricing import Pricing
from bench.store.cell import Cell, Record
from bench.store.store import Store

TWO_CORES = {"cpu": "a CPU", "cores": 2, "gpus": []}
EURO = Pricing(price_per_hour=0.36, currency="EUR")


def timed(
    store: Store, method: str = "illmrec", *, rate: float = 20.0, machine=TWO_CORES, device="cpu", **results
) -> Record:
    config = {"method": method, "seed": 0, "machine": machine, "device": device, "history_length": 10}
    cell = Cell(experiment="efficiency", version=4, config=config, method=method, seed=0, dataset={})
    results = {"method": method, "history_length": 10, "users_per_second": rate, **results}
    return store.write(cell, results, seconds=90.0)


def on(record: Record, machine) -> Record:
    """Return a record as of another machine."""
    return replace(record, machine=machine, config={**record.config, "machine": machine})


def test_an_estimate_by_hand(tmp_path) -> None:
    # 20 users a second: 50 s for 1,000; two cores draw 7 W, that is 350 J; an hour costs 0.36.
    record = on(timed(Store(tmp_path)), TWO_CORES)
    assert user_costs(record, EURO) == {
        "watts": 7.0,
        "energy_from": "estimated",
        "wh_per_1000_users": pytest.approx(350 / 3600),
        "cost_per_1000_users": pytest.approx(0.005),
        "currency": "EUR",
    }
    said = user_costs(record, Pricing(watts=36.0))
    assert said["wh_per_1000_users"] == pytest.approx(0.5), "50 s at 36 W are 1,800 J"
    assert math.isnan(said["cost_per_1000_users"]) and said["currency"] == ""
    assert "time times 7 W, assumed from cores" in energy_note([record], EURO)
    assert "time times 36 W, assumed as --watts says" in energy_note([record], Pricing(watts=36.0))


def test_what_counters_read_comes_before_what_is_assumed(tmp_path) -> None:
    record = on(timed(Store(tmp_path), joules_per_user=0.72, energy_read="cpu+dram"), TWO_CORES)
    found = user_costs(record, Pricing(watts=1000.0))
    # 0.72 J a user are 720 J for 1,000, in 50 s: 14.4 W.
    assert found["wh_per_1000_users"] == pytest.approx(0.2) and found["watts"] == pytest.approx(14.4)
    assert found["energy_from"] == "measured: cpu+dram"
    assert energy_note([record], EURO) == "Energy is measured by counters (cpu+dram)."


def test_a_machine_whose_power_is_not_known_has_no_energy(tmp_path) -> None:
    record = on(timed(Store(tmp_path), device="cuda"), {"cores": 4, "gpus": ["Some Accelerator 9"]})
    found = user_costs(record, EURO)
    assert math.isnan(found["wh_per_1000_users"]) and found["energy_from"] == ""
    assert found["cost_per_1000_users"] == pytest.approx(0.005), "money needs no power"
    assert "give its power with --watts" in energy_note([record], EURO)
    assert energy_note([], EURO) == ""


def test_the_power_of_a_machine() -> None:
    gpu = {"cores": 8, "gpus": ["NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"]}
    assert assumed_watts(gpu, device="cpu") == 28.0
    assert assumed_watts(gpu, device="cuda:1") == 728.0, "cores and the one GPU that works"
    assert assumed_watts({}, device="cpu") is None and assumed_watts(gpu, device="mps") is None
    names = {"NVIDIA H100 PCIe": 350.0, "Tesla T4": 71.0, "NVIDIA A100-SXM4-40GB": 407.0, "NVIDIA A10G": 153.0,
             "NVIDIA A10": 150.0, "NVIDIA GeForce RTX 4090": 450.0, "NVIDIA GB999": None}  # fmt: skip
    assert {name: gpu_watts(name) for name in names} == names


def test_another_price_needs_no_new_run(tmp_path) -> None:
    store = Store(tmp_path)
    record = on(timed(store), TWO_CORES)
    cheap, dear = (efficiency.frame([record], Pricing(price_per_hour=p, currency="USD")) for p in (1.0, 3.0))
    assert tuple(cheap.columns) == efficiency.COLUMNS
    assert dear["cost_per_1000_users"].item() == pytest.approx(3 * cheap["cost_per_1000_users"].item())
    (stored,) = Store(tmp_path).records("efficiency")
    assert stored.key == record.key and "cost_per_1000_users" not in stored.results
    free = efficiency.frame([record])
    assert unknown_costs(free) == ["cost_per_1000_users", "currency"] and unknown_costs(cheap) == []


def test_what_experiments_have_taken(tmp_path) -> None:
    store = Store(tmp_path)
    records = [on(timed(store, method), TWO_CORES) for method in ("illmrec", "trsr")]
    table = spent(records, EURO)
    # Two cells of 90 s: 0.05 h, at 7 W 0.35 Wh, at 0.36 an hour 0.018.
    assert table.to_dict("records") == [
        {
            "experiment": "efficiency",
            "cells": 2,
            "hours": pytest.approx(0.05),
            "wh": pytest.approx(0.35),
            "cost": pytest.approx(0.018),
            "currency": "EUR",
        }
    ]
    unknown = [records[0], on(records[1], {"gpus": []})]
    assert math.isnan(spent(unknown, EURO)["wh"].item()), "a sum without what is not known would be too low"


def test_from_which_user_on_what_is_made_once_has_paid(tmp_path) -> None:
    store = Store(tmp_path)
    timings = [
        timed(store, method, rate=rate, latency_ms_median=latency)
        for method, rate, latency in (("illmrec", 50.0, 9.0), ("trsr", 10.0, 9.0), ("tallrec", 40.0, 9.0))
    ]
    kinds = pd.DataFrame(
        {"kind": ["image", "summary"], "seconds": [99.9999, 40.0], "encoder": ["e", "the-llm"]}
    )
    table = preparation.break_even(kinds, timings, pricing=EURO).set_index("against")
    trsr, tallrec = table.loc["trsr"], table.loc["tallrec"]
    # 0.0001 a second. Images 0.01, summaries 0.004; a user 0.000002 against 0.00001: 0.006 / 0.000008 = 750.
    assert trsr["preparation_cost"] == pytest.approx(0.01, rel=1e-5)
    assert trsr["against_preparation_cost"] == pytest.approx(0.004)
    assert trsr["cost_per_1000_users"] == pytest.approx(0.002) and trsr["cheaper_from"] == 750
    assert tallrec["cheaper_from"] == 20_000 and pd.isna(tallrec["dearer_from"])
    assert pd.isna(trsr["ahead_from"]) and trsr["behind_from"] == 0, "alone they are as fast"
    none = preparation.break_even(kinds, timings).set_index("against")
    assert none["cheaper_from"].isna().all() and none["cost_per_1000_users"].isna().all()
    served = kinds.assign(encoder=["e", "a-model at example.org/v1"])
    asked = preparation.break_even(served, timings, pricing=EURO).set_index("against")
    assert pd.isna(asked.loc["trsr", "cheaper_from"]), "what a server asks for is not known"
    assert asked.loc["tallrec", "cheaper_from"] == 20_000
