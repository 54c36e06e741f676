"""The printed table of the ablation: spread over seeds and paired tests between rows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import ablation
from bench.cell import Cell, Record
from bench.metrics import summarise
from bench.results import accuracy_rows
from bench.store import Store


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
    differences = []
    for user in range(5):
        seeds = [0] if user == 2 else [0, 1]
        means = {row: np.mean([gain(ranks[row, seed][user]) for seed in seeds]) for row in "ae"}
        differences.append(means["a"] - means["e"])
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=5)]
    exact = np.mean([flip >= abs(sum(differences)) - 1e-12 for flip in flips])
    found = ablation.significance(rows, store)
    assert set(found) == {("a", "sampled"), ("a", "full")}
    assert found["a", "sampled"] == pytest.approx(exact, abs=0.02)
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
