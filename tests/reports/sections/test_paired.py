"""Users whom two methods have in common."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.sections.paired import Ranks

FULL = {"seeds": (0,), "risa": True, "features": ("image", "cf", "text")}


def test_no_common_seed_has_no_pairs(filler) -> None:
    first = filler.accuracy("illmrec", 0.4, **FULL)
    second = filler.accuracy("tallrec", 0.3, seeds=(1,), risa=True, features=("image",))
    assert Ranks(filler.store).paired(first, second) is None
    assert Ranks(filler.store).paired(first, first, users=["nobody"]) is None


def test_users_that_only_one_method_ranked_are_left_out(filler) -> None:
    (first,) = filler.accuracy("illmrec", 0.4, **FULL)
    (second,) = filler.accuracy("tallrec", 0.3, **FULL)
    ranks = pd.read_parquet(second.folder / "ranks.parquet").iloc[::-1].head(150)
    ranks.to_parquet(second.folder / "ranks.parquet")
    both = Ranks(filler.store).paired([first], [second])
    assert both.index.names == ["seed", "user_id"] and set(both.index.get_level_values(0)) == {0}
    both = both.droplevel("seed")
    assert set(both.index) == set(ranks["user_id"])
    expected = np.where(ranks["rank_sampled"] <= 10, 1 / np.log2(1 + ranks["rank_sampled"]), 0)
    assert both["second"].loc[ranks["user_id"]].to_numpy() == pytest.approx(expected)
