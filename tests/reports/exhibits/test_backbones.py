"""LLMs and vision encoders."""

from __future__ import annotations

import pytest
from stored import drawn, grid, mean, section_of

from reports.exhibits.backbones import exhibits


def test_backbones(filler) -> None:
    stored = grid(filler)
    section = section_of(filler)
    assert section.llm == "smollm2-135m (30 layers)"
    exhibit = exhibits(section)[0]
    drawn(exhibit)
    table = exhibit.tables[1].data
    assert len(table) == 4 + 4 and table["paper_art_hit@5"].notna().sum() == 4
    best = table.sort_values("ndcg@10", ascending=False).iloc[0]
    assert (best["llm"], best["vision_encoder"]) == ("smollm2-135m (30 layers)", "siglip-x")
    assert best["ndcg@10"] == pytest.approx(mean(stored["large", "google/siglip-x"]))
