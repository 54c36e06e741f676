"""Semantic IDs: nearest centroids by brute force, duplicates by pandas, each item its own codes, collapse refused."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest

from baselines.generative.quantiser import (
    QuantiserOptions,
    nearest_centroids,
    principal_components,
    quantise,
    side_by_side,
    usual_codebook,
)
from illmrec.errors import InputError, UnsupportedError

N_ITEMS = 120


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Items in eight clumps; ten of them equal another."""
    generator = np.random.default_rng(0)
    centres = 4 * generator.normal(size=(8, 6))
    found = centres[np.arange(N_ITEMS) % 8] + generator.normal(size=(N_ITEMS, 6))
    found[-10:] = found[:10]
    return found.astype(np.float32)


def options(**changes) -> QuantiserOptions:
    return QuantiserOptions(**{"levels": 3, "codebook": 12, "most_colliding": 1.0, **changes})


@pytest.mark.parametrize("collisions", ["assigned", "extra"])
def test_codes_are_those_of_the_nearest_centroids_one_residual_after_the_other(vectors, collisions):
    ids = quantise(vectors, options=options(collisions=collisions), seed=0)
    levels = 3 if collisions == "assigned" else 2
    assert ids.codes.shape == (N_ITEMS, 3) and ids.centroids.shape == (levels, 12, 6)
    rest, nearest = vectors.astype(np.float64), []
    for table in ids.centroids:
        gaps = [[np.sum((row - centroid) ** 2) for centroid in table] for row in rest]
        nearest.append(np.argmin(gaps, axis=1))
        rest = rest - table[nearest[-1]]
    wanted = np.stack(nearest, axis=1)
    same = ids.codes[:, :levels] == wanted
    assert same[:, : levels - 1].all()
    # Only where items would share all codes was a last one changed.
    frame = pd.DataFrame(wanted)
    shared = frame.duplicated(keep=False).to_numpy()
    assert ids.report.colliding == shared.sum() and ids.report.largest_group == frame.value_counts().max()
    if collisions == "extra":
        assert same.all() and ids.report.reassigned == 0
    else:
        assert ids.report.reassigned == (~same[:, -1]).sum() > 0
        in_such_a_group = frame.groupby([0, 1])[2].transform(lambda last: last.duplicated().any())
        assert same[~in_such_a_group.to_numpy()].all()
    centred = vectors - vectors.mean(axis=0)
    assert ids.report.left_over[-1] == pytest.approx((rest**2).sum() / (centred**2).sum(), rel=1e-3)
    assert ids.report.codes_used == tuple(len(set(column)) for column in nearest)


@pytest.mark.parametrize("collisions", ["assigned", "extra"])
def test_no_two_items_share_their_codes(vectors, collisions):
    ids = quantise(vectors, options=options(collisions=collisions), seed=1)
    assert not pd.DataFrame(ids.codes).duplicated().any()
    assert ids.codes.min() >= 0 and ids.codes.max() < ids.codebook == 12
    assert np.array_equal(quantise(vectors, options=options(collisions=collisions), seed=1).codes, ids.codes)


def test_items_that_collide_take_the_last_codes_at_least_distance():
    """Three equal items and one apart, on one level of their own: by trying all ways."""
    generator = np.random.default_rng(3)
    vectors = np.repeat(10 * np.eye(4, dtype=np.float32), 4, axis=0)
    vectors += generator.normal(size=vectors.shape).astype(np.float32)
    vectors[1] = vectors[2] = vectors[0]
    ids = quantise(vectors, options=QuantiserOptions(levels=2, codebook=4, most_colliding=1.0), seed=0)
    rest = vectors - ids.centroids[0][ids.codes[:, 0]]
    costs = ((rest[:, None] - ids.centroids[1][None]) ** 2).sum(axis=-1)
    for code in range(4):
        members = np.flatnonzero(ids.codes[:, 0] == code)
        taken = costs[members, ids.codes[members, 1]].sum()
        least = min(costs[members, list(way)].sum() for way in permutations(range(4), len(members)))
        assert taken == pytest.approx(least, rel=1e-4)


def test_it_finds_clumps_and_leaves_less_at_every_level(vectors):
    ids = quantise(vectors, options=options(levels=4, iterations=50), seed=0)
    left = ids.report.left_over
    assert all(later < earlier for earlier, later in pairwise(left))
    noise = ((vectors - pd.DataFrame(vectors).groupby(np.arange(N_ITEMS) % 8).transform("mean")) ** 2).sum()
    total = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    assert left[0] < 1.5 * noise.sum() / total.sum()
    assert np.array_equal(nearest_centroids(vectors, ids.centroids[0]), ids.codes[:, 0])


def test_components_are_those_of_a_singular_value_decomposition():
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(60, 9)) * np.arange(1, 10) + 5).astype(np.float32)
    found, kept = principal_components(vectors, 4)
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(left * sizes)[:, :4], rtol=1e-3, atol=1e-3)
    assert kept == pytest.approx((sizes[:4] ** 2).sum() / (sizes**2).sum(), rel=1e-4)
    assert principal_components(vectors, 9)[0] is not None and principal_components(vectors, None)[1] == 1.0
    ids = quantise(vectors, options=options(components=4, codebook=8), seed=0)
    assert ids.centroids.shape == (3, 8, 4) and ids.report.kept == pytest.approx(kept)


def test_one_code_for_most_items_is_a_collapse():
    """All codes are in use, and nearly all items have one of them."""
    vectors = np.zeros((200, 4), dtype=np.float32)
    vectors[:20] = 10 * np.random.default_rng(0).normal(size=(20, 4))
    few = options(levels=2, codebook=24, least_used=0.0)
    with pytest.raises(UnsupportedError, match=r"collapsed .* perplexity 1\.\d, 1\.0; "):
        quantise(vectors, options=few, seed=0)


def test_feature_types_weigh_the_same():
    generator = np.random.default_rng(0)
    wide, narrow = 100 * generator.normal(size=(50, 30)) + 7, generator.normal(size=(50, 3))
    narrow[:, 0] = 4.0  # a column without information
    beside = side_by_side({"image": wide, "text": narrow})
    assert beside.shape == (50, 33) and beside.dtype == np.float32
    np.testing.assert_allclose(beside.mean(axis=0), 0, atol=1e-5)
    assert (beside[:, :30] ** 2).sum() == pytest.approx(50, rel=1e-4)
    assert (beside[:, 30:] ** 2).sum() == pytest.approx(50 * 2 / 3, rel=1e-4)


def test_a_collapse_stops_with_the_numbers(vectors):
    with pytest.raises(
        UnsupportedError, match=r"collapsed \(codes used by level: 1, .*120 of 120 items share"
    ):
        quantise(np.zeros_like(vectors), options=options(), seed=0)
    few = vectors[np.arange(N_ITEMS) % 30]
    with pytest.raises(
        UnsupportedError, match=r"collapsed .*120 of 120 items share all codes .*at most \d+ of"
    ):
        quantise(few, options=options(levels=4, most_colliding=0.5), seed=0)
    few[:40] = few[0]
    loose = options(least_used=0.0)
    with pytest.raises(
        UnsupportedError, match=r"\d\d items share the codes \d+ \d+ and a level has 12 codes"
    ):
        quantise(few, options=loose, seed=0)
    with pytest.raises(UnsupportedError, match=r"a level of 12 codes cannot tell \d\d items apart"):
        quantise(few, options=options(least_used=0.0, collisions="extra"), seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": 1}, "levels 1: must be at least 2"),
        ({"codebook": 1}, "codebook 1: must be at least 2"),
        ({"collisions": "none"}, "collisions none: unknown; valid: assigned, extra"),
        ({"least_used": 1.5}, "least_used 1.5: must be between 0 and 1"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(InputError, match=message):
        QuantiserOptions(**changes)


def test_bad_features():
    with pytest.raises(InputError, match="text features hold a number that is not finite"):
        side_by_side({"text": np.array([[1.0, np.nan]])})
    with pytest.raises(InputError, match="need a feature type"):
        side_by_side({})
    assert [usual_codebook(n) for n in (10, 160, 5000)] == [4, 10, 256]
