from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from bench.protocol.statistics import mean_stderr, paired_bootstrap, paired_permutation, wilcoxon


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
    ours = paired_bootstrap(*pair, resamples=5000)
    theirs = scipy.stats.bootstrap(
        (pair[0] - pair[1],), np.mean, n_resamples=5000, method="percentile"
    ).confidence_interval
    assert ours.mean == pytest.approx((pair[0] - pair[1]).mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.004)
    assert ours.high == pytest.approx(theirs.high, abs=0.004)
    assert ours == paired_bootstrap(*pair, resamples=5000)


def test_bootstrap_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        values = rng.normal(0.3, 1.0, 80)
        interval = paired_bootstrap(values, np.zeros(80), resamples=400, confidence=0.9, seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.84 <= covered / 300 <= 0.95


def test_permutation_p_value_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(3)
    differences = rng.normal(0.4, 1.0, 12)
    exact = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert paired_permutation(differences, np.zeros(12), resamples=20000) == pytest.approx(exact, abs=0.015)


def test_no_difference_is_no_evidence() -> None:
    same = np.linspace(0, 1, 30)
    assert paired_permutation(same, same) == 1.0
    assert wilcoxon(same, same) == 1.0
    interval = paired_bootstrap(same, same)
    assert (interval.mean, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_a_clear_difference_is_found_in_either_direction() -> None:
    low, high = np.zeros(50), np.full(50, 0.2) + np.linspace(0, 0.01, 50)
    for first, second in ((low, high), (high, low)):
        assert paired_permutation(first, second) < 0.001
        assert wilcoxon(first, second) < 0.001


@pytest.mark.parametrize("second", [[1.0], [1.0, np.nan, 0.0], [[1.0, 2.0, 3.0]]])
def test_refuses_what_is_not_paired(second: list) -> None:
    with pytest.raises(ValueError, match="paired"):
        paired_bootstrap([1.0, 2.0, 3.0], second)
