"""Variances of crossed users and runs, and the power that follows, against simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from bench.protocol.power import Variances, chance, variances
from bench.protocol.statistics import minimum_detectable


def crossed(
    rng: np.random.Generator, *, runs: int, users: int, u: float, s: float, e: float, mean: float = 0.0
) -> np.ndarray:
    """Return differences [runs, users] with these variances."""
    of_users = rng.normal(0, math.sqrt(u), users)
    of_runs = rng.normal(0, math.sqrt(s), (runs, 1))
    return mean + of_users + of_runs + rng.normal(0, math.sqrt(e), (runs, users))


def test_equal_to_mean_squares_where_all_runs_have_all_users() -> None:
    values = crossed(np.random.default_rng(1), runs=4, users=50, u=0.5, s=0.3, e=0.2, mean=7.0)
    runs, users = values.shape
    grand, by_user, by_run = values.mean(), values.mean(axis=0), values.mean(axis=1)
    between_users = runs * ((by_user - grand) ** 2).sum() / (users - 1)
    between_runs = users * ((by_run - grand) ** 2).sum() / (runs - 1)
    rest = ((values - by_user - by_run[:, None] + grand) ** 2).sum() / ((runs - 1) * (users - 1))
    found = variances(values)
    assert found.both == pytest.approx(rest)
    assert found.users == pytest.approx((between_users - rest) / runs)
    assert found.runs == pytest.approx((between_runs - rest) / users)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_variances_are_recovered_with_and_without_missing_users(share: float) -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        values = crossed(rng, runs=5, users=60, u=0.5, s=0.3, e=0.2, mean=0.1)
        values[rng.random(values.shape) > share] = np.nan
        values = values[:, ~np.isnan(values).all(axis=0)]
        parts = variances(values)
        found.append((parts.users, parts.runs, parts.both))
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / math.sqrt(len(found))
    assert (np.abs(means - [0.5, 0.3, 0.2]) < 4 * errors).all()


def test_users_of_which_none_is_in_two_runs_leave_both_with_users() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(300):
        values = crossed(rng, runs=4, users=80, u=0.5, s=0.3, e=0.2)
        values[np.arange(80) % 4 != np.arange(4)[:, None]] = np.nan
        parts = variances(values)
        assert parts.both == 0.0
        found.append((parts.users, parts.runs))
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / math.sqrt(len(found))
    assert (np.abs(means - [0.7, 0.3]) < 4 * errors).all()


def test_nothing_is_negative_and_a_single_run_tells_of_users_alone() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        found = variances(crossed(rng, runs=2, users=8, u=0.0, s=0.0, e=1.0))
        assert min(found.users, found.runs or 0.0, found.both) >= 0
    same = variances(np.tile(rng.normal(size=50), (3, 1)))
    assert same.runs == 0.0 and same.both == 0.0 and same.users > 0
    values = rng.normal(size=40)
    single = variances(values)
    assert single == Variances(users=pytest.approx(values.var(ddof=1)), runs=None, both=0.0)
    assert single.stderr(users=40, runs=5) == pytest.approx(values.std(ddof=1) / math.sqrt(40))


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [[1.0], [2.0]],
        [[1.0, np.nan], [2.0, np.nan]],
        [[np.nan, np.nan], [1.0, 2.0]],
        [1.0, np.inf],
    ],
)
def test_values_that_tell_nothing_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="paired"):
        variances(values)


@pytest.mark.parametrize("runs", [1, 3])
def test_a_difference_is_found_as_often_as_predicted(runs: int) -> None:
    rng = np.random.default_rng(5)
    parts = {"u": 0.5, "s": 0.004, "e": 0.3}
    spread = Variances(users=parts["u"], runs=parts["s"], both=parts["e"])
    users, mean, trials = 150, 0.2, 3000
    stderr = spread.stderr(users=users, runs=runs)
    means = [crossed(rng, runs=runs, users=users, mean=mean, **parts).mean() for _ in range(trials)]
    assert np.std(means) == pytest.approx(stderr, rel=0.06)
    predicted = chance(mean, stderr)
    found = np.mean(np.abs(means) / stderr > 1.96)
    assert abs(found - predicted) < 4 * math.sqrt(predicted * (1 - predicted) / trials)


def test_the_least_users_are_enough_and_one_fewer_is_not() -> None:
    spread = Variances(users=0.05, runs=0.00001, both=0.02)
    for difference, power in ((0.02, 0.8), (0.03, 0.9), (0.5, 0.2)):
        for runs in (1, 3, 5):
            needed = spread.users_needed(difference=difference, runs=runs, power=power)
            assert needed is not None
            reach = [
                minimum_detectable(spread.stderr(users=users, runs=runs), power=power)
                for users in (needed, needed - 1)
            ]
            assert reach[0] <= difference and (reach[1] > difference or needed == 2)
    by_runs = [spread.users_needed(difference=0.02, runs=runs, power=0.8) for runs in (1, 3, 5)]
    assert by_runs == sorted(by_runs, reverse=True)


def test_runs_alone_may_forbid_a_difference() -> None:
    spread = Variances(users=0.05, runs=0.0001, both=0.02)
    assert minimum_detectable(math.sqrt(0.0001)) > 0.02
    assert spread.users_needed(difference=0.02, runs=1, power=0.8) is None
    assert spread.users_needed(difference=0.02, runs=5, power=0.8) is not None
    huge = Variances(users=1e9, runs=None, both=0.0)
    assert huge.users_needed(difference=1e-3, runs=1, power=0.8) is None


def test_chances_at_the_ends() -> None:
    assert chance(0.0, 0.1) == pytest.approx(0.05)
    assert chance(0.01, 0.0) == 1.0 and chance(0.0, 0.0) == 0.0
    assert chance(minimum_detectable(0.1, power=0.8), 0.1) == pytest.approx(0.8, abs=1e-5)
    assert chance(-0.2, 0.1) == chance(0.2, 0.1)
    assert Variances(users=1.0, runs=None, both=0.0).users_needed(difference=0.1, runs=1, power=0.01) == 2


def test_a_standard_error_by_hand() -> None:
    assert Variances(users=0.5, runs=0.02, both=0.25).stderr(users=10, runs=2) == pytest.approx(
        math.sqrt(0.5 / 10 + 0.02 / 2 + 0.25 / 20)
    )
    assert Variances(users=0.5, runs=None, both=0.0).stderr(users=8, runs=4) == 0.25


def test_users_needed_by_hand() -> None:
    reach = norm.ppf(0.975) + norm.ppf(0.8)
    for difference in (0.1, 0.05):
        # (difference / reach)^2 = 1 / users
        needed = Variances(users=1.0, runs=None, both=0.0).users_needed(
            difference=difference, runs=1, power=0.8
        )
        assert needed == math.ceil((reach / difference) ** 2)
        with_runs = Variances(users=1.0, runs=0.0003, both=0.5)
        needed = with_runs.users_needed(difference=difference, runs=2, power=0.8)
        room = (difference / reach) ** 2 - 0.0003 / 2
        assert needed == math.ceil(1.25 / room)
    assert Variances(users=0.0, runs=None, both=0.0).users_needed(difference=0.1, runs=1, power=0.8) == 2
    # Ten thousand million users would do, one more would not.
    for most, expected in ((10_000_000_000, True), (10_001_000_000, False)):
        spread = Variances(users=most * (0.01 / reach) ** 2 * 0.999999, runs=None, both=0.0)
        found = spread.users_needed(difference=0.01, runs=1, power=0.8)
        assert (found is not None) == expected
        assert not expected or found == pytest.approx(1e10, rel=1e-4)


def test_what_users_and_runs_do_together_may_take_too_many_users() -> None:
    spread = Variances(users=0.0, runs=None, both=1e9)
    assert spread.users_needed(difference=1e-3, runs=1, power=0.8) is None


def test_a_chance_is_that_of_a_two_sided_normal_test() -> None:
    needed = norm.ppf(0.975)
    for difference, stderr in ((0.1, 0.05), (0.01, 0.05), (-0.02, 0.01)):
        away = difference / stderr
        assert chance(difference, stderr) == pytest.approx(norm.sf(needed - away) + norm.cdf(-needed - away))
    assert chance(-0.01, 0.0) == 1.0


def test_variances_by_hand_of_two_runs() -> None:
    # Users' means 1, 2, 6; runs' means 2.5 and 3.5; what is left: -0.5, 0.5, 0 and its opposite.
    found = variances([[0.0, 2.0, 5.5], [2.0, 2.0, 6.5]])
    rest = 2 * (0.5**2 + 0.5**2 + 0.0**2) / 2
    users = 2 * ((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2
    runs = 3 * ((2.5 - 3) ** 2 + (3.5 - 3) ** 2) / 1
    assert found.both == pytest.approx(rest)
    assert found.users == pytest.approx((users - rest) / 2)
    assert found.runs == pytest.approx((runs - rest) / 3)


def test_two_users_are_enough_and_what_is_wrong_is_said() -> None:
    assert variances([1.0, 3.0]) == Variances(users=2.0, runs=None, both=0.0)
    for values in ([1.0], [[[1.0, 2.0]]], [[1.0, np.nan], [2.0, np.nan]], [[np.nan, np.nan], [1.0, 2.0]]):
        with pytest.raises(ValueError, match="two users or more; every run and user has some"):
            variances(values)
    with pytest.raises(ValueError, match="must be finite"):
        variances([1.0, -np.inf])
