"""Accuracy against tokens an item: the curve of image tokens and the points of the others."""

from __future__ import annotations

import pytest
from stored import drawn, mean, section_of, trained

from reports.exhibits.exhibit import Gap
from reports.exhibits.tokens_per_item import exhibits


def fill(filler, tokens: dict[str, float]) -> dict[str, list]:
    stored = {}
    for number, (method, count) in enumerate(tokens.items()):
        filler.efficiency([method], [10], tokens_per_item=count)
        stored[method] = trained(filler, 0.3 + 0.03 * number, method=method)
    return stored


def test_the_curve_and_the_points(filler) -> None:
    tokens = {
        "title": 14.6,
        "illmrec": 17.2,
        "illmrec-4-tokens": 20.2,
        "illmrec-8-tokens": 24.2,
        "trsr": 56.4,
    }
    stored = fill(filler, tokens)
    (exhibit,) = exhibits(section_of(filler))
    drawn(exhibit)
    # The experiment writes its own table under that name, with costs that this one leaves out.
    assert [each.name for each in exhibit.tables] == ["figure_tokens"]
    data = exhibit.tables[0].data
    rows = data[data["candidates"] == "sampled"].set_index("method")
    assert rows["tokens_per_item"].to_dict() == pytest.approx(tokens)
    for method, records in stored.items():
        assert rows.at[method, "ndcg@10"] == pytest.approx(mean(records))
    gain = mean(stored["illmrec-8-tokens"]) - mean(stored["illmrec"])
    assert rows.at["illmrec-8-tokens", "gain_ndcg@10"] == pytest.approx(gain)
    assert "with 8 +" in exhibit.reading and "with 2" not in exhibit.reading
    assert "Pareto front" in exhibit.reading and "bench.tokens_per_item" not in exhibit.paper


def test_one_image_token_alone_is_a_gap(filler) -> None:
    fill(filler, {"illmrec": 17.2, "trsr": 56.4})
    (shown,) = exhibits(section_of(filler))
    assert isinstance(shown, Gap) and "bench.tokens_per_item" in shown.command
