"""Noise in descriptions."""

from __future__ import annotations

import pytest
from stored import drawn, mean, noisy_and_clean, section_of

from reports.exhibits.robustness import exhibits


@pytest.mark.parametrize("reach", ["prompt", "everything"])
def test_noise_in_descriptions(filler, reach: str) -> None:
    clean, noisy = noisy_and_clean(filler, reach)
    figure5, lines = exhibits(section_of(filler))
    drawn(figure5)
    drawn(lines)
    bars = figure5.tables[0].data.set_index("method")["mean"]
    assert bars["tallrec"] == pytest.approx(mean(clean["tallrec"]))
    points = lines.tables[0].data
    described = points[points["series"] == "full-description"]
    assert described["x"].tolist() == [0, 0.5, 1] * 2
    assert described["mean"].iloc[2] == pytest.approx(mean(noisy["html", 1.0]))
