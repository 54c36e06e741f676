from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from bench.protocol.statistics import (
    holm,
    mean_stderr,
    minimum_detectable,
    paired_bootstrap,
)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    base = rng.random(200)
    return base + rng.normal(0.05, 0.2, 200), base


def test_mean_stderr_equals_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    mean, stderr = mean_stderr(pair[0])
    assert mean == pytest.approx(pair[0].mean())
    assert stderr == pytest.approx(scipy.stats.sem(pair[0]))


def test_bootstrap_interval_is_near_that_of_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    ours = paired_bootstrap(pair[0] - pair[1], resamples=5000)
    theirs = scipy.stats.bootstrap(
        (pair[0] - pair[1],), np.mean, n_resamples=5000, method="percentile"
    ).confidence_interval
    assert ours.mean == pytest.approx((pair[0] - pair[1]).mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.004)
    assert ours.high == pytest.approx(theirs.high, abs=0.004)
    assert ours == paired_bootstrap(pair[0] - pair[1], resamples=5000)
    assert ours.stderr == pytest.approx(scipy.stats.sem(pair[0] - pair[1]), rel=0.05)


def test_bootstrap_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        values = rng.normal(0.3, 1.0, 80)
        interval = paired_bootstrap(values, resamples=400, confidence=0.9, seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.84 <= covered / 300 <= 0.95


def test_p_value_is_near_that_of_a_permutation_test() -> None:
    rng = np.random.default_rng(3)
    differences = rng.normal(0.1, 1.0, 400)
    theirs = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20000
    ).pvalue
    assert paired_bootstrap(differences).p_value == pytest.approx(theirs, abs=0.03)


def test_no_difference_is_no_evidence() -> None:
    same = np.linspace(0, 1, 30)
    interval = paired_bootstrap(same - same)
    assert interval.p_value == 1.0
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_a_clear_difference_is_found_in_either_direction() -> None:
    low, high = np.zeros(50), np.full(50, 0.2) + np.linspace(0, 0.01, 50)
    for first, second in ((low, high), (high, low)):
        assert paired_bootstrap(first - second).p_value < 0.001


@pytest.mark.parametrize("differences", [[], [[np.nan, 1.0], [np.nan, 2.0]], [[1.0, np.inf]], [[[1.0]]]])
def test_refuses_what_has_no_mean(differences: list) -> None:
    with pytest.raises(ValueError, match="paired"):
        paired_bootstrap(differences)


def runs_of(rng: np.random.Generator, *, runs: int, users: int, of_runs: float) -> np.ndarray:
    """Return differences of mean 0.3: effects of runs, of users, and of both together."""
    effects = rng.normal(0, of_runs, (runs, 1)) + rng.normal(0, 0.6, (1, users))
    return 0.3 + effects + rng.normal(0, 0.6, (runs, users))


@pytest.mark.parametrize("runs", [3, 5])
def test_runs_and_users_are_both_redrawn(runs: int) -> None:
    rng = np.random.default_rng(runs)
    both, users_alone = 0, 0
    for trial in range(300):
        values = runs_of(rng, runs=runs, users=60, of_runs=0.15)
        interval = paired_bootstrap(values, resamples=400, confidence=0.9, seed=trial)
        alone = paired_bootstrap(values.mean(axis=0), resamples=400, confidence=0.9, seed=trial)
        both += interval.low <= 0.3 <= interval.high
        users_alone += alone.low <= 0.3 <= alone.high
    assert both / 300 >= 0.84
    assert users_alone / 300 < 0.8, "users alone say too much where runs differ"
    assert (interval.seeds, interval.users) == (runs, 60)


def test_a_user_whom_some_runs_left_out_counts_where_it_was_evaluated() -> None:
    values = np.array([[1.0, 2.0, np.nan, 4.0], [3.0, np.nan, 1.0, 5.0]])
    assert paired_bootstrap(values).mean == pytest.approx(np.nanmean(values))


def test_holm_adjusts_as_statsmodels_does() -> None:
    # statsmodels.stats.multitest.multipletests([.01, .04, .03, .005], method="holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    users, difference = 200, minimum_detectable(1 / np.sqrt(200))
    found = sum(
        scipy.stats.ttest_1samp(rng.normal(difference, 1.0, users), 0.0).pvalue < 0.05 for _ in range(1000)
    )
    assert found / 1000 == pytest.approx(0.8, abs=0.04)
