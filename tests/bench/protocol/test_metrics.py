from __future__ import annotations

import ir_measures
import numpy as np
import pandas as pd
import pytest

from bench.protocol.metrics import CUTOFFS, METRICS, by_user, per_user, summarise


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


def test_metrics_are_those_of_the_tables_and_end_at_their_cutoffs() -> None:
    assert METRICS == ("hit@5", "ndcg@5", "hit@10", "ndcg@10", "hit@20", "ndcg@20", "mrr")
    ranks = np.array([1, 2, 5, 6, 10, 11, 20, 21])
    found = per_user(ranks)
    assert tuple(found) == METRICS
    assert found["hit@5"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert found["hit@10"].tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert found["hit@20"].tolist() == [1, 1, 1, 1, 1, 1, 1, 0]
    assert found["ndcg@20"][[0, 1, 6, 7]] == pytest.approx(
        [1, np.log(2) / np.log(3), np.log(2) / np.log(21), 0]
    )
    assert found["ndcg@10"][5] == 0 == found["ndcg@5"][3]
    assert found["mrr"] == pytest.approx([1, 1 / 2, 1 / 5, 1 / 6, 1 / 10, 1 / 11, 1 / 20, 1 / 21])
    assert {values.dtype for values in found.values()} == {np.dtype("float64")}


def test_a_user_of_several_targets_has_their_mean() -> None:
    ranks = pd.DataFrame(
        {"user_id": ["b", "a", "b", "b"], "rank_sampled": [1, 3, 1, 30], "rank_full": [11, 1, 1, 1]}
    )
    found = by_user(ranks, "sampled")
    assert found.index.tolist() == ["b", "a"] and found.index.name == "user_id"
    assert found.tolist() == pytest.approx([2 / 3, 0.5])  # NDCG@10, where nothing else is asked for
    assert by_user(ranks, "full", metric="hit@10").tolist() == pytest.approx([2 / 3, 1])
    values = per_user([4, 2, 6, 2], users=["b", "a", "b", "c"])
    assert values["mrr"] == pytest.approx([(1 / 4 + 1 / 6) / 2, 1 / 2, 1 / 2])
    assert values["hit@5"].tolist() == [0.5, 1, 1]
    assert summarise([4, 2, 6, 2], users=["b", "a", "b", "c"])["hit@5"] == pytest.approx(2.5 / 3)


def test_refuses_users_that_are_not_one_for_each_target() -> None:
    with pytest.raises(ValueError, match="3 users are not one for each target"):
        per_user([1, 2], users=["a", "b", "c"])


def test_what_no_ranks_are_is_said() -> None:
    with pytest.raises(ValueError, match=r"non-empty vector of integers, got float64 \(0,\)"):
        per_user([])
    with pytest.raises(ValueError, match=r"non-empty vector of integers, got int64 \(0,\)"):
        per_user(np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match=r"non-empty vector of integers, got int64 \(1, 2\)"):
        per_user([[1, 2]])
    with pytest.raises(ValueError, match="ranks start at 1, got 0"):
        per_user([1, 0])
