"""Ridge regression between two feature tables, its penalty chosen by exact leave-one-out error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_ROWS = 8192  # rows in float64 at a time, so that memory does not grow with the catalogue


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A fitted map ``y = y_mean + y_scale * ((x - x_mean) / x_scale) @ weights``, all in float64.

    Attributes:
        x_mean: [p].
        x_scale: [p], standard deviations, 1 where a column is constant.
        y_mean: [q].
        y_scale: [q], as ``x_scale``.
        weights: [p, q], between standardised columns.
        penalty: The chosen penalty on the squared weights; None for a single row.
        loo_r2: Share of the variance of standardised ``y`` explained on rows left out of the fit, against the
            mean of the others; None where it is not defined (fewer than two rows, or ``y`` constant).
    """

    x_mean: np.ndarray
    x_scale: np.ndarray
    y_mean: np.ndarray
    y_scale: np.ndarray
    weights: np.ndarray
    penalty: float | None
    loo_r2: float | None

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Map [n, p] to float32 [n, q]."""
        predicted = np.empty((len(x), len(self.y_mean)), dtype=np.float32)
        for start in range(0, len(x), _ROWS):
            rows = slice(start, start + _ROWS)
            standardised = (x[rows].astype(np.float64) - self.x_mean) / self.x_scale
            predicted[rows] = self.y_mean + self.y_scale * (standardised @ self.weights)
        return predicted


def fit_ridge(x: np.ndarray, y: np.ndarray, *, penalties: np.ndarray | None = None) -> Ridge:
    """Fit a ridge map from ``x`` to ``y`` with an unpenalised intercept.

    The penalty, one for all columns of ``y``, minimises the squared error of the rows when each is left out
    of the fit, which for a linear smoother is known without refitting: residual / (1 - leverage). The columns
    are standardised once, over all rows.

    Args:
        x: [n, p].
        y: [n, q].
        penalties: Candidates; by default 33 from 1e-5 n to 1e3 n.
    """
    n = len(x)
    x_mean, x_scale = _moments(x)
    y_mean, y_scale = _moments(y)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, n, _ROWS):
            rows = slice(start, start + _ROWS)
            yield (
                (x[rows].astype(np.float64) - x_mean) / x_scale,
                (y[rows].astype(np.float64) - y_mean) / y_scale,
            )

    if n < 2:  # a single row says nothing but itself: every prediction is that row
        return Ridge(
            x_mean=x_mean,
            x_scale=x_scale,
            y_mean=y_mean,
            y_scale=y_scale,
            weights=np.zeros((x.shape[1], y.shape[1])),
            penalty=None,
            loo_r2=None,
        )
    if penalties is None:
        penalties = n * np.logspace(-5, 3, 33)
    gram = np.zeros((x.shape[1], x.shape[1]))
    cross = np.zeros((x.shape[1], y.shape[1]))
    for a, b in blocks():
        gram += a.T @ a
        cross += a.T @ b
    eigenvalues, basis = np.linalg.eigh(gram)
    inverse = 1.0 / (np.maximum(eigenvalues, 0.0) + penalties[:, None])  # [penalties, p]
    target = basis.T @ cross  # [p, q]
    # |y - prediction|^2 = |y|^2 - 2 y.prediction + |prediction|^2, and a prediction is
    # (coordinates * inverse) @ target: with target @ target.T known, a candidate costs n p^2, not n p q.
    inner = target @ target.T
    errors, variance = np.zeros(len(penalties)), 0.0
    for a, b in blocks():
        coordinates = a @ basis
        agreement = coordinates * (b @ target.T)
        size = (b**2).sum(axis=1)
        variance += size.sum() * (n / (n - 1)) ** 2
        leverage = 1.0 / n + (coordinates**2) @ inverse.T  # [rows, penalties]
        for k, shrink in enumerate(inverse):
            scaled = coordinates * shrink
            residual = size - 2 * agreement @ shrink + ((scaled @ inner) * scaled).sum(axis=1)
            errors[k] += (residual / (1.0 - leverage[:, k]) ** 2).sum()
    best = int(errors.argmin())
    return Ridge(
        x_mean=x_mean,
        x_scale=x_scale,
        y_mean=y_mean,
        y_scale=y_scale,
        weights=basis @ (inverse[best][:, None] * target),
        penalty=float(penalties[best]),
        loo_r2=float(1.0 - errors[best] / variance) if variance > 0 else None,
    )


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the columns in float64; 1 for a constant column's deviation."""
    starts = range(0, len(values), _ROWS)
    mean = sum(values[i : i + _ROWS].sum(axis=0, dtype=np.float64) for i in starts) / len(values)
    square = sum(((values[i : i + _ROWS].astype(np.float64) - mean) ** 2).sum(axis=0) for i in starts)
    deviation = np.sqrt(square / len(values))
    return mean, np.where(deviation > 1e-12 * np.maximum(1.0, np.abs(mean)), deviation, 1.0)
