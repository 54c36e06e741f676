"""Which pictures are those of low quality."""

from __future__ import annotations

from stored import low_resolution, quality, trained, verdicts

from reports.claims.rules import BORNE_OUT, UNTESTED


def test_without_own_small_pictures_the_smallest_thumbnails_are_compared(filler) -> None:
    trained(filler, 0.4, features=["image"])
    for side, ndcg in ((16.0, 0.2), (64.0, 0.45)):
        quality(filler, ndcg, "resolution", side, ["image"])
    claims = verdicts(filler)
    assert claims.at["low-quality-alone", "verdict"] == BORNE_OUT
    assert "16 pixels" in claims.at["low-quality-alone", "here"]
    assert claims.at["low-quality-beside-others", "verdict"] == UNTESTED


def test_the_sources_own_small_pictures_come_first(filler) -> None:
    low_resolution(filler)
    claims = verdicts(filler)
    assert (
        claims.at["low-quality-alone", "verdict"]
        == claims.at["low-quality-beside-others", "verdict"]
        == BORNE_OUT
    )
    assert "low resolution" in claims.at["low-quality-alone", "here"]
