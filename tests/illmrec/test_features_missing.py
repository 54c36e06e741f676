"""Substitutes for missing images, and the ridge map against brute force."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from illmrec.errors import InputError
from illmrec.features import ridge as ridge_module
from illmrec.features.missing import fill_missing_images
from illmrec.features.ridge import fit_ridge
from illmrec.features.table import FeatureTable

N, P, Q = 60, 7, 11


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, P)) * rng.uniform(0.1, 5, P) + rng.normal(size=P)
    y = x @ rng.normal(size=(P, Q)) + rng.normal(size=(N, Q)) * 3 + 4
    return x.astype(np.float32), y.astype(np.float32)


def normal_equations(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge with an unpenalised intercept by one linear system: weights and intercept."""
    a = np.column_stack([x, np.ones(len(x))])
    system = a.T @ a + np.diag([penalty] * x.shape[1] + [0.0])
    solution = np.linalg.solve(system, a.T @ y)
    return solution[:-1], solution[-1]


def brute_force_errors(x: np.ndarray, y: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    errors = np.zeros(len(penalties))
    for k, penalty in enumerate(penalties):
        for i in range(len(x)):
            others = np.arange(len(x)) != i
            weights, intercept = normal_equations(x[others], y[others], penalty)
            errors[k] += ((y[i] - x[i] @ weights - intercept) ** 2).sum()
    return errors


@pytest.mark.parametrize("rows", [N, 5], ids=["more rows", "fewer rows than columns"])
@pytest.mark.parametrize("block", [8192, 16], ids=["one block", "blocks"])
def test_ridge_is_the_best_of_brute_force(data, rows, block, monkeypatch) -> None:
    monkeypatch.setattr(ridge_module, "_ROWS", block)
    x, y = data[0][:rows], data[1][:rows]
    penalties = rows * np.logspace(-3, 2, 9)
    fitted = fit_ridge(x, y, penalties=penalties)
    xs = (x - x.mean(0, dtype=np.float64)) / x.std(0, dtype=np.float64)
    ys = (y - y.mean(0, dtype=np.float64)) / y.std(0, dtype=np.float64)
    errors = brute_force_errors(xs, ys, penalties)
    assert fitted.penalty == penalties[errors.argmin()]
    left_out_mean = (ys.sum(0) - ys) / (rows - 1)
    assert fitted.loo_r2 == pytest.approx(1 - errors.min() / ((ys - left_out_mean) ** 2).sum(), abs=1e-9)
    weights, intercept = normal_equations(xs, ys, fitted.penalty)
    np.testing.assert_allclose(fitted.weights, weights, atol=1e-9)
    expected = (xs @ weights + intercept) * y.std(0, dtype=np.float64) + y.mean(0, dtype=np.float64)
    np.testing.assert_allclose(fitted.predict(x), expected, rtol=1e-5, atol=1e-5)


def test_ridge_finds_signal_and_shrinks_noise() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 20)).astype(np.float32)
    signal = x @ rng.normal(size=(20, 5)).astype(np.float32)
    noise = rng.normal(size=(300, 5)).astype(np.float32)
    assert fit_ridge(x, signal).loo_r2 == pytest.approx(1, abs=1e-6)
    shrunk = fit_ridge(x, noise)
    assert abs(shrunk.loo_r2) < 0.05
    np.testing.assert_allclose(shrunk.predict(x).std(0), 0, atol=0.2)


def test_ridge_with_constant_columns_and_single_row() -> None:
    x, y = np.ones((6, 3), np.float32), np.full((6, 2), 5, np.float32)
    constant = fit_ridge(x, y)
    assert constant.loo_r2 is None
    np.testing.assert_allclose(constant.predict(x), y)
    single = fit_ridge(x[:1], np.array([[1.0, 2.0]], np.float32))
    assert single.loo_r2 is None and single.penalty is None
    np.testing.assert_allclose(single.predict(np.full((2, 3), 9, np.float32)), [[1, 2], [1, 2]])


def fake_dataset(n: int = N) -> SimpleNamespace:
    items = pd.DataFrame({name: [""] * n for name in ("title", "brand", "category", "description")})
    items["description"] = [f"thing {i}" for i in range(n)]
    return SimpleNamespace(name="fake", n_items=n, items=items)


def tables(folder: Path, data, missing: np.ndarray, textless: tuple[int, ...] = ()):
    with_text = ~np.isin(np.arange(N), textless)
    images = FeatureTable.save(folder / "images", data[1], ~missing, {})
    texts = FeatureTable.save(folder / "texts", data[0], with_text, {})
    return images, texts


def test_ridge_fills_missing_rows_only(tmp_path, data, caplog) -> None:
    missing = np.arange(N) % 4 == 0
    images, texts = tables(tmp_path, data, missing, textless=(8, 9))
    with caplog.at_level(logging.INFO):
        filled = fill_missing_images(
            images, texts, fake_dataset(), encoder="efficientnet-lite0", cache=tmp_path
        )
    assert filled.present.all() and filled.key != images.key
    np.testing.assert_array_equal(filled.values[~missing], images.values[~missing])
    both = images.present & texts.present
    expected = fit_ridge(data[0][both], data[1][both])
    mapped = missing & texts.present
    np.testing.assert_allclose(filled.values[mapped], expected.predict(data[0][mapped]), rtol=1e-6)
    np.testing.assert_allclose(filled.values[8], images.values[images.present].mean(0), rtol=1e-5)
    assert filled.meta["substituted"] == missing.sum() and filled.meta["by"] == "ridge"
    assert filled.meta["loo_r2"] == pytest.approx(expected.loo_r2)
    assert f"{expected.loo_r2:.3f}" in caplog.text and "1 items have neither" in caplog.text
    again = fill_missing_images(images, texts, fake_dataset(), encoder="efficientnet-lite0", cache=tmp_path)
    assert again.key == filled.key
    more = FeatureTable.save(tmp_path / "images", data[1], ~(missing | (np.arange(N) == 1)), {})
    other = fill_missing_images(more, texts, fake_dataset(), encoder="efficientnet-lite0", cache=tmp_path)
    assert other.key != filled.key


def test_nothing_missing_is_the_table_itself(tmp_path, data) -> None:
    images, texts = tables(tmp_path, data, np.zeros(N, bool))
    assert fill_missing_images(images, texts, fake_dataset(), encoder="efficientnet-lite0") is images


def test_no_image_or_no_pair_is_an_input_error(tmp_path, data) -> None:
    images, texts = tables(tmp_path, data, np.ones(N, bool))
    with pytest.raises(InputError, match="illmrec"):
        fill_missing_images(images, texts, fake_dataset(), encoder="efficientnet-lite0", cache=tmp_path)
    images, texts = tables(tmp_path / "b", data, np.arange(N) > 0, textless=(0,))
    with pytest.raises(InputError, match="both an image and a text"):
        fill_missing_images(images, texts, fake_dataset(), encoder="efficientnet-lite0", cache=tmp_path)
