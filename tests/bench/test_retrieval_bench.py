"""The retrieval experiment as a user runs it, on a catalogue that takes moments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import retrieval
from bench.frames.retrieval import COLUMNS
from bench.retrieval import Mixture, recall
from bench.store.store import Store
from illmrec.command_line import run

TINY = [
    "--preset",
    "smoke",
    "--items",
    "3000",
    "--queries",
    "20",
    "--width",
    "16",
    "--k",
    "5",
    "--no-progress",
]


def retrieve(out: Path, *arguments: str) -> int:
    return run(retrieval.main, prog="bench.retrieval", args=[*TINY, "--out", str(out), *arguments])


def test_every_kind_is_measured_once(tmp_path):
    pytest.importorskip("faiss")
    assert retrieve(tmp_path, "--kinds", "exact,flat,hnsw", "--repeats", "2") == 0
    table = pd.read_csv(tmp_path / "tables" / "retrieval.csv")
    assert tuple(table.columns) == COLUMNS
    assert table["kind"].tolist() == ["exact", "flat", "hnsw", "hnsw", "hnsw"]
    assert table["effort"].tolist()[2:] == [32, 128, 512]
    assert (table[["items", "width", "queries", "k"]] == [3000, 16, 20, 5]).all(axis=None)
    assert (table["recall"][:2] == 1).all()
    assert (table["recall"][2:] > 0.5).all() and table["recall"][2:].is_monotonic_increasing
    vectors_mb = 3000 * 16 * 4 / 1e6
    assert (
        table["index_mb"][0] == pytest.approx(vectors_mb) and (table["index_mb"][2:] > 2 * vectors_mb).all()
    )
    store = Store(tmp_path)
    records = store.records("retrieval")
    for record in records:
        timings = store.read_frame(record, "timings")
        assert timings["batched"].sum() == 2 and (~timings["batched"]).sum() == 20
        rate = 20 / timings.loc[timings["batched"], "seconds"].median()
        assert record.results["queries_per_second"] == pytest.approx(rate)
    assert retrieve(tmp_path, "--kinds", "exact,flat", "--repeats", "2") == 0
    assert [record.created for record in store.records("retrieval")] == [record.created for record in records]
    assert pd.read_csv(tmp_path / "tables" / "retrieval.csv")["kind"].tolist() == ["exact", "flat"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--kinds", "exact,hsnw"], "did you mean 'hnsw'"),
        (["--items", "0"], "--items 0"),
        (["--repeats", "0"], "--repeats 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--k", "3001"], "--k 3001"),
        (["--kinds", "ivfpq"], "3000 items"),
        (["--preset", "huge"], "--preset"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, expected, tmp_path, capsys):
    pytest.importorskip("faiss")
    assert retrieve(tmp_path, *arguments) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and expected in errors[0]
    assert not list(tmp_path.rglob("cell.json"))


def test_the_mixture_is_clustered_and_reproducible():
    mixture = Mixture(items=400, width=32, seed=0)
    vectors = mixture.draw(20_000, seed=1)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(Mixture(items=400, width=32, seed=0).draw(50, seed=1), vectors[:50])
    assert not np.array_equal(mixture.draw(50, seed=2), vectors[:50])
    assert np.square(vectors).sum(axis=1).mean() == pytest.approx(1, rel=0.25)
    # Principal axes: a few carry most of the variance, and they are not the coordinates.
    values = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    assert values[:8].sum() > 0.5 * values.sum()
    assert vectors.var(axis=0).max() < 0.7 * values[0]
    # Clusters: the nearest neighbour is much nearer than in one Gaussian of the same covariance.
    gaussian = np.random.default_rng(3).multivariate_normal(
        vectors.mean(axis=0), np.cov(vectors.T), len(vectors)
    )

    def nearest_distance(points: np.ndarray) -> float:
        differences = points[:200, None, :] - points[None, 200:4000, :]
        return float(np.sqrt(np.square(differences).sum(axis=2).min(axis=1)).mean())

    assert nearest_distance(vectors) < 0.85 * nearest_distance(gaussian)


def test_recall_counts_items_whatever_their_order():
    found = np.array([[3, 1, 2], [7, -1, -1]])
    expected = np.array([[1, 2, 3], [7, 8, 9]])
    assert recall(found, expected) == pytest.approx((3 + 1) / 6)
