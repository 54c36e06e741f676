from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from bench.protocol.statistics import (
    LEAST_RUNS,
    Difference,
    differ,
    holm,
    mean_interval,
    mean_stderr,
    paired_bootstrap,
    paired_interval,
)
from bench.protocol.variance import Spread


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


def resampled_by_loops(values: np.ndarray, *, resamples: int, seed: int) -> list[float]:
    """Means of redrawn runs and users of one block, each written out: a value counts as often as both were drawn."""
    runs, users = values.shape
    moved = values.copy()
    if runs > 1:
        own = [np.nanmean(row) for row in values]
        for run in range(runs):
            moved[run] += ((runs / (runs - 1)) ** 0.5 - 1) * (own[run] - sum(own) / runs)
    rng = np.random.default_rng(seed)
    times_run = rng.multinomial(runs, [1 / runs] * runs, size=resamples)
    drawn_users = rng.integers(0, users, size=(resamples, users))
    means = []
    for times, drawn in zip(times_run, drawn_users, strict=True):
        taken = [moved[run, user] for run in range(runs) for user in drawn for _ in range(times[run])]
        known = [value for value in taken if not np.isnan(value)]
        means.append(sum(known) / len(known) if known else 0.0)
    return means


@pytest.mark.parametrize(
    "values",
    [
        [[0.5, -0.25, 1.0, 0.0, 0.75]],
        [[1.0, 2.0, np.nan, 4.0], [3.0, np.nan, 1.0, 5.0], [0.0, 1.0, 2.0, np.nan]],
    ],
)
def test_the_bootstrap_is_that_of_loops(values: list[list[float]]) -> None:
    array = np.array(values)
    for confidence, seed in ((0.95, 0), (0.5, 4)):
        found = paired_bootstrap(array, confidence=confidence, resamples=60, seed=seed)
        means = resampled_by_loops(array, resamples=60, seed=seed)
        ends = np.percentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])
        moved = found.mean + (ends - found.mean) * found.spread.widening(1 - confidence)
        assert (found.low, found.high) == pytest.approx(tuple(moved))
        assert (found.confidence, found.seeds, found.users) == (confidence, *array.shape)
        assert found.mean == pytest.approx(np.nanmean(array))
    usual = paired_bootstrap(array)
    end = np.percentile(resampled_by_loops(array, resamples=2000, seed=0), 2.5)
    assert usual.low == pytest.approx(usual.mean + (end - usual.mean) * usual.spread.widening())


def test_a_single_user_tells_of_runs_alone() -> None:
    assert paired_bootstrap([[1.0], [2.0], [6.0]]).spread == Spread(
        of_runs=pytest.approx(7.0 / 3), of_users=0.0, runs=3, users=1
    )
    assert paired_bootstrap([5.0]).spread == Spread(of_runs=0.0, of_users=0.0, runs=1, users=1)
    assert paired_bootstrap([[1.0, 2.0], [2.0, 4.0]]).spread.users == 2
    assert paired_bootstrap([1.0, 3.0]).spread.of_users == pytest.approx(1.0)


def test_blocks_of_users_bound_memory_and_hold_every_resample(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(2, 40))
    whole = paired_bootstrap(values, resamples=997)
    monkeypatch.setattr("bench.protocol.statistics._VALUES_KEPT", 0)  # too many to keep
    monkeypatch.setattr(
        "bench.protocol.statistics._VALUES_AT_ONCE", 400
    )  # ten resamples at a time, the last seven
    sizes = []
    multinomial = np.random.Generator.multinomial

    class Counting:
        def __init__(self, seed: int) -> None:
            self.rng = np.random.Generator(np.random.PCG64(seed))

        def multinomial(self, *arguments: object, size: int) -> np.ndarray:
            sizes.append(size)
            return multinomial(self.rng, *arguments, size=size)

        def integers(self, *arguments: object, **options: object) -> np.ndarray:
            return self.rng.integers(*arguments, **options)

    monkeypatch.setattr(np.random, "default_rng", Counting)
    blocks = paired_bootstrap(values, resamples=997)
    assert sizes == [10] * 99 + [7]
    assert blocks.stderr == pytest.approx(whole.stderr, rel=0.1) and blocks.mean == whole.mean
    monkeypatch.setattr(
        "bench.protocol.statistics._VALUES_AT_ONCE", 30
    )  # fewer than there are users: one at a time
    sizes.clear()
    paired_bootstrap(values, resamples=5)
    assert sizes == [1] * 5


def test_a_difference_has_the_p_value_and_the_detectable_difference_of_its_spread() -> None:
    spread = Spread(of_runs=0.0, of_users=0.04, runs=1, users=21)
    found = Difference(mean=-0.3, low=0.0, high=0.0, confidence=0.95, spread=spread)
    assert found.p_value == pytest.approx(2 * scipy.stats.t.sf(1.5, 20))
    assert (found.stderr, found.seeds, found.users) == (pytest.approx(0.2), 1, 21)
    assert found.detectable == spread.detectable()


@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("ratio", [0.0, 2.0, 6.0])
def test_few_runs_that_differ_much_are_covered_as_often_as_is_said(runs: int, ratio: float) -> None:
    """The standard deviation between runs is so many times the standard error over users."""
    rng = np.random.default_rng([runs, int(ratio)])
    users, trials, covered, plain = 60, 1000, 0, 0
    for trial in range(trials):
        effects = rng.normal(0, ratio * 0.6 / np.sqrt(users), (runs, 1)) + rng.normal(0, 0.6, (1, users))
        values = 0.3 + effects + rng.normal(0, 0.6, (runs, users))
        found = paired_bootstrap(values, resamples=200, seed=trial)
        covered += found.low <= 0.3 <= found.high
        plain += abs(found.mean - 0.3) <= 1.96 * found.stderr
    # Two runs that differ much are covered less often, and decide nothing.
    assert (0.90 if runs < LEAST_RUNS else 0.93) <= covered / trials <= 0.98
    if ratio == 6.0:
        assert plain / trials < (0.82, 0.90, 0.93)[(2, 3, 5).index(runs)], "normal intervals are too narrow"


def test_whether_two_columns_differ_is_what_the_interval_says() -> None:
    rng = np.random.default_rng(2)
    index = pd.MultiIndex.from_product([range(4), range(200)], names=["seed", "user_id"])
    for shift, expected in ((0.0, False), (0.4, True), (-0.4, True)):
        second = pd.Series(rng.normal(0, 1, 800), index=index)
        both = pd.DataFrame({"first": second + shift + rng.normal(0, 0.5, 800), "second": second})
        found = paired_interval(both)
        assert differ(both) == expected == (found.low > 0 or found.high < 0)
        assert differ(both.droplevel("seed").iloc[:200]) == expected


def test_interval_of_a_few_blocks_is_students() -> None:
    blocks = [1.0, 1.5, 1.25, 2.5]
    for confidence in (0.95, 0.8):
        low, high = scipy.stats.t.interval(confidence, 3, loc=np.mean(blocks), scale=scipy.stats.sem(blocks))
        assert mean_interval(blocks, confidence=confidence) == pytest.approx((low, high))
    assert mean_interval(blocks) == mean_interval(blocks, confidence=0.95)
    assert mean_interval([3.0, 5.0])[0] is not None
    assert mean_interval([3.0]) == mean_interval([]) == (None, None)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf, 1.0], [[1.0, 2.0]]])
def test_refuses_values_without_a_mean(values: list) -> None:
    with pytest.raises(ValueError, match="non-empty vector of finite values"):
        mean_stderr(values)


def test_a_single_value_has_a_mean_and_no_error() -> None:
    assert mean_stderr([0.25]) == (0.25, None)
    assert mean_stderr([1, 2]) == (1.5, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "every run and user has some"),
        ([[np.nan, 1.0], [np.nan, 2.0]], "every run and user has some"),
        ([[np.nan, np.nan], [1.0, 2.0]], "every run and user has some"),
        ([[[1.0]]], "every run and user has some"),
        ([[1.0, np.inf]], "must be finite"),
        ([[1.0, -np.inf]], "must be finite"),
    ],
)
def test_what_is_wrong_with_differences_is_said(values: list, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        paired_bootstrap(values)


@pytest.mark.parametrize(("users", "resamples"), [(5, 2000), (10_000, 2000), (16_000, 1250), (40_000, 999)])
def test_intervals_of_many_users_take_fewer_resamples(
    monkeypatch: pytest.MonkeyPatch, users: int, resamples: int
) -> None:
    asked = {}

    def asked_for(values: np.ndarray, **options: object) -> None:
        asked.update(options, shape=values.shape, first=values[0, 0])

    monkeypatch.setattr("bench.protocol.statistics.paired_bootstrap", asked_for)
    both = pd.DataFrame({"first": np.ones(users), "second": np.full(users, 0.25)})
    paired_interval(both, confidence=0.9)
    assert asked == {"confidence": 0.9, "resamples": resamples, "shape": (1, users), "first": 0.75}
    paired_interval(both)
    assert asked["confidence"] == 0.95


def test_an_interval_has_a_row_for_each_seed() -> None:
    index = pd.MultiIndex.from_tuples([(0, "a"), (0, "b"), (1, "b"), (1, "c")], names=["seed", "user_id"])
    both = pd.DataFrame({"first": [1.0, 2.0, 3.0, 4.0], "second": [0.5, 0.0, 1.0, 1.0]}, index=index)
    values = np.array([[0.5, 2.0, np.nan], [np.nan, 2.0, 3.0]])
    assert paired_interval(both) == paired_bootstrap(values)
