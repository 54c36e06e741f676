from __future__ import annotations

import ir_measures
import numpy as np
import pytest

from bench.protocol.metrics import CUTOFFS, METRICS, per_user, summarise


@pytest.mark.parametrize("seed", range(5))
def test_equals_ir_measures_on_random_rankings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = rng.integers(1, 102, size=40)
    qrels = [ir_measures.Qrel(str(user), "target", 1) for user in range(len(ranks))]
    run = [
        ir_measures.ScoredDoc(str(user), "target" if place == rank else f"other{place}", 1000.0 - place)
        for user, rank in enumerate(ranks)
        for place in range(1, 102)
    ]
    names = {ir_measures.RR: "mrr"}
    for k in CUTOFFS:
        names[ir_measures.Success @ k] = f"hit@{k}"
        names[ir_measures.nDCG @ k] = f"ndcg@{k}"
    ours = per_user(ranks)
    compared = 0
    for value in ir_measures.iter_calc(list(names), qrels, run):
        assert ours[names[value.measure]][int(value.query_id)] == pytest.approx(value.value, abs=1e-9)
        compared += 1
    assert compared == len(METRICS) * len(ranks)
    means = ir_measures.calc_aggregate(list(names), qrels, run)
    summary = summarise(ranks)
    for measure, name in names.items():
        assert summary[name] == pytest.approx(means[measure], abs=1e-9)


def test_summary_has_the_standard_error_of_every_metric() -> None:
    ranks = np.array([1, 3, 7, 30])
    summary = summarise(ranks)
    assert tuple(name for name in summary if name != "stderr") == METRICS
    assert tuple(summary["stderr"]) == METRICS
    hits = np.array([1.0, 1.0, 0.0, 0.0])
    assert summary["hit@5"] == 0.5
    assert summary["stderr"]["hit@5"] == pytest.approx(hits.std(ddof=1) / 2)


def test_single_user_has_no_standard_error() -> None:
    assert summarise([2])["stderr"]["mrr"] is None


@pytest.mark.parametrize("ranks", [[], [0, 1], [1.5], [[1, 2]]])
def test_refuses_what_are_no_ranks(ranks: list) -> None:
    with pytest.raises(ValueError, match="ranks"):
        per_user(ranks)
