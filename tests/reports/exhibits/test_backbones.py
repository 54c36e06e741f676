"""LLMs and vision encoders."""

from __future__ import annotations

import pytest
from stored import LARGE, SMALL, drawn, mean, section_of, trained, verdicts

from bench.frames import backbones
from reports.claims.claims import HOLDS
from reports.exhibits.backbones import exhibits


def test_backbones(filler) -> None:
    grid = {
        ("small", "efficientnet-lite0"): (SMALL, 0.30, 1.0e7),
        ("large", "efficientnet-lite0"): (LARGE, 0.36, 1.3e8),
        ("large", "google/siglip-x"): (LARGE, 0.40, 1.3e8),
        ("large", "openai/clip-y"): (LARGE, 0.37, 1.3e8),
    }
    stored = {}
    for (size, vision), (llm, ndcg, parameters) in grid.items():
        encoders = {"image": vision, "text": "wordvec"}
        own = (llm, vision) == (LARGE, "efficientnet-lite0")
        variant = None if own else {"kind": "backbones", "llm": llm["layers"], "vision": vision}
        stored[size, vision] = trained(filler, ndcg, llm=llm, encoders=encoders, variant=variant)
        costs = dict.fromkeys(backbones.COSTS, 1.0)
        costs |= {"llm_parameters": parameters, "latency_ms_median": 1e-7 * parameters}
        config = {"method": "illmrec", "llm": llm, "encoders": encoders}
        filler.write("backbones", config, costs)
    section = section_of(filler)
    assert section.llm == "smollm2-135m (30 layers)"
    exhibit = exhibits(section)[0]
    drawn(exhibit)
    table = exhibit.tables[1].data
    assert len(table) == 4 + 4 and table["paper_art_hit@5"].notna().sum() == 4
    best = table.sort_values("ndcg@10", ascending=False).iloc[0]
    assert (best["llm"], best["vision_encoder"]) == ("smollm2-135m (30 layers)", "siglip-x")
    assert best["ndcg@10"] == pytest.approx(mean(stored["large", "google/siglip-x"]))
    claims = verdicts(filler)
    assert claims.at["larger-llm", "verdict"] == HOLDS and claims.at["siglip-over-clip", "verdict"] == HOLDS
    difference = mean(stored["large", "efficientnet-lite0"]) - mean(stored["small", "efficientnet-lite0"])
    assert claims.at["larger-llm", "estimate"] == pytest.approx(difference)
