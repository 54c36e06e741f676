"""Distributions of tokens, beside lengths of history and similarities."""

from __future__ import annotations

import pandas as pd
import pytest
from stored import FULL, similarities, table

from reports.build import build_report


@pytest.fixture
def out(filler):
    return filler.store.out


def test_tokens_lengths_and_overlap(filler, out) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), **FULL)
    for length in (1, 5):
        filler.accuracy("illmrec", 0.3, seeds=(0,), evaluation={"history_length": length}, **FULL)
    filler.efficiency(["illmrec"], [2])
    tokens = pd.DataFrame({"tokens": range(101)})
    filler.write(
        "token_cost",
        {"method": "illmrec", "llm": "smollm2-135m", "history_length": 10, "context": None},
        {},
        {"items": tokens, "prompts": tokens * 9},
    )
    cosines = {
        "items": 50, "matched": 0.5, "stderr_matched": 0.1,
        "shuffled": 0.1, "stderr_shuffled": 0.1, "matched_above_shuffled": 0.9,
        "same_category": 50, "shuffled_any": 0.05, "stderr_shuffled_any": 0.1,
    }  # fmt: skip
    filler.write(
        "overlap",
        {"method": "clip", "overlap": None, "family": None, "measured_by": "text tower"},
        cosines,
        {"similarities": similarities()},
    )
    page = build_report(out).read_text(encoding="utf-8")
    distribution = table(filler, "figure1a_distribution").set_index("unit")
    assert distribution.loc["item", ["p5", "median", "p95"]].tolist() == [5, 50, 95]
    assert distribution.at["prompt", "max"] == 900
    assert sorted(table(filler, "figure3_accuracy")["x"]) == [1, 5, 10]
    assert (
        "0.50 with their own description against 0.10 with another&#39;s of the same category and 0.05 with any other"
        " item&#39;s (clip)" in page
    )


def test_counted_tokens_alone_make_a_page(filler, out) -> None:
    tokens = pd.DataFrame({"tokens": range(101)})
    config = {"method": "illmrec", "llm": "smollm2-135m", "history_length": 10, "context": None}
    filler.write("token_cost", config, {}, {"items": tokens, "prompts": tokens * 9})
    page = build_report(out).read_text(encoding="utf-8")
    assert "Median tokens of an item: I-LLMRec 50" in page
    assert "In short" not in page
