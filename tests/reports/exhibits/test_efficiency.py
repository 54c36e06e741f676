"""Sentences on latency."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.exhibits.efficiency import growth
from reports.sections.methods import method_styles


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (
            [10, 12, 14],
            [4, 11, 18],
            "By these medians I-LLMRec is faster than TALLRec (attributes) from about 6.8 items of history on.",
        ),
        (
            [10, 12, 14],
            [11, 13, 15],
            "By these medians I-LLMRec is faster than TALLRec (attributes) at every length.",
        ),
        (
            [10, 12, 14],
            [4, 5, 6],
            "By these medians I-LLMRec is slower than TALLRec (attributes) at |S_u| = 10.",
        ),
    ],
)
def test_figure_3_says_where_ours_becomes_faster(ours, theirs, expected) -> None:
    frame = pd.DataFrame(
        {
            "method": ["illmrec"] * 3 + ["tallrec"] * 3,
            "history_length": [2, 6, 10] * 2,
            "latency_ms_median": [*ours, *theirs],
        }
    )
    styles = method_styles(["illmrec", "tallrec"])
    assert growth(frame, styles).endswith(expected)
    assert "faster" not in growth(frame[frame["method"] == "tallrec"], styles)
