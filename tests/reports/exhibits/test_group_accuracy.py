"""Accuracy by groups of items and of users, and of users with unseen items."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from stored import FULL, table

from reports.build import build_report
from reports.sections.methods import FEATURE_LOOKS
from reports.sections.results import read_store


@pytest.fixture
def out(filler):
    return filler.store.out


def test_groups_of_items_and_users_and_unseen_items(filler, out) -> None:
    filler.ablation("bcd", seeds=(0,))
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    targets = pd.read_parquet(filler.popularity().folder / "targets.parquet").set_index("user_id")
    build_report(out)
    cf = next(r for r in read_store(filler.store) if r.config.get("features") == ["cf"])
    ranks = pd.read_parquet(cf.folder / "ranks.parquet").set_index("user_id")["rank_sampled"]
    gain = pd.Series(np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0), index=ranks.index)
    figure6 = table(filler, "figure6").set_index(["series", "x"])
    assert set(figure6.index.get_level_values("series")) == set(FEATURE_LOOKS) - {"all"}
    coldest = gain[targets.loc[gain.index, "item_group"] == 1].mean()
    assert figure6.at[("cf", 1), "mean"] == pytest.approx(coldest)
    unseen = gain[targets.loc[gain.index, "target_frequency"] == 0].mean()
    assert table(filler, "table_unseen").set_index(["series", "x"]).at[
        ("cf", "unseen"), "mean"
    ] == pytest.approx(unseen)
    assert table(filler, "figure11")["x"].nunique() == 5
