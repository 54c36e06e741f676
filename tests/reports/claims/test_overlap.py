"""Cosines of pictures and descriptions."""

from __future__ import annotations

import pytest
from stored import cosines, verdicts

from reports.claims.rules import BORNE_OUT, UNTESTED


def test_the_own_description_is_closer(filler) -> None:
    pairs = cosines(filler)
    claims = verdicts(filler)
    assert claims.at["overlap", "verdict"] == BORNE_OUT
    judged = pairs[pairs["same_category"]]
    assert 0 < len(judged) < len(pairs)
    assert claims.at["overlap", "estimate"] == pytest.approx((judged["matched"] - judged["shuffled"]).mean())


def test_cosines_with_items_of_any_category_decide_nothing(filler) -> None:
    pairs = cosines(filler).assign(same_category=False)
    (record,) = filler.store.records("overlap")
    pairs.to_parquet(record.folder / "similarities.parquet")
    assert verdicts(filler).get("verdict", {}).get("overlap", UNTESTED) == UNTESTED
