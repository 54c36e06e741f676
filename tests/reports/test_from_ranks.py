"""Metrics, differences and intervals from ranks, by hand and beside those of the page."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.protocol.statistics import paired_bootstrap
from reports.from_ranks import METRICS, Sample, difference, metrics_of
from reports.recompute import Check

pytest.importorskip("ir_measures", reason="metrics are those of ir-measures")


def test_metrics_of_ranks_by_hand() -> None:
    found = metrics_of(pd.Series([1, 2, 10, 11, 20, 21, 500], index=list("abcdefg")))
    assert found["hit@5"].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert found["hit@20"].tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert found["ndcg@10"].tolist() == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0, 0, 0, 0])
    assert found["mrr"].tolist() == pytest.approx([1, 1 / 2, 1 / 10, 1 / 11, 1 / 20, 1 / 21, 1 / 500])
    assert found.index.tolist() == list("abcdefg") and found.columns.tolist() == list(METRICS)


def test_differences_are_paired_by_seed_and_user() -> None:
    first = {0: pd.Series({1: 0.5, 2: 0.7, 3: 0.9}), 1: pd.Series({1: 0.1, 2: 0.2}), 2: pd.Series({1: 9.0})}
    second = {0: pd.Series({3: 0.4, 2: 0.6, 9: 0.0}), 1: pd.Series({1: 0.3, 2: 0.1})}
    both = difference(first, second)
    assert both is not None and both.values.shape == (2, 3)
    assert both.mean == pytest.approx((0.1 + 0.5 - 0.2 + 0.1) / 4) and both.base == pytest.approx(1.4 / 4)
    assert difference(first, {7: second[0]}) is None


@pytest.mark.parametrize("confidence", [95, 90])
@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_intervals_of_the_page_hold_and_wrong_ones_do_not(runs: int, confidence: int) -> None:
    random = np.random.default_rng(runs)
    values = random.normal(0.02, 1, (runs, 300)) + random.normal(0, 0.1, (runs, 1))
    found = paired_bootstrap(values, confidence=confidence / 100, resamples=999)
    half = (found.high - found.low) / 2

    def mismatches(low: float, high: float) -> int:
        check = Check(name="file")
        row = {"low": low, "high": high}
        ours = Sample(values=values)
        check.ends(row, ours, columns=("low", "high"), where="row", percent=confidence)
        check.number(found.stderr, math.sqrt(sum(ours.variances[:2])), where="stderr")
        check.p_value(found.p_value, ours, where="p")
        return len(check.mismatches)

    assert mismatches(found.low, found.high) == 0
    assert mismatches(found.low - half, found.high) == 1
    assert mismatches(found.low + half, found.high - half) == 2
    assert mismatches(float("nan"), found.high) == 1


@pytest.mark.parametrize("users", [5, 400])
def test_resampled_means_spread_as_those_of_scipy_s_own_bootstrap(users: int) -> None:
    random = np.random.default_rng(0)
    values = random.normal(0, 1, (1, users))
    ours = Sample(values=values).resampled
    scipys = stats.bootstrap(values, np.mean, n_resamples=1999, random_state=0).bootstrap_distribution
    assert stats.ks_2samp(ours, scipys).pvalue > 0.01
    assert np.ptp(Sample(values=np.ones((3, users))).resampled) < 1e-12


def test_runs_and_users_are_drawn_apart() -> None:
    of_runs, of_users = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0, 1.0, 2.0]])
    both = Sample(values=of_runs + of_users).resampled.var()
    alone = [Sample(values=values + np.zeros((3, 3))).resampled.var() for values in (of_runs, of_users)]
    assert both == pytest.approx(sum(alone), rel=0.1)  # drawn alike they would go together: a third more


def test_runs_on_other_users_have_no_interval_to_compare() -> None:
    check = Check(name="file")
    check.ends(
        {}, Sample(values=np.array([[1.0, 2.0, np.nan], [2.0, 3.0, 4.0]])), columns=("a", "b"), where="row"
    )
    assert check.compared == 0 and check.notes == ["ends of row left out: not every run has every user"]


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_the_smallest_difference_of_the_page_is_found_four_times_in_five(runs: int) -> None:
    random = np.random.default_rng(runs)
    values = random.normal(0.02, 1, (runs, 300)) + random.normal(0, 0.1, (runs, 1))
    detectable = paired_bootstrap(values).detectable
    assert Sample(values=values).found(detectable) == pytest.approx(0.8, abs=0.015)
    assert Sample(values=values).found(0.7 * detectable) < 0.75
