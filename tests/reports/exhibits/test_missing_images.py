"""Missing images, and worse ones."""

from __future__ import annotations

import pytest
from stored import FULL, table

from reports.build import build_report


@pytest.fixture
def out(filler):
    return filler.store.out


def test_missing_images_and_image_quality(filler, out) -> None:
    of = filler.dataset["fingerprint"]
    for method in ("illmrec", "tallrec", "trsr"):
        filler.accuracy(method, 0.4, seeds=(0,), **FULL)
    for fraction in (0.5, 1.0):
        variant = {"kind": "missing-images", "substitutes": "zero", "fraction": fraction, "of": of}
        filler.accuracy("illmrec", 0.3, seeds=(0,), variant=variant, **FULL)
    for amount in (16, 64):
        variant = {"kind": "image-quality", "degradation": "resolution", "amount": amount, "of": of}
        filler.accuracy("illmrec", 0.3, seeds=(0,), variant=variant, **FULL)
    page = build_report(out).read_text(encoding="utf-8")
    missing = table(filler, "table8")
    assert sorted(missing["x"]) == [0, 0.5, 1] and set(missing["series"]) == {"zero"}
    assert "I-LLMRec, zero vector instead" in page
    assert sorted(table(filler, "table9")["x"]) == [16, 64]
    assert page.count('<section id="section') == 1
