"""The table of the scaling experiment and its fitted exponents; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.frames.experiment import Experiment
from bench.store.cell import Record

EXPERIMENT = "scaling"
VERSION = 1

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="",
    question="how time grows with users, history and catalogue",
    place=220,
)

AXES = ("users", "history", "catalogue")

COLUMNS = (
    "axis", "value", "users", "device", "dtype", "seconds_median", "exponent", "exponent_stderr",
)  # fmt: skip


def scaling_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each axis and value, ``COLUMNS``, with the axis's exponent beside each of its rows."""
    table = pd.DataFrame([record.results for record in records], columns=list(COLUMNS))
    for axis, rows in table.groupby("axis"):
        fitted = power_law(rows["value"].to_numpy(), rows["seconds_median"].to_numpy())
        table.loc[table["axis"] == axis, ["exponent", "exponent_stderr"]] = fitted
    table["axis"] = pd.Categorical(table["axis"], categories=AXES, ordered=True)
    table[["exponent", "exponent_stderr"]] = table[["exponent", "exponent_stderr"]].astype(float)
    return table.sort_values(["axis", "value"], ignore_index=True)


def power_law(values: npt.ArrayLike, seconds: npt.ArrayLike) -> tuple[float, float]:
    """Fit ``seconds = factor * value ** exponent`` by least squares on logarithms.

    Returns:
        The exponent and its standard error, which is NaN for fewer than three values; both are for fewer than two.
    """
    x, y = np.log(np.asarray(values, dtype=float)), np.log(np.asarray(seconds, dtype=float))
    spread = float(((x - x.mean()) ** 2).sum()) if len(x) else 0.0
    if spread == 0.0:
        return np.nan, np.nan
    exponent = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    if len(x) < 3:
        return exponent, np.nan
    residuals = y - y.mean() - exponent * (x - x.mean())
    return exponent, float(np.sqrt((residuals**2).sum() / (len(x) - 2) / spread))
