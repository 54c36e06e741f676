"""Variances of crossed users and runs, and the power that follows, against simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from bench.protocol.variance import Spread, Variances, variances


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
    assert single.spread(users=40, runs=5).stderr == pytest.approx(values.std(ddof=1) / math.sqrt(40))


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


def spread_of(values: np.ndarray) -> Spread:
    return variances(values).spread(users=values.shape[1], runs=values.shape[0])


@pytest.mark.parametrize(("runs", "s"), [(1, 0.0), (2, 0.01), (3, 0.004), (5, 0.03)])
def test_a_difference_is_found_as_often_as_predicted(runs: int, s: float) -> None:
    rng = np.random.default_rng(5)
    users, trials = 150, 2000
    planned = Variances(users=0.5, runs=s, both=0.3).spread(users=users, runs=runs)
    mean = 2.5 * planned.stderr
    drawn = [crossed(rng, runs=runs, users=users, mean=mean, u=0.5, s=s, e=0.3) for _ in range(trials)]
    assert np.std([values.mean() for values in drawn]) == pytest.approx(planned.stderr, rel=0.06)
    predicted = planned.chance(mean)
    found = np.mean([abs(values.mean()) > spread_of(values).margin() for values in drawn])
    assert abs(found - predicted) < 4 * math.sqrt(predicted * (1 - predicted) / trials) + 0.005


def test_a_margin_is_that_of_runs_and_of_users_by_their_own_t() -> None:
    spread = Spread(of_runs=0.02, of_users=0.01, runs=3, users=40)
    for level in (0.05, 0.1):
        expected = math.hypot(
            *(t.isf(level / 2, df) * math.sqrt(part) for df, part in ((2, 0.02), (39, 0.01)))
        )
        assert spread.margin(level) == pytest.approx(expected)
        assert spread.widening(level) == pytest.approx(expected / (norm.isf(level / 2) * math.sqrt(0.03)))
        assert spread.p_value(expected) == pytest.approx(level) == spread.p_value(-expected)
    assert Spread(of_runs=0.0, of_users=0.04, runs=1, users=21).margin() == pytest.approx(
        t.isf(0.025, 20) * 0.2
    )
    assert Spread(of_runs=0.04, of_users=0.0, runs=4, users=9).p_value(0.5) == pytest.approx(2 * t.sf(2.5, 3))
    assert spread.p_value(0.0) == 1.0 and 0 < spread.p_value(1e3) < 1e-6 and spread.p_value(1e200) == 0.0
    nothing = Spread(of_runs=0.0, of_users=0.0, runs=3, users=40)
    assert (nothing.p_value(0.0), nothing.p_value(0.1), nothing.widening(), nothing.margin()) == (1, 0, 1, 0)


def test_chances_at_the_ends() -> None:
    spread = Spread(of_runs=0.0, of_users=0.01, runs=1, users=10**7)
    assert spread.chance(0.0) == pytest.approx(0.05)
    assert spread.chance(-0.2) == spread.chance(0.2)
    for difference in (0.1, 0.05, -0.02):
        away, needed = difference / 0.1, norm.ppf(0.975)
        assert spread.chance(difference) == pytest.approx(norm.sf(needed - away) + norm.cdf(-needed - away))
    reach = norm.ppf(0.975) + norm.ppf(0.8)
    assert spread.detectable() == pytest.approx(0.1 * reach, rel=1e-4)
    nothing = Spread(of_runs=0.0, of_users=0.0, runs=3, users=40)
    assert nothing.chance(-0.01) == 1.0 and nothing.chance(0.0) == 0.0 and nothing.detectable() == 0.0


def test_the_detectable_difference_of_runs_alone_is_that_of_a_t_test() -> None:
    # A difference is found four times in five by the noncentral t distribution.
    from scipy.stats import nct

    for runs in (2, 3, 5):
        found = Spread(of_runs=0.01, of_users=0.0, runs=runs, users=50).detectable()
        needed = t.isf(0.025, runs - 1)
        power = nct.sf(needed, runs - 1, found / 0.1) + nct.cdf(-needed, runs - 1, found / 0.1)
        assert power == pytest.approx(0.8, abs=0.003)


def test_the_least_users_are_enough_and_one_fewer_is_not() -> None:
    spread = Variances(users=0.05, runs=0.000002, both=0.02)
    for difference, power in ((0.02, 0.8), (0.03, 0.9), (0.5, 0.2)):
        for runs in (1, 3, 5):
            needed = spread.users_needed(difference=difference, runs=runs, power=power)
            assert needed is not None
            chances = [spread.spread(users=n, runs=runs).chance(difference) for n in (needed, needed - 1)]
            assert chances[0] >= power and (chances[1] < power or needed == 2)
    by_runs = [spread.users_needed(difference=0.02, runs=runs, power=0.8) for runs in (3, 5, 9)]
    assert by_runs == sorted(by_runs, reverse=True)
    reach = norm.ppf(0.975) + norm.ppf(0.8)
    alone = Variances(users=1.0, runs=None, both=0.0).users_needed(difference=0.05, runs=1, power=0.8)
    assert alone == pytest.approx((reach / 0.05) ** 2, abs=3)
    assert Variances(users=0.0, runs=None, both=0.0).users_needed(difference=0.1, runs=1, power=0.8) == 2


def test_runs_alone_may_forbid_a_difference() -> None:
    spread = Variances(users=0.05, runs=0.0001, both=0.02)
    assert spread.users_needed(difference=0.02, runs=2, power=0.8) is None
    assert spread.users_needed(difference=0.02, runs=5, power=0.8) is not None
    for huge in (Variances(users=1e9, runs=None, both=0.0), Variances(users=0.0, runs=None, both=1e9)):
        assert huge.users_needed(difference=1e-3, runs=1, power=0.8) is None


def test_a_standard_error_by_hand() -> None:
    spread = Variances(users=0.5, runs=0.02, both=0.25).spread(users=10, runs=2)
    assert (spread.of_runs, spread.of_users) == (pytest.approx(0.01), pytest.approx(0.5 / 10 + 0.25 / 20))
    assert spread.stderr == pytest.approx(math.sqrt(0.5 / 10 + 0.02 / 2 + 0.25 / 20))
    assert Variances(users=0.5, runs=None, both=0.0).spread(users=8, runs=4).stderr == 0.25


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
