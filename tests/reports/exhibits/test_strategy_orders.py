"""Whether methods come in the same order however they are trained."""

from __future__ import annotations

import numpy as np
import pytest
from stored import section_of, trained

from bench.protocol.metrics import by_user
from reports.exhibits.strategy_orders import exhibits


def cells(filler, method: str, ndcg: float, strategy: str, seeds=(0, 1, 2)):
    if strategy == "frozen":
        return trained(filler, ndcg, method=method, seeds=seeds)
    variant = {"kind": "training-strategy", "strategy": strategy}
    training = {"strategy": strategy, "epochs": 3}
    return trained(filler, ndcg, method=method, variant=variant, training=training, seeds=seeds)


def test_an_order_that_turns_is_told_from_one_that_stays(filler) -> None:
    stored = {
        (method, strategy): cells(filler, method, ndcg, strategy)
        for method, strategy, ndcg in (
            ("illmrec", "frozen", 0.60),
            ("tallrec", "frozen", 0.30),
            ("title", "frozen", 0.10),
            ("illmrec", "cached", 0.30),
            ("tallrec", "cached", 0.60),
            ("title", "cached", 0.10),
        )
    }
    section = section_of(filler)
    (exhibit,) = exhibits(section)
    (table,) = (table.data for table in exhibit.tables)
    rows = table[table["candidates"] == "sampled"].set_index(["first", "second"])
    assert rows["order"].to_dict() == {
        ("title", "tallrec"): "the same",
        ("title", "illmrec"): "the same",
        ("tallrec", "illmrec"): "opposite",
    }

    def ndcg(method: str, strategy: str) -> float:
        found = [by_user(filler.store.read_frame(r, "ranks"), "sampled") for r in stored[method, strategy]]
        return float(np.mean([values.mean() for values in found]))

    row = rows.loc[("tallrec", "illmrec")]
    joint = ndcg("tallrec", "frozen") - ndcg("illmrec", "frozen")
    other = ndcg("tallrec", "cached") - ndcg("illmrec", "cached")
    assert row["joint"] == pytest.approx(joint) and row["other"] == pytest.approx(other)
    assert row["change"] == pytest.approx(other - joint) and row["change_low"] > 0
    assert row["seeds"] == 3
    assert "opposite in 2" in exhibit.reading and "TALLRec (attributes) against I-LLMRec" in exhibit.reading


def test_runs_that_not_all_have_are_left_out(filler) -> None:
    for method in ("illmrec", "tallrec"):
        cells(filler, method, 0.4, "frozen", seeds=(0, 1, 2))
        cells(filler, method, 0.4, "cached", seeds=(1, 2, 3))
    (exhibit,) = exhibits(section_of(filler))
    (table,) = (table.data for table in exhibit.tables)
    assert set(table["seeds"]) == {2} and set(table["order"]) == {"cannot be told"}


def test_one_method_or_one_strategy_has_no_order(filler) -> None:
    cells(filler, "illmrec", 0.4, "frozen")
    cells(filler, "illmrec", 0.4, "cached")
    cells(filler, "tallrec", 0.4, "frozen")
    assert exhibits(section_of(filler)) == []
