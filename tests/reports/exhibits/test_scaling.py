"""Power laws of the engine's seconds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from engine_cells import scaling_cells

from reports.drawing.engine_figures import scaling_figure
from reports.exhibits.exhibit import Exhibit, Gap
from reports.exhibits.scaling import exhibits
from reports.sections.results import read_store, whole_store


def shown(filler) -> list[Exhibit | Gap]:
    return exhibits(whole_store(read_store(filler.store), filler.store))


def exhibit(filler, name: str) -> Exhibit:
    (found,) = (item for item in shown(filler) if isinstance(item, Exhibit) and item.name == name)
    return found


def test_exponents_are_fitted(filler) -> None:
    scaling_cells(filler, exponent=1.25)
    found = exhibit(filler, "figure_scaling")
    frame = found.tables[0].data
    assert frame["axis"].tolist() == ["users"] * 3 + ["history"] * 3 + ["catalogue"] * 3
    np.testing.assert_allclose(frame["exponent"], 1.25)
    np.testing.assert_allclose(frame["seconds_low"], 0.9 * frame["seconds_median"])
    assert "items of the catalogue: exponent 1.25 ± 0.00 from 1,000 to 1,000,000" in found.reading
    figure = scaling_figure(frame, "toyshop")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["seconds ∝ n^1.25"] * 3
    fitted = figure.axes[0].lines[0]
    np.testing.assert_allclose(fitted.get_ydata(), 0.01 * fitted.get_xdata() ** 1.25)
    assert [text.get_text() for text in figure.axes[2].get_xticklabels()] == ["1k", "10k", "1M"]


def test_a_catalogue_that_was_scaled_alone(filler) -> None:
    scaling_cells(filler, axes=("catalogue",))
    found = exhibit(filler, "figure_scaling")
    assert found.tables[0].data["axis"].unique().tolist() == ["catalogue"]
    assert "generated catalogue" in found.tables[0].caption


def test_one_point_has_no_exponent() -> None:
    frame = pd.DataFrame(
        {
            "axis": ["users"],
            "value": [4],
            "seconds_median": [0.5],
            "seconds_low": [0.4],
            "seconds_high": [0.6],
            "exponent": [np.nan],
        }
    )
    (axes,) = scaling_figure(frame, "x").axes
    assert axes.get_title(loc="left") == ""
