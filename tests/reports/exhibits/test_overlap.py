"""Similarities of pictures and descriptions, and toyshop's knob."""

from __future__ import annotations

import numpy as np
import pytest
from stored import FULL, cosines, drawn, section_of, similarities, table

from reports.build import build_report
from reports.exhibits.exhibit import Exhibit, Gap
from reports.exhibits.overlap import exhibits
from reports.sections.results import read_sections, read_store


@pytest.fixture
def out(filler):
    return filler.store.out


def test_positions_of_the_overlap_knob_are_one_section(filler, another, out) -> None:
    fingerprints = {0.0: "aa" * 8, 0.5: "bb" * 8, 1.0: "cc" * 8}
    for knob, fingerprint in fingerprints.items():
        filler.dataset = {"name": f"toyshop-overlap{knob:g}", "fingerprint": fingerprint}
        filler.accuracy("illmrec", 0.3 + 0.1 * knob, seeds=(0,), **FULL)
        filler.write(
            "overlap",
            {"method": "clip", "overlap": knob, "family": {"name": "toyshop"}, "measured_by": "text tower"},
            {
                "items": 50, "matched": 0.5, "stderr_matched": 0.1,
                "shuffled": 0.1, "stderr_shuffled": 0.1, "matched_above_shuffled": 0.9,
                "same_category": 50, "shuffled_any": 0.05, "stderr_shuffled_any": 0.1,
            },
            {"similarities": similarities()},
        )  # fmt: skip
    filler.dataset = {"name": "toyshop", "fingerprint": fingerprints[0.5]}
    filler.accuracy("sasrec", 0.3, seeds=(0,))
    (section,) = read_sections(read_store(filler.store))
    assert section.fingerprint == fingerprints[0.5]
    build_report(out)
    assert table(filler, "figure1c_accuracy")["x"].tolist() == [0, 0.5, 1]
    # What a position was otherwise used for is shown as its own data set.
    filler.dataset = {"name": "toyshop", "fingerprint": fingerprints[1.0]}
    filler.accuracy("popularity", 0.1, seeds=(0,))
    assert {section.fingerprint for section in read_sections(read_store(filler.store))} == {
        fingerprints[0.5],
        fingerprints[1.0],
    }


def test_distributions_of_similarity(filler) -> None:
    pairs = cosines(filler)
    (exhibit,) = exhibits(section_of(filler))
    drawn(exhibit)
    counted, means = (table.data for table in exhibit.tables)
    assert set(counted["panel"]) == {"Cosine, siglip", "Sigmoid score, siglip"}
    own = counted[(counted["panel"] == "Cosine, siglip") & (counted["pair"] == "own")]
    edges = [*own["left"], own["right"].iloc[-1]]
    together = np.concatenate([pairs["matched"], pairs["shuffled"]])
    assert (edges[0], edges[-1]) == pytest.approx((together.min(), together.max()))
    np.testing.assert_allclose(own["share"] * 200, np.histogram(pairs["matched"], edges)[0], atol=1e-9)
    assert means["matched_score"].iloc[0] == pytest.approx(pairs["matched_score"].mean())
    assert "score of 0.90 or more" in exhibit.reading
    assert "with another's of the same category and 0.05 with any other item's" in exhibit.reading
    assert any(note.startswith("No other item has the category of 20 of 200 items") for note in exhibit.notes)


def test_cosines_of_data_without_categories_and_of_older_versions(filler) -> None:
    filler.accuracy("illmrec", 0.3, seeds=(0,), **FULL)
    config = {"method": "clip", "overlap": None, "family": None, "measured_by": "text tower"}
    results: dict[str, float] = {
        "items": 50, "matched": 0.5, "stderr_matched": 0.1, "shuffled": 0.1, "stderr_shuffled": 0.1,
        "matched_above_shuffled": 0.9,
    }  # fmt: skip
    filler.write("overlap", config, results, {"similarities": similarities()}, version=2)
    (missing,) = exhibits(section_of(filler))
    assert isinstance(missing, Gap) and "bench.overlap" in missing.command
    results |= {"same_category": 0, "shuffled_any": 0.1, "stderr_shuffled_any": 0.1}
    pairs = similarities().assign(same_category=False)
    filler.write("overlap", config, results, {"similarities": pairs}, version=3)
    (exhibit,) = exhibits(section_of(filler))
    assert isinstance(exhibit, Exhibit)
    assert exhibit.reading.endswith("against 0.10 with any other item's (clip).")
    assert any("of 50 of 50 items" in note for note in exhibit.notes)
