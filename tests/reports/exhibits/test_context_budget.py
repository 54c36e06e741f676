"""Accuracy within context budgets."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest
from stored import FULL, table

from reports.build import build_report


@pytest.fixture
def out(filler):
    return filler.store.out


def ndcg(record) -> float:
    rank = pd.read_parquet(record.folder / "ranks.parquet")["rank_sampled"].to_numpy()
    return float(np.where(rank <= 10, 1 / np.log2(1 + rank), 0).mean())


def test_context_budgets(filler, out) -> None:
    stored = {
        (method, budget): filler.accuracy(method, value, seeds=(0, 1), evaluation={"context": budget}, **FULL)
        for method, values in {"illmrec": (0.39, 0.4), "trsr": (0.2, 0.37)}.items()
        for budget, value in zip((256, 4096), values, strict=True)
    }
    filler.accuracy("illmrec", 0.4, **FULL)
    page = build_report(out).read_text(encoding="utf-8")
    found = table(filler, "figure4").set_index(["series", "x"])
    assert len(found) == 4
    for place, records in stored.items():
        values = [ndcg(record) for record in records]
        assert found.at[place, "mean"] == pytest.approx(statistics.mean(values))
        assert found.at[place, "stderr"] == pytest.approx(statistics.stdev(values) / math.sqrt(2))
    assert (out / "figures" / "figure4.svg").is_file()
    first, last = found.at[("trsr", 256), "mean"], found.at[("trsr", 4096), "mean"]
    assert f"TRSR (summary) {first:.4f} to {last:.4f} (+{last - first:.4f})" in page
