"""Pictures of low quality."""

from __future__ import annotations

import pytest
from stored import drawn, low_resolution, mean, quality, section_of, trained

from reports.exhibits.exhibit import Exhibit
from reports.exhibits.image_quality import exhibits


def test_low_resolution_in_the_form_of_table_9(filler) -> None:
    stored = low_resolution(filler)
    exhibit = exhibits(section_of(filler))[0]
    drawn(exhibit)
    table = exhibit.tables[1].data.set_index("row")
    assert table.index.tolist() == ["(a)", "(b)", "(c)", "(d)"]
    assert table["paper_sport_ndcg@5"].tolist() == [0.2936, 0.3403, 0.3597, 0.3711]
    assert table.at["(a)", "hit@5"] == pytest.approx(mean(stored["image"][1], "hit@5"))
    assert table.at["(d)", "ndcg@10"] == pytest.approx(mean(stored["all"][0]))


def test_low_resolution_alone_is_a_table(filler) -> None:
    trained(filler, 0.4)
    quality(filler, 0.4, "low-resolution", None, ["image", "cf", "text"])
    exhibit = exhibits(section_of(filler))[0]
    assert isinstance(exhibit, Exhibit) and exhibit.figure is None
    assert exhibit.tables[0].data["seeds"].tolist() == [0, 0, 5, 5]
