"""The printed table of the ablation: spread over seeds and paired tests between rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from vision_models import save_model

from bench import ablation
from bench.frames.selection import accuracy_rows
from bench.harness import methods
from bench.harness.methods import REPRESENTATIONS
from bench.protocol.metrics import summarise
from bench.protocol.statistics import paired_bootstrap
from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.training import CachedOptions, TrainingOptions


def write(store: Store, row: str, seed: int, sampled: list[int], users: list[str]) -> Record:
    risa, features = ablation.ROWS[row]
    config = {
        "method": "illmrec",
        "seed": seed,
        "dataset": {"name": "toys"},
        "risa": risa,
        "features": list(features),
    }
    full = [3 * rank for rank in sampled]
    results = {"users": len(users), "sampled": summarise(sampled), "full": summarise(full)}
    ranks = pd.DataFrame({"user_id": users, "rank_sampled": sampled, "rank_full": full})
    cell = Cell(experiment="accuracy", version=1, config=config, method="illmrec", seed=seed, dataset={})
    return store.write(cell, results, {"ranks": ranks}, seconds=1)


def gain(rank: int) -> float:
    return 1 / np.log2(1 + rank) if rank <= 10 else 0.0


def test_rows_are_tested_against_the_last_on_the_users_they_share(tmp_path: Path):
    store = Store(tmp_path)
    users = ["u1", "u2", "u3", "u4", "u5"]
    ranks = {
        ("a", 0): [9, 2, 40, 7, 30], ("a", 1): [8, 5, 50, 9, 3],
        ("e", 0): [1, 2, 3, 1, 2], ("e", 1): [2, 1, 4, 1, 20],
    }  # fmt: skip
    rows: dict[str, list[Record]] = {}
    for (row, seed), of_users in ranks.items():
        # Users are stored in another order, and one of them in no cell of row (a) of seed 1.
        order = [4, 2, 0, 1, 3] if row == "a" else range(5)
        kept = [user for user in order if (row, seed, user) != ("a", 1, 2)]
        record = write(store, row, seed, [of_users[user] for user in kept], [users[user] for user in kept])
        rows.setdefault(row, []).append(record)
    differences = [
        [
            np.nan if (seed, user) == (1, 2) else gain(ranks["a", seed][user]) - gain(ranks["e", seed][user])
            for user in range(5)
        ]
        for seed in (0, 1)
    ]
    found = ablation.significance(rows, store)
    assert set(found) == {("a", "sampled"), ("a", "full")}
    alone = paired_bootstrap(differences).p_value
    assert found["a", "sampled"] == pytest.approx(alone, abs=1e-6)
    # Another row doubles the p value of the same difference.
    twice = ablation.significance({**rows, "b": rows["a"]}, store)
    assert twice["a", "sampled"] == twice["b", "sampled"] == pytest.approx(min(1.0, 2 * alone), abs=1e-6)
    assert ablation.significance({"e": rows["e"]}, store) == {}


def test_the_printed_table_has_spread_only_over_several_seeds(tmp_path: Path):
    store = Store(tmp_path)
    rows = []
    values = []
    for seed, ranks in ((0, [1, 2, 30]), (1, [4, 5, 6])):
        record = write(store, "b", seed, ranks, ["x", "y", "z"])
        values.append(np.mean([gain(rank) for rank in ranks]))
        ticks = {"risa": True, "image": True, "cf": False, "text": False}
        rows += accuracy_rows(
            record, {"dataset": "toys", "method": "illmrec", "row": "b", **ticks, "seed": seed}
        )
    table = pd.DataFrame(rows)
    both = ablation._beside_paper(table, {("illmrec", "b", "sampled"): 0.25}).set_index("candidates")
    assert both.loc["sampled", "ndcg@10"] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    assert both.loc["sampled", "p, ndcg@10 vs (b)"] == 0.25
    assert np.isnan(both.loc["full", "p, ndcg@10 vs (b)"])
    one = ablation._beside_paper(table[table["seed"] == 0], {}).set_index("candidates")
    assert one.loc["sampled", "ndcg@10"] == pytest.approx(values[0])
    paper = [column for column in one.columns if column.startswith("Sport")]
    other = ablation._beside_paper(table.assign(method="tallrec"), {})
    assert other[paper].isna().all(axis=None), "the paper has rows of I-LLMRec alone"
    assert paper and one.loc["sampled", paper].notna().all() and one.loc["full", paper].isna().all()


def test_rows_a_and_b_of_a_method_without_slots_are_one_model(tmp_path: Path, tiny_llm: Path, capsys):
    arguments = [
        *("--preset", "smoke", "--max-steps", "1", "--batch-size", "4", "--validation-users", "0"),
        *("--users", "25", "--items", "250", "--min-interactions", "1", "--eval-users", "10"),
        *("--llm", str(tiny_llm), "--layers", "1", "--history-length", "3", "--vision"),
        *(str(save_model(tmp_path / "clip", "clip")), "--methods", "title", "--rows", "a,b"),
        *("--no-progress", "--no-report", "--out", str(tmp_path / "out")),
    ]
    assert run(ablation.main, prog="bench.ablation", args=arguments) == 0
    said = capsys.readouterr().err
    assert "title: no adaptor learns from RISA; rows (a) and (b) are one model" in said
    assert said.count("RISA is left out") == 1
    (record,) = Store(tmp_path / "out").records("accuracy")
    assert "frozen" in record.results["training"]["risa_left_out"]
    table = pd.read_csv(tmp_path / "out" / "tables" / "ablation.csv")
    one, other = (table[table["row"] == row].reset_index(drop=True) for row in "ab")
    assert one["risa"].tolist() == [False, False] and other["risa"].tolist() == [True, True]
    pd.testing.assert_frame_equal(one[list(ablation.METRICS)], other[list(ablation.METRICS)])


def test_only_a_method_with_slots_is_trained_with_and_without_risa():
    def learning(**options) -> set[str]:
        training = TrainingOptions(**options)
        return {method for method in REPRESENTATIONS if methods.learns_risa(method, training)}

    # Of mllm no adaptor stands between pictures and LLM.
    several = {"illmrec-2-tokens", "illmrec-4-tokens", "illmrec-8-tokens"}
    with_slots = {
        "illmrec",
        "illmrec+",
        "description-token",
        "cf-token",
        "a-llmrec",
        "unimp",
        "e4srec",
        *several,
    }
    assert learning() == with_slots
    assert learning(strategy="lora") == set(REPRESENTATIONS)
    assert learning(strategy="cached") == set(), "states are stored before anything is trained"
    assert learning(strategy="cached", cached=CachedOptions(warm_up=100)) == with_slots
