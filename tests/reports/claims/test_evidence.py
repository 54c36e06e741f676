"""When a comparison bears a claim out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.protocol.statistics import paired_interval
from reports.claims.evidence import Judge, trained_unlike
from reports.claims.rules import (
    BORNE_OUT,
    COMPARABLE,
    CONTRADICTED,
    DEPENDS,
    MORE,
    NO_LESS,
    NO_MORE,
    UNDECIDED,
    UNTESTED,
    UNTRAINED,
    at_least,
    over_candidates,
    together,
)
from reports.sections.results import read_store
from tests.reports.claims.test_claims import FULL, verdicts


def judge(rule) -> Judge:
    return Judge(section=None, rule=rule)  # type: ignore[arg-type]  # what is paired needs no section


@pytest.mark.parametrize(
    ("rule", "above", "equal", "below"),
    [
        (MORE, BORNE_OUT, UNDECIDED, CONTRADICTED),
        (NO_LESS, BORNE_OUT, BORNE_OUT, CONTRADICTED),
        (NO_MORE, CONTRADICTED, BORNE_OUT, BORNE_OUT),
        (COMPARABLE, CONTRADICTED, BORNE_OUT, CONTRADICTED),
    ],
)
def test_rules(rule, above: str, equal: str, below: str) -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.3, 0.5, 2000)
    noise = random.normal(0, 0.05, 2000)
    noise -= noise.mean()
    for shift, verdict in ((0.1, above), (0.0, equal), (-0.1, below)):
        both = pd.DataFrame({"first": base + noise + shift, "second": base})
        found = judge(rule).pair(both, ("A", "B"), learnt=False)
        assert found is not None and found.verdict == verdict, shift
        once = judge(rule).pair(both, ("A", "B"))
        assert once is not None and (once.verdict, once.reason) == (UNDECIDED, "one training run: no verdict")
    assert judge(rule).pair(both.head(9), ("A", "B")) is None


def test_a_wide_interval_decides_nothing_about_a_margin() -> None:
    random = np.random.default_rng(2)
    both = pd.DataFrame({"second": random.uniform(0.2, 0.6, 60)})
    both["first"] = both["second"] + random.normal(0, 0.4, 60)
    for rule in (NO_LESS, NO_MORE, COMPARABLE):
        found = judge(rule).pair(both, ("A", "B"), learnt=False)
        assert found is not None and found.verdict == UNDECIDED, rule.words


def test_ratios() -> None:
    rule = at_least(2.93)
    assert rule.verdict(2.95, 3.1) == BORNE_OUT
    assert rule.verdict(2.8, 3.0) == UNDECIDED and rule.verdict(2.0, 2.9) == CONTRADICTED


def test_what_comparisons_say_together() -> None:
    assert together([BORNE_OUT, BORNE_OUT]) == BORNE_OUT and together([]) == UNTESTED
    assert together([BORNE_OUT, CONTRADICTED]) == CONTRADICTED
    assert together([BORNE_OUT, UNDECIDED]) == UNDECIDED
    assert together([CONTRADICTED, UNTRAINED]) == UNTRAINED
    assert over_candidates({"sampled": BORNE_OUT, "full": CONTRADICTED})[0] == DEPENDS
    assert over_candidates({"sampled": BORNE_OUT, "full": UNTRAINED})[0] == DEPENDS
    assert over_candidates({"sampled": BORNE_OUT, "full": UNDECIDED})[0] == UNDECIDED
    assert over_candidates({"sampled": BORNE_OUT, "full": BORNE_OUT}) == (BORNE_OUT, "")


def test_methods_below_a_floor_are_not_judged(filler) -> None:
    filler.accuracy("illmrec", 0.3, **FULL)
    filler.accuracy("tallrec", 0.2, **FULL)
    assert verdicts(filler).at["over-attributes", "verdict"] == BORNE_OUT
    filler.accuracy("item-knn", 0.45, seeds=(0, 1, 2))
    line = verdicts(filler).loc["over-attributes"]
    assert line["verdict"] == UNTRAINED and "below the floor Item kNN" in line["reason"]


def test_an_adaptor_that_was_never_trained_is_not_judged(filler) -> None:
    def line(start="drawn", **cached):
        training = {"strategy": "cached", "cached": cached, "adaptor_start": start}
        filler.accuracy("illmrec", 0.3, **FULL, training=training)
        filler.accuracy("tallrec", 0.2, **FULL, training=training)
        return verdicts(filler).loc["over-attributes"]

    at_once = line(warm_up=0)
    assert at_once["verdict"] == UNTRAINED and "the adaptor of I-LLMRec is as drawn" in at_once["reason"]
    assert line(warm_up=5000)["verdict"] == BORNE_OUT
    assert line(start="text", warm_up=0)["verdict"] == BORNE_OUT
    assert line(warm_up=0, alternations=1)["verdict"] == BORNE_OUT


def test_methods_that_were_trained_otherwise_are_not_compared(filler) -> None:
    filler.accuracy("illmrec", 0.3, **FULL)
    filler.accuracy("tallrec", 0.2, **FULL, training={"preset": "small", "epochs": 2, "risa": True})
    first, second = (r for r in read_store(filler.store) if r.seed == 0)
    assert trained_unlike(first, second) == "epochs"
    line = verdicts(filler).loc["over-attributes"]
    assert line["verdict"] == UNDECIDED and "not trained alike (epochs)" in line["reason"]


def test_generated_data_decide_nothing_about_content(filler) -> None:
    filler.dataset["name"] = "toyshop"
    filler.statistics["dataset"] = "toyshop"
    filler.accuracy("illmrec", 0.3, **FULL)
    filler.accuracy("tallrec", 0.2, **FULL)
    line = verdicts(filler).loc["over-attributes"]
    assert (line["verdict"], line["reason"]) == (UNTESTED, "generated data: the generator decides it")
    assert line["here"]


def test_differences_are_adjusted_for_their_number(filler) -> None:
    # One claim alone is decided; among several of the same size none is.
    filler.accuracy("illmrec", 0.322, **FULL)
    filler.accuracy("tallrec", 0.30, **FULL)
    alone = verdicts(filler).loc["over-attributes"]
    assert float(alone["p_value"]) < 0.05
    for method in ("trsr", "full-description"):
        filler.accuracy(method, 0.302, **FULL)
    line = verdicts(filler).loc["over-attributes"]
    if 0.0125 < float(line["p_value"]) < 0.05:
        assert line["verdict"] == UNDECIDED and "Holm" in line["reason"]


def test_relative_intervals_are_in_percent() -> None:
    random = np.random.default_rng(1)
    both = pd.DataFrame({"second": random.uniform(0.2, 0.6, 300)})
    both["first"] = both["second"] * 0.97 + random.normal(0, 0.01, 300)
    found = judge(NO_LESS).pair(both, ("A", "B"))
    assert found is not None
    assert found.estimate == pytest.approx(-3, abs=0.6)
    assert found.low == pytest.approx(100 * paired_interval(both, confidence=0.9).low / both["second"].mean())
    assert found.interval.endswith(" %") and "−" in found.interval
