"""What a training strategy is compared with."""

from __future__ import annotations

import pytest
from stored import mean, strategies, trained, verdicts

from reports.claims.rules import BORNE_OUT


def test_a_strategy_is_compared_with_a_model_that_was_trained_as_long(filler) -> None:
    strategies(filler)
    newer = trained(filler, 0.9, training={"epochs": 30})
    assert mean(newer) > 0.7
    table = verdicts(filler)
    assert table.at["lora-gains", "verdict"] == BORNE_OUT


def test_lora_gains_and_two_stages_are_comparable(filler) -> None:
    stored = strategies(filler)
    table = verdicts(filler)
    assert table.at["lora-gains", "verdict"] == BORNE_OUT
    gain = mean(stored["lora"]) - mean(stored["frozen"])
    assert table.at["lora-gains", "estimate"] == pytest.approx(gain)
    assert table.at["two-stages-gain-nothing", "verdict"] == BORNE_OUT
