"""LLMs and vision encoders of the grid."""

from __future__ import annotations

import pytest
from stored import grid, mean, verdicts

from reports.claims.claims import HOLDS


def test_larger_llms_and_siglip_are_more_accurate(filler) -> None:
    stored = grid(filler)
    claims = verdicts(filler)
    assert claims.at["larger-llm", "verdict"] == HOLDS and claims.at["siglip-over-clip", "verdict"] == HOLDS
    difference = mean(stored["large", "efficientnet-lite0"]) - mean(stored["small", "efficientnet-lite0"])
    assert claims.at["larger-llm", "estimate"] == pytest.approx(difference)
