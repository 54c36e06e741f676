"""Training strategies beside the paper's."""

from __future__ import annotations

import json

import pytest
from stored import drawn, mean, section_of, strategies, trained

from reports.exhibits.exhibit import Gap
from reports.exhibits.training_strategy import exhibits


def test_strategies_stand_beside_the_papers(filler) -> None:
    stored = strategies(filler)
    exhibit = exhibits(section_of(filler))[0]
    drawn(exhibit)
    points, table = (table.data for table in exhibit.tables)
    assert points.set_index("series")["cost"].to_dict() == {"frozen": 10, "lora": 25, "two-stage": 12}
    rows = table.set_index("strategy")
    assert rows.at["LoRA", "ndcg@5"] == pytest.approx(mean(stored["lora"], "ndcg@5"))
    assert rows.at["LoRA", "trained_parameters"] == 900
    # As printed: Table 3 for LoRA, Table 10 for two stages, the same run in both for the frozen LLM.
    assert rows["paper_sport_ndcg@5"].tolist() == [0.3711, 0.3772, 0.3747]
    gain = mean(stored["lora"]) - mean(stored["frozen"])
    assert f"LoRA {gain:+.4f} at 2.5 times the training time" in exhibit.reading


def test_one_strategy_is_a_gap(filler) -> None:
    trained(filler, 0.35)
    shown = exhibits(section_of(filler))[0]
    assert isinstance(shown, Gap) and "bench.training_strategy" in shown.command


def test_seconds_of_different_machines_are_not_offered_for_comparison(filler) -> None:
    strategies(filler)
    said = "seconds cannot be compared"
    assert not any(said in note for note in exhibits(section_of(filler))[0].notes)
    record = next(
        record for record in filler.store.records("accuracy") if "variant" in record.config["dataset"]
    )
    path = record.folder / "cell.json"
    cell = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**cell, "machine": {**cell["machine"], "gpus": ["another"]}}), "utf-8")
    assert any(said in note for note in exhibits(section_of(filler))[0].notes)
