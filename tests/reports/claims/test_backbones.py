"""LLMs and vision encoders of the grid."""

from __future__ import annotations

import pytest
from stored import grid, mean, verdicts

from reports.claims.rules import BORNE_OUT


def test_larger_llms_and_siglip_are_more_accurate(filler) -> None:
    stored = grid(filler)
    claims = verdicts(filler)
    assert (
        claims.at["larger-llm", "verdict"] == BORNE_OUT
        and claims.at["siglip-over-clip", "verdict"] == BORNE_OUT
    )
    difference = mean(stored["large", "efficientnet-lite0"]) - mean(stored["small", "efficientnet-lite0"])
    assert claims.at["larger-llm", "estimate"] == pytest.approx(difference)
