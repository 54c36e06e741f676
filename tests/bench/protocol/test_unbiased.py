"""Metrics of the whole catalogue out of sampled ranks, against brute force on simulated ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from bench.protocol import unbiased
from bench.protocol.metrics import METRICS, per_user, summarise
from bench.protocol.statistics import mean_stderr
from bench.protocol.unbiased import GAMMA, corrected

SHORT = ("hit@10", "ndcg@10", "mrr")


def chances(candidates: int, negatives: int) -> np.ndarray:
    """Return the chance of each sampled rank for each full rank, by scipy."""
    above = np.arange(candidates)[:, None]
    return scipy.stats.hypergeom.pmf(np.arange(negatives + 1), candidates - 1, above, negatives)


def estimates(ranks: np.ndarray, *, candidates: int, gamma: float = GAMMA) -> dict[str, tuple[float, float]]:
    """Return the mean of each metric and its standard error, from ranks among 100 sampled items."""
    found = unbiased.per_user(ranks, negatives=100, candidates=candidates, gamma=gamma)
    return {name: mean_stderr(values) for name, values in found.items()}


def metric_table(candidates: int) -> np.ndarray:
    return np.stack(list(per_user(np.arange(1, candidates + 1)).values()), axis=1)


def full_ranks(candidates: int, *, power: float, users: int, seed: int = 0) -> np.ndarray:
    """Return full ranks, the more of them at the top, the higher the power."""
    place = np.random.default_rng(seed).random(users) ** power
    return 1 + np.minimum((candidates * place).astype(np.int64), candidates - 1)


@pytest.mark.parametrize(
    ("candidates", "negatives", "gamma"), [(60, 20, 0.1), (200, 50, 0.01), (120, 7, 1.0)]
)
def test_values_minimise_squared_bias_and_variance(candidates: int, negatives: int, gamma: float) -> None:
    chance, wanted = chances(candidates, negatives), metric_table(candidates)

    def loss(values: np.ndarray) -> np.ndarray:
        mean = chance @ values
        variance = chance @ values**2 - mean**2
        return ((mean - wanted) ** 2 + gamma * variance).mean(axis=0)

    values = corrected(negatives, candidates, gamma)
    best = loss(values)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(20):
            assert (loss(values + size * rng.normal(size=values.shape)) > best).all()
    assert (best < loss(metric_table(negatives + 1))).all()


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_the_mean_over_samples_is_the_metric_but_for_the_stated_bias(power: float) -> None:
    """Items are drawn one by one; the bias is the expected value of each full rank, by scipy, less its metric."""
    candidates, negatives, users = 300, 100, 4000
    full = full_ranks(candidates, power=power, users=users)
    rng = np.random.default_rng(1)
    sampled = np.array(
        [1 + (rng.permutation(candidates - 1)[:negatives] < rank - 1).sum() for rank in full], dtype=np.int64
    )
    found = estimates(sampled, candidates=candidates)
    naive, truth = summarise(sampled), summarise(full)
    expected = (chances(candidates, negatives) @ corrected(negatives, candidates))[full - 1].mean(axis=0)
    for name, mean in zip(METRICS, expected, strict=True):
        assert found[name][0] == pytest.approx(mean, abs=5 * found[name][1])
    for name in SHORT:
        assert abs(found[name][0] - truth[name]) < 0.5 * abs(naive[name] - truth[name]), name


def test_ranks_that_are_spread_evenly_have_next_to_no_bias() -> None:
    for candidates in (300, 3000):
        expected = chances(candidates, 100) @ corrected(100, candidates)
        bias = expected.mean(axis=0) - metric_table(candidates).mean(axis=0)
        assert (np.abs(bias) < 0.05 * metric_table(candidates).mean(axis=0)).all()
    # What is at the very top is estimated too low, the more so, the fewer are sampled.
    column = METRICS.index("ndcg@10")
    top = [(chances(1000, n) @ corrected(n, 1000))[0, column] for n in (50, 100, 400, 900)]
    assert top == sorted(top) and top[0] < 0.5 and top[-1] < 1


@pytest.mark.parametrize("candidates", [2, 30, 101, 900])
def test_a_sample_of_everything_is_exact(candidates: int) -> None:
    ranks = full_ranks(candidates, power=2.0, users=500)
    found = unbiased.per_user(ranks, negatives=candidates - 1, candidates=candidates)
    for name, values in per_user(ranks).items():
        np.testing.assert_array_equal(found[name], values)
    if candidates - 1 <= unbiased.MOST:
        np.testing.assert_allclose(
            corrected(candidates - 1, candidates), metric_table(candidates), atol=1e-12
        )


def test_better_methods_have_higher_estimates() -> None:
    rng = np.random.default_rng(4)
    means = []
    for power in (0.5, 1.0, 2.0, 4.0, 8.0):
        full = full_ranks(2000, power=power, users=20_000)
        sampled = 1 + rng.hypergeometric(full - 1, 2000 - full, 100)
        means.append(estimates(sampled, candidates=2000))
    for name in METRICS:
        assert [mean[name][0] for mean in means] == sorted(mean[name][0] for mean in means), name
    # A larger weight of the variance takes from it.
    errors = [estimates(sampled, candidates=2000, gamma=gamma)["ndcg@10"][1] for gamma in (0.01, 0.1, 1.0)]
    assert errors == sorted(errors, reverse=True)


def test_bins_of_high_ranks_change_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    binned = corrected(50, 9000)
    assert len(unbiased._full_ranks(9000)[0]) < 2200
    monkeypatch.setattr(unbiased, "_SINGLY", 9000)
    corrected.cache_clear()
    np.testing.assert_allclose(binned, corrected(50, 9000), atol=1e-6)
    corrected.cache_clear()


@pytest.mark.parametrize("candidates", [1, 2, 1999, 2000, 2001, 2500, 60_000, 1_000_000])
def test_bins_hold_every_rank_once(candidates: int) -> None:
    ranks, counts = unbiased._full_ranks(candidates)
    assert counts.sum() == candidates and (np.diff(ranks) > 0).all() and (counts > 0).all()
    assert ranks[0] == 1 and ranks[-1] <= candidates and len(ranks) < 3000


def test_a_million_items_need_no_matrix_of_them() -> None:
    values = corrected(100, 1_000_000)
    assert values.shape == (101, len(METRICS)) and np.isfinite(values).all()
    chance = unbiased._chances(np.array([1, 5000, 999_999]), others=999_999, drawn=100)
    expected = scipy.stats.hypergeom.pmf(np.arange(101), 999_999, [[0], [4999], [999_998]], 100)
    np.testing.assert_allclose(chance, expected, atol=1e-8)


def test_a_large_sample_is_the_mean_over_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbiased, "MOST", 20)
    rng = np.random.default_rng(0)
    ranks = np.array([1, 4, 30, 61])
    found = unbiased.per_user(ranks, negatives=60, candidates=200)["ndcg@10"]
    for rank, value in zip(ranks, found, strict=True):
        parts = 1 + rng.hypergeometric(rank - 1, 61 - rank, 20, size=100_000)
        values = unbiased.per_user(parts, negatives=20, candidates=200)["ndcg@10"]
        assert value == pytest.approx(values.mean(), abs=5 * values.std() / 300 + 1e-12)


def test_targets_have_candidates_of_their_own() -> None:
    ranks, sizes = np.array([1, 3, 1, 8, 3]), np.array([60, 41, 21, 60, 60])
    found = unbiased.per_user(ranks, negatives=20, candidates=sizes)
    assert tuple(found) == METRICS
    for place, (rank, size) in enumerate(zip(ranks, sizes, strict=True)):
        alone = unbiased.per_user([rank], negatives=20, candidates=int(size))
        for name in METRICS:
            assert found[name][place] == alone[name][0]


@pytest.mark.parametrize(
    ("ranks", "negatives", "candidates", "expected"),
    [
        ([], 5, 10, "ranks must be"),
        ([0], 5, 10, "ranks start at 1"),
        ([1.5], 5, 10, "ranks must be"),
        ([7], 5, 10, "ranks among 5 sampled items end at 6, got 7"),
        ([1], 0, 10, "ranks among 0 sampled items"),
        ([1], 10, 10, "10 items cannot be sampled from 9 candidates"),
        ([1, 2], 5, [10, 3], "5 items cannot be sampled from 2 candidates"),
        ([1, 2], 5, [10, 10, 10], "candidates must be integers, one for each of 2 targets"),
        ([1], 5, 10.5, "candidates must be integers"),
    ],
)
def test_what_makes_no_sense_is_refused(ranks: Any, negatives: int, candidates: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        unbiased.per_user(ranks, negatives=negatives, candidates=candidates)


@pytest.mark.parametrize("gamma", [0.0, -GAMMA, 1.5, float("nan")])
def test_a_weight_out_of_range_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma"):
        unbiased.per_user([1], negatives=5, candidates=10, gamma=gamma)
