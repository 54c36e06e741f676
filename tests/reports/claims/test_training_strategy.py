"""What a training strategy is compared with."""

from __future__ import annotations

from stored import mean, strategies, trained, verdicts

from reports.claims.claims import HOLDS


def test_a_strategy_is_compared_with_a_model_that_was_trained_as_long(filler) -> None:
    strategies(filler)
    newer = trained(filler, 0.9, training={"epochs": 30})
    assert mean(newer) > 0.7
    table = verdicts(filler)
    assert table.at["lora-gains", "verdict"] == HOLDS
