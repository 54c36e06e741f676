"""Noise in descriptions."""

from __future__ import annotations

import pytest
from stored import drawn, mean, noise, section_of, trained, verdicts

from reports.claims.claims import HOLDS
from reports.exhibits.robustness import exhibits


@pytest.mark.parametrize("reach", ["prompt", "everything"])
def test_noise_in_descriptions(filler, reach: str) -> None:
    clean = {
        method: trained(filler, 0.4, method=method) for method in ("illmrec", "full-description", "tallrec")
    }
    noisy = {
        (kind, level): noise(filler, "full-description", 0.4 - 0.15 * level, kind, level, reach)
        for kind in ("html", "boilerplate")
        for level in (0.5, 1.0)
    }
    if reach == "everything":
        for kind in ("html", "boilerplate"):
            noise(filler, "illmrec", 0.39, kind, 1.0, reach)
    figure5, lines = exhibits(section_of(filler))
    drawn(figure5)
    drawn(lines)
    bars = figure5.tables[0].data.set_index("method")["mean"]
    assert bars["tallrec"] == pytest.approx(mean(clean["tallrec"]))
    points = lines.tables[0].data
    described = points[points["series"] == "full-description"]
    assert described["x"].tolist() == [0, 0.5, 1] * 2
    assert described["mean"].iloc[2] == pytest.approx(mean(noisy["html", 1.0]))
    claims = verdicts(filler)
    both = claims.loc[["noise-costs-descriptions"]]
    assert set(both["verdict"]) == {HOLDS} and len(both) == 2
    assert set(claims.loc[["images-are-robust"], "verdict"]) == {HOLDS}
    loss = mean(clean["full-description"]) - mean(noisy["html", 1.0])
    assert both["estimate"].iloc[0] == pytest.approx(loss)
