"""Claims: their verdicts on stores where the answer is known, their intervals, and what is not tested."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.protocol.statistics import paired_bootstrap
from reports.build import build_report
from reports.claims.claims import FAILS, HOLDS, UNTESTED
from reports.claims.paper_claims import claims
from reports.evidence.evidence import MORE, NO_LESS, NO_MORE, WITHIN_5_PERCENT, paired_evidence
from reports.evidence.paired import Ranks, interval
from reports.paper.published import gains
from reports.sections.results import read_store

FULL = {"seeds": (0,), "risa": True, "features": ("image", "cf", "text")}


def verdicts(filler) -> pd.DataFrame:
    out = build_report(filler.store.out).parent
    return pd.read_csv(out / "tables" / "claims.csv", keep_default_na=False).set_index("claim")


def test_claims_have_distinct_names_and_sources() -> None:
    listed = claims()
    assert len({claim.id for claim in listed}) == len(listed) >= 30
    for claim in listed:
        assert re.match(r"(Section|Table|Appendix) ", claim.source)
        assert claim.published and claim.holds_if


def test_a_store_as_in_the_paper(filler) -> None:
    filler.efficiency()
    filler.comparison(seeds=(0, 1))
    filler.ablation(seeds=(0, 1))
    filler.popularity()
    filler.accuracy("illmrec", 0.430, evaluation={"context": 256}, **FULL)
    filler.accuracy("illmrec", 0.407, evaluation={"context": 4096}, **FULL)
    half = {
        "kind": "missing-images",
        "fraction": 0.5,
        "substitutes": "description",
        "of": filler.dataset["fingerprint"],
    }
    filler.accuracy("illmrec", 0.399, variant=half, **FULL)
    table = verdicts(filler)
    for claim in (
        "over-attributes",
        "no-less-than-description",
        "descriptions-add-nothing",
        "risa",
        "image-and-cf",
        "all-three-features",
        "small-context",
        "half-of-the-images",
        "cold-items",
        "unseen-items",
    ):
        assert set(table.loc[[claim], "verdict"]) == {HOLDS}, claim
    # TRSR's prompts of the fixture are at most 3.3 times as long: its model of latency gives 2.0 times.
    assert table.at["speed-over-description", "verdict"] == FAILS
    assert table.at["cheaper-at-long-histories", "verdict"] == HOLDS
    untested = table.index[table["verdict"] == UNTESTED]
    assert (table.loc[untested, "command"] != "").all() and not (table.drop(untested)["command"] != "").any()


def test_a_store_against_the_paper(filler) -> None:
    for method, ndcg in {"illmrec": 0.2, "tallrec": 0.3, "trsr": 0.4, "illmrec+": 0.3, "sasrec": 0.5}.items():
        filler.accuracy(method, ndcg, **({"seeds": (0,)} if method == "sasrec" else FULL))
    filler.accuracy("illmrec", 0.1, evaluation={"context": 256}, **FULL)
    filler.accuracy("illmrec", 0.2, evaluation={"context": 4096}, **FULL)
    table = verdicts(filler)
    for claim in (
        "over-attributes",
        "no-less-than-description",
        "descriptions-add-nothing",
        "llm-over-sasrec",
        "small-context",
    ):
        assert table.at[claim, "verdict"] == FAILS, claim
    assert table.at["descriptions-over-attributes", "verdict"] == HOLDS


def test_what_is_not_stored_is_not_tested_and_says_what_to_run(filler) -> None:
    filler.accuracy("illmrec", 0.4, **FULL)
    table = verdicts(filler)
    assert set(table["verdict"]) == {UNTESTED}
    expected = {
        "speed-over-description": "efficiency",
        "over-attributes": "comparison",
        "risa": "ablation",
        "small-context": "context_budget",
        "half-of-the-images": "missing_images",
        "cold-items": "item_popularity",
        "unseen-items": "unseen_items",
    }
    for claim, experiment in expected.items():
        command = table.at[claim, "command"]
        assert command.startswith(f"python -m bench.{experiment} ")
        assert "--llm smollm2-135m" in command
    page = (filler.store.out / "index.html").read_text(encoding="utf-8")
    assert "Commands that fill in what is not tested" in page
    assert f"Of {len(table)} claims {len(table)} are not tested on these data." in page
    assert table.at["small-context", "command"] in page


def test_the_interval_is_the_paired_bootstrap_of_the_stored_ranks(filler) -> None:
    filler.accuracy("illmrec", 0.36, seeds=(0, 1), risa=True, features=("image", "cf", "text"))
    filler.accuracy("tallrec", 0.35, seeds=(1, 2), risa=True, features=("image", "cf", "text"))
    line = verdicts(filler).loc["over-attributes"]
    gains_of = {}
    for record in read_store(filler.store):
        if record.seed == 1:
            rank = pd.read_parquet(record.folder / "ranks.parquet").sort_values("user_id")["rank_sampled"]
            gains_of[record.method] = np.where(rank <= 10, 1 / np.log2(1 + rank), 0)
    expected = paired_bootstrap(gains_of["illmrec"], gains_of["tallrec"])
    assert float(line["estimate"]) == pytest.approx(expected.mean)
    assert float(line["low"]) == pytest.approx(expected.low)
    assert float(line["high"]) == pytest.approx(expected.high)
    assert int(line["users"]) == 400
    means = [gains_of[method].mean() for method in ("illmrec", "tallrec")]
    assert f"I-LLMRec {means[0]:.4f}, TALLRec (attributes) {means[1]:.4f}" in line["here"]


def test_latency_is_a_ratio_with_its_interval_over_repeats(filler) -> None:
    filler.efficiency(["illmrec", "trsr"], [5, 10])
    seconds = {"illmrec": [1.0, 1.0, 2.0], "trsr": [3.0, 4.0, 6.0]}
    for record in read_store(filler.store):
        frame = pd.DataFrame(
            {"repeat": [0, 1, 2], "kind": "alone", "number": 0, "seconds": seconds[record.method]}
        )
        frame.to_parquet(record.folder / "timings.parquet")
    line = verdicts(filler).loc["speed-over-description"]
    ratios = np.log([3.0, 4.0, 3.0])
    assert float(line["estimate"]) == pytest.approx(36 ** (1 / 3))
    ends = np.exp(stats.t.interval(0.95, 2, loc=ratios.mean(), scale=stats.sem(ratios)))
    assert (float(line["low"]), float(line["high"])) == pytest.approx(tuple(ends))
    # 2.2 to 4.9: three blocks do not show 2.5.
    assert line["verdict"] == FAILS
    assert verdicts(filler).loc["speed-of-attributes", "verdict"] == UNTESTED
    for record in read_store(filler.store):
        (record.folder / "timings.parquet").unlink()
    line = verdicts(filler).loc["speed-over-description"]
    assert line["low"] == "" and line["verdict"] == FAILS


def test_a_ratio_of_two_sessions_carries_a_caution(filler) -> None:
    filler.efficiency(["illmrec"], [5, 10])
    filler.efficiency(["trsr"], [5, 10])
    before = verdicts(filler).loc["speed-over-description"]
    assert "caution" not in before["here"] and before["low"] != ""
    filler.efficiency(["title"], [5], session="another")
    assert "caution" not in verdicts(filler).loc["speed-over-description", "here"]
    filler.efficiency(["trsr"], [10], session="another")
    after = verdicts(filler).loc["speed-over-description"]
    assert "caution: not timed in turns, in one session" in after["here"] and after["low"] == ""


def test_without_ranks_the_means_are_compared_without_an_interval(filler) -> None:
    filler.accuracy("illmrec", 0.4, **FULL)
    filler.accuracy("tallrec", 0.3, **FULL)
    records = read_store(filler.store)
    for record in records:
        (record.folder / "ranks.parquet").unlink()
    line = verdicts(filler).loc["over-attributes"]
    means = {record.method: record.results["sampled"]["ndcg@10"] for record in records}
    assert float(line["estimate"]) == pytest.approx(means["illmrec"] - means["tallrec"])
    assert (line["low"], line["verdict"]) == ("", HOLDS)


@pytest.mark.parametrize("method", ["illmrec", "illmrec+", "tallrec", "trsr", "full-description", "sasrec"])
def test_a_store_of_one_method_tests_nothing(filler, method: str) -> None:
    filler.accuracy(method, 0.3, **({"seeds": (0,)} if method == "sasrec" else FULL))
    assert set(verdicts(filler)["verdict"]) == {UNTESTED}


def test_no_common_seed_has_no_pairs(filler) -> None:
    first = filler.accuracy("illmrec", 0.4, **FULL)
    second = filler.accuracy("tallrec", 0.3, seeds=(1,), risa=True, features=("image",))
    assert Ranks(filler.store).paired(first, second) is None
    assert Ranks(filler.store).paired(first, first, users=["nobody"]) is None


def test_users_that_only_one_method_ranked_are_left_out(filler) -> None:
    (first,) = filler.accuracy("illmrec", 0.4, **FULL)
    (second,) = filler.accuracy("tallrec", 0.3, **FULL)
    ranks = pd.read_parquet(second.folder / "ranks.parquet").iloc[::-1].head(150)
    ranks.to_parquet(second.folder / "ranks.parquet")
    both = Ranks(filler.store).paired([first], [second])
    assert set(both.index) == set(ranks["user_id"])
    expected = np.where(ranks["rank_sampled"] <= 10, 1 / np.log2(1 + ranks["rank_sampled"]), 0)
    assert both["second"].loc[ranks["user_id"]].to_numpy() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("rule", "above", "equal", "below"),
    [
        (MORE, True, False, False),
        (NO_LESS, True, True, False),
        (NO_MORE, False, True, True),
        (WITHIN_5_PERCENT, True, True, False),
    ],
)
def test_rules(rule, above: bool, equal: bool, below: bool) -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.3, 0.5, 2000)
    noise = random.normal(0, 0.05, 2000)
    noise -= noise.mean()
    for shift, holds in ((0.1, above), (0.0, equal), (-0.1, below)):
        both = pd.DataFrame({"first": base + noise + shift, "second": base})
        found = paired_evidence(both, ("A", "B"), rule)
        assert found is not None and found.holds is holds, shift
    assert paired_evidence(both.head(9), ("A", "B"), rule) is None


def test_relative_intervals_are_in_percent() -> None:
    random = np.random.default_rng(1)
    both = pd.DataFrame({"second": random.uniform(0.2, 0.6, 300)})
    both["first"] = both["second"] * 0.97 + random.normal(0, 0.01, 300)
    found = paired_evidence(both, ("A", "B"), WITHIN_5_PERCENT)
    assert found is not None
    assert found.estimate == pytest.approx(-3, abs=0.6)
    assert found.low == pytest.approx(100 * interval(both).low / both["second"].mean())
    assert found.interval.endswith(" %") and "−" in found.interval


def test_gains_of_the_paper() -> None:
    # By hand from Table 1, NDCG@10: Sport 0.4071 / 0.3323, Phone 0.4320 / 0.4148.
    assert gains("table1", "I-LLMRec", "TALLRec") == "+4.1 to +22.5 % NDCG@10 over 4 data sets"
    # Table 2, NDCG@5: Sport 0.3403 / 0.3043, Art 0.4447 / 0.3915.
    assert gains("table2", "b", "a") == "+11.8 to +13.6 % NDCG@5 over 2 data sets"


def test_names_of_users_are_text_in_the_claims(another) -> None:
    another.comparison(seeds=(0,))
    page = build_report(another.store.out).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "Claims of the paper, &lt;script&gt;alert" in page
