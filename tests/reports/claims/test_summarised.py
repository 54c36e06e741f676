"""Claims on summaries where nothing was summarised: descriptions that are short are their own summaries."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from stored import section_of

from bench.store.cell import Record
from reports.claims.claims import claims_exhibit
from reports.claims.rules import BORNE_OUT, CONTRADICTED, UNTESTED
from reports.sections.results import read_store
from tests.reports.claims.test_claims import FULL, verdicts

_REPORT = {
    "items": 2530, "given": 0, "kept": 2525, "generated": 0, "attributes_only": 5, "cut": 0, "chunked": 0,
    "mean_words": 32.4, "mean_tokens": 50.3, "seconds": 0.0, "summarizer": "",
}  # fmt: skip
_ITSELF = "2,525 of 2,530 summaries are the descriptions themselves"
_SPEED = ("speed-over-description", "speed-of-attributes")


def timed(filler, *, summary: float, description: float) -> None:
    """Store timings in which TRSR and the full description take so many tokens an item."""
    filler.efficiency(["illmrec", "tallrec"], [5, 10])
    filler.efficiency(["trsr"], [5, 10], tokens_per_item=summary, latency_ms_median=90.0)
    filler.efficiency(["full-description"], [5, 10], tokens_per_item=description, latency_ms_median=60.0)


def told(records: list[Record], **report: int) -> None:
    """Say in stored cells how items came to their summaries."""
    for record in records:
        path = record.folder / "cell.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["results"]["summaries"] = _REPORT | report
        path.write_text(json.dumps(content), encoding="utf-8")


def test_speed_over_summaries_that_are_longer_than_their_source_is_not_tested(filler) -> None:
    timed(filler, summary=60.6, description=46.3)
    table = verdicts(filler)
    for claim in _SPEED:
        line = table.loc[claim]
        assert line["verdict"] == UNTESTED, claim
        assert "TRSR (summary) takes 60.6 tokens an item, Full description 46.3" in line["reason"]
    shown = claims_exhibit(section_of(filler)).tables[0].rows
    (row,) = (row for row in shown if row[0].startswith("I-LLMRec is at least 2.93 times as fast"))
    assert "nothing is shorter for being summarised" in row[-1]


def test_the_ratio_to_the_full_description_stands_beside_that_to_summaries(filler) -> None:
    timed(filler, summary=46.3, description=60.6)
    blocks = {
        "illmrec": [1.0, 1.0],
        "tallrec": [1.0, 1.0],
        "trsr": [3.0, 4.0],
        "full-description": [2.0, 4.0],
    }
    for record in read_store(filler.store):
        frame = pd.DataFrame(
            {"repeat": [0, 1], "kind": "alone", "number": 0, "seconds": blocks[record.method]}
        )
        frame.to_parquet(record.folder / "timings.parquet")
    line = verdicts(filler).loc["speed-over-description"]
    assert line["verdict"] != UNTESTED and float(line["estimate"]) == pytest.approx(12**0.5)
    summaries, description = line["here"].split("; ")
    assert summaries.startswith("TRSR (summary) 90.0 ms, I-LLMRec ") and summaries.endswith("3.46 times")
    ends = np.exp(stats.t.interval(0.95, 1, loc=np.log([2, 4]).mean(), scale=stats.sem(np.log([2, 4]))))
    assert description.startswith("Full description 60.0 ms, I-LLMRec ")
    assert description.endswith(f"2.83 times ({ends[0]:.2f} to {ends[1]:.2f})")


def test_speed_where_no_item_was_summarised_is_not_tested(filler) -> None:
    filler.efficiency(["illmrec", "tallrec", "trsr"], [5, 10])
    assert verdicts(filler).at["speed-over-description", "verdict"] != UNTESTED
    told(filler.accuracy("trsr", 0.3, **FULL))
    for claim in _SPEED:
        line = verdicts(filler).loc[claim]
        assert line["verdict"] == UNTESTED and _ITSELF in line["reason"], claim
    told(filler.accuracy("trsr", 0.3, **FULL), kept=0, generated=2525)
    assert verdicts(filler).at["speed-over-description", "verdict"] != UNTESTED


def test_accuracy_of_summaries_says_that_they_are_the_descriptions(filler) -> None:
    for method, ndcg in {"illmrec": 0.40, "full-description": 0.36, "tallrec": 0.2, "illmrec+": 0.40}.items():
        filler.accuracy(method, ndcg, **FULL)
    trsr = filler.accuracy("trsr", 0.3, **FULL)
    expected = {
        "no-less-than-description": BORNE_OUT,
        "descriptions-over-attributes": BORNE_OUT,
        "summaries-lose": BORNE_OUT,
        "over-attributes": BORNE_OUT,
    }
    before = verdicts(filler)
    assert dict(before.loc[list(expected), "verdict"]) == expected
    assert not before["here"].str.contains("caution").any()

    told(trsr)
    table = verdicts(filler)
    for claim in ("no-less-than-description", "descriptions-over-attributes", "descriptions-add-nothing"):
        assert f"(caution: {_ITSELF})" in table.at[claim, "here"], claim
    assert dict(table.loc[list(expected), "verdict"]) == expected | {"summaries-lose": UNTESTED}
    assert table.at["summaries-lose", "reason"] == f"nothing was summarised: {_ITSELF}"
    assert "caution" not in table.at["over-attributes", "here"]

    told(trsr, kept=2000, generated=525)
    table = verdicts(filler)
    assert dict(table.loc[list(expected), "verdict"]) == expected
    assert "2,000 of 2,530 summaries are the descriptions themselves" in table.at["summaries-lose", "here"]
    told(trsr, kept=500, generated=2025)
    assert not verdicts(filler)["here"].str.contains("caution").any()


def test_summaries_that_are_descriptions_need_no_context(filler) -> None:
    filler.accuracy("trsr", 0.3, evaluation={"context": 256}, **FULL)
    filler.accuracy("trsr", 0.2, evaluation={"context": 4096}, **FULL)
    plain = filler.accuracy("trsr", 0.2, **FULL)
    assert verdicts(filler).at["summaries-need-context", "verdict"] == CONTRADICTED
    told(plain)
    line = verdicts(filler).loc["summaries-need-context"]
    assert line["verdict"] == UNTESTED and _ITSELF in line["reason"]
