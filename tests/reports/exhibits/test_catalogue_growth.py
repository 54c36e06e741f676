"""A growing catalogue."""

from __future__ import annotations

import numpy as np
from stored import LARGE, drawn, section_of, trained, verdicts

from bench.protocol import metrics
from reports.claims.claims import HOLDS
from reports.exhibits.catalogue_growth import exhibits


def growth(filler, ndcg: float, trained_items: int, served_items: int) -> None:
    for seed in (0, 1):
        ranks = filler.ranks(ndcg, seed).assign(target_is_new=np.arange(400) % 4 == 0)
        costs = dict.fromkeys(
            ("index_seconds", "peak_memory_mb", "projected_bytes_per_item", "model_bytes"), 1.0
        )
        results = {
            "users": 400, "users_per_second": 20.0, "feature_bytes_per_item": 3400, **costs,
            "sampled": metrics.summarise(ranks["rank_sampled"].to_numpy()),
        }  # fmt: skip
        places = {
            role: {"share": items / 1000, "items": items, "fingerprint": f"{items}"}
            for role, items in (("trained", trained_items), ("served", served_items))
        }
        config = {"method": "illmrec", "seed": seed, "llm": LARGE, "features": ["image", "text"], **places}
        filler.write("catalogue_growth", config, results, {"ranks": ranks})


def test_a_growing_catalogue(filler) -> None:
    trained(filler, 0.4)
    for sizes, ndcg in {
        (500, 500): 0.4, (750, 750): 0.42, (1000, 1000): 0.44,
        (500, 750): 0.38, (500, 1000): 0.2, (750, 1000): 0.40,
    }.items():  # fmt: skip
        growth(filler, ndcg, *sizes)
    exhibit = exhibits(section_of(filler))[0]
    drawn(exhibit)
    points = exhibit.tables[0].data
    assert points[points["series"] == "retrained"]["x"].tolist() == [500, 750, 1000]
    assert points[points["series"] == "0.5"]["x"].tolist() == [500, 750, 1000]
    assert set(exhibit.tables[1].data["targets"]) == {"all", "old", "new"}
    assert "0.468, 0.463, 0.4701 and 0.5106" in exhibit.paper
    claims = verdicts(filler).loc[["older-models-serve"]]
    # The model of the size before, not the oldest one, is what the paper lets serve.
    assert set(claims["verdict"]) == {HOLDS} and len(claims) == 2
    assert claims["paper"].iloc[0].startswith("−20.1 % from 5K to 10K items")
