"""Pictures of low quality."""

from __future__ import annotations

import pytest
from stored import drawn, mean, quality, section_of, trained, verdicts

from reports.claims.claims import HOLDS
from reports.exhibits.exhibit import Exhibit
from reports.exhibits.image_quality import exhibits


def test_low_resolution_in_the_form_of_table_9(filler) -> None:
    sets = {"image": ["image"], "all": ["image", "cf", "text"]}
    stored = {
        name: (
            trained(filler, high, features=features),
            quality(filler, low, "low-resolution", None, features),
            quality(filler, 0.1, "resolution", 16.0, features),
        )
        for (name, features), high, low in zip(sets.items(), (0.36, 0.40), (0.28, 0.40), strict=True)
    }
    exhibit = exhibits(section_of(filler))[0]
    drawn(exhibit)
    table = exhibit.tables[1].data.set_index("row")
    assert table.index.tolist() == ["(a)", "(b)", "(c)", "(d)"]
    assert table["paper_sport_ndcg@5"].tolist() == [0.2936, 0.3403, 0.3597, 0.3711]
    assert table.at["(a)", "hit@5"] == pytest.approx(mean(stored["image"][1], "hit@5"))
    assert table.at["(d)", "ndcg@10"] == pytest.approx(mean(stored["all"][0]))
    claims = verdicts(filler)
    assert (
        claims.at["low-quality-alone", "verdict"]
        == claims.at["low-quality-beside-others", "verdict"]
        == HOLDS
    )
    assert "low resolution" in claims.at["low-quality-alone", "here"]


def test_low_resolution_alone_is_a_table(filler) -> None:
    trained(filler, 0.4)
    quality(filler, 0.4, "low-resolution", None, ["image", "cf", "text"])
    exhibit = exhibits(section_of(filler))[0]
    assert isinstance(exhibit, Exhibit) and exhibit.figure is None
    assert exhibit.tables[0].data["seeds"].tolist() == [0, 0, 2, 2]
