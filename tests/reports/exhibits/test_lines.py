"""Points of lines."""

from __future__ import annotations

import math

import pandas as pd

from reports.exhibits.lines import curves


def test_curves_of_one_seed_have_the_error_over_users() -> None:
    frame = pd.DataFrame(
        {
            "candidates": ["sampled", "sampled", "full"],
            "seed": 0,
            "method": "illmrec",
            "context": [256, 512, 256],
            "ndcg@10": [0.3, 0.4, 0.1],
            "stderr_ndcg@10": [0.01, None, 0.02],
        }
    )
    found = curves(frame, "method", "context")
    assert found["mean"].tolist() == [0.3, 0.4]
    assert found["stderr"].iloc[0] == 0.01 and math.isnan(found["stderr"].iloc[1])
