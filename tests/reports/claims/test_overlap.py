"""Cosines of pictures and descriptions."""

from __future__ import annotations

import pytest
from stored import cosines, verdicts

from reports.claims.rules import BORNE_OUT


def test_the_own_description_is_closer(filler) -> None:
    pairs = cosines(filler)
    claims = verdicts(filler)
    assert claims.at["overlap", "verdict"] == BORNE_OUT
    assert claims.at["overlap", "estimate"] == pytest.approx((pairs["matched"] - pairs["shuffled"]).mean())
