"""What a report comes to, on one screen."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from reports.build import build_report, read_report
from reports.sections.results import read_store


def summary(filler):
    return read_report(filler.store, read_store(filler.store), "python -m reports").summary


def test_cheapest_and_most_accurate_stand_side_by_side_with_their_interval(filler) -> None:
    filler.efficiency(["illmrec", "title"], [5, 10])
    filler.accuracy("illmrec", 0.32, risa=True, features=("image",))
    filler.accuracy("title", 0.20, risa=True, features=("image",))
    filler.accuracy("sasrec", 0.40)
    table = summary(filler)
    ((where, cheap, accurate, overall, verdict),) = table.rows
    row = table.data.iloc[0]
    assert row["dataset"] in where and row["llm"] in where
    assert row["cheapest"] == "title" and "tokens a user at |S_u| = 10" in cheap
    assert accurate.startswith("I-LLMRec, NDCG@10 0.1") and overall.startswith("SASRec, NDCG@10 0.")
    assert re.fullmatch(r"I-LLMRec, NDCG@10 (0\.\d{4}) \[0\.\d{4}, 0\.\d{4}\]", accurate)
    assert verdict.endswith(": decided")
    assert row["difference"] == pytest.approx(-0.04, abs=0.01) and row["high"] < 0


def test_a_control_is_no_llm_method(filler) -> None:
    filler.accuracy("illmrec", 0.2, risa=True, features=("image",))
    filler.accuracy("llm-and-features", 0.4, risa=True, features=("image",))
    _, _, accurate, overall, _ = summary(filler).rows[0]
    assert accurate.startswith("I-LLMRec,") and overall.startswith("LLM and features,")


def test_the_cheapest_to_show_has_an_llm(filler) -> None:
    filler.efficiency(["illmrec", "title"], [5])
    filler.efficiency(
        ["popularity"], [5], llm=False, latency_ms_median=0.1, prompt_tokens=None, tokens_per_item=None
    )
    assert summary(filler).rows[0][1].startswith("Title only, ")


def test_what_users_cannot_tell_apart_is_undecided(filler) -> None:
    filler.efficiency(["illmrec", "title"], [5])
    filler.accuracy("title", 0.250, risa=True, features=("image",), seeds=(0, 1, 2))
    assert summary(filler).rows[0][-1] == "the same method"
    filler.accuracy("illmrec", 0.253, risa=True, features=("image",), seeds=(0, 1, 2))
    _, _, accurate, overall, verdict = summary(filler).rows[0]
    assert verdict.endswith(": undecided")
    best, other = (
        ("I-LLMRec", "Title only") if accurate.startswith("I-LLMRec") else ("Title only", "I-LLMRec")
    )
    assert accurate.startswith(best) and accurate.endswith(f"; not told apart from it: {other}")
    assert overall == accurate


def test_one_run_tells_nobody_apart(filler) -> None:
    filler.accuracy("illmrec", 0.4, seeds=(0,), risa=True, features=("image",))
    filler.accuracy("title", 0.1, seeds=(0,), risa=True, features=("image",))
    assert summary(filler).rows[0][2].endswith("; too few runs to tell: Title only")


def test_the_page_begins_with_it(filler) -> None:
    filler.efficiency(["illmrec"], [5])
    page = build_report(filler.store.out).read_text()
    assert page.index('id="summary"') < page.index("<h3")
    table = pd.read_csv(filler.store.out / "tables" / "summary.csv")
    assert table["cheapest"].tolist() == ["illmrec"] and table["most_accurate"].isna().all()
