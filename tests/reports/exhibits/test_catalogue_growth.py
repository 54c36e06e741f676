"""A growing catalogue."""

from __future__ import annotations

from stored import drawn, growing, section_of

from reports.exhibits.catalogue_growth import exhibits


def test_a_growing_catalogue(filler) -> None:
    growing(filler)
    exhibit = exhibits(section_of(filler))[0]
    drawn(exhibit)
    points = exhibit.tables[0].data
    assert points[points["series"] == "retrained"]["x"].tolist() == [500, 750, 1000]
    assert points[points["series"] == "0.5"]["x"].tolist() == [500, 750, 1000]
    assert set(exhibit.tables[1].data["targets"]) == {"all", "old", "new"}
    assert "0.468, 0.463, 0.4701 and 0.5106" in exhibit.paper
