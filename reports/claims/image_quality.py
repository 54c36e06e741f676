"""Claims on pictures of low quality."""

from __future__ import annotations

from collections.abc import Sequence

from bench.frames.image_quality import KIND, LOW_RESOLUTION
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import Test, Variant, changed_pairs, variant_of
from reports.claims.evidence import Judge
from reports.claims.rules import MORE, NO_LESS
from reports.paper.published import gains
from reports.sections.section import FEATURES, Section


def _low_quality(features: Sequence[str], *, worse_first: bool) -> Test:
    """Compare low quality with the pictures as they are: the source's own, or else the smallest thumbnails.

    Args:
        features: Feature types that score items.
        worse_first: Whether the difference is that of low quality less high.
    """

    def test(section: Section, judge: Judge) -> Found:
        variants = [
            variant
            for record in section.sweeps
            if (variant := variant_of(record)).get("kind") == KIND
            and record.config.get("features") == list(features)
        ]
        own = [variant for variant in variants if variant["degradation"] == LOW_RESOLUTION]
        small = [variant for variant in variants if variant["degradation"] == "resolution"]
        if not own and not small:
            return [None]
        chosen = own[0] if own else min(small, key=lambda variant: float(variant["amount"]))

        def matches(variant: Variant) -> bool:
            return all(variant.get(part) == chosen[part] for part in ("kind", "degradation", "amount"))

        sides = changed_pairs(section, matches, features=features)
        names = ("low resolution" if own else f"{chosen['amount']:g} pixels", "as they are")
        if not worse_first:
            sides, names = sides[::-1], names[::-1]
        return [judge.compare(*sides, names)]

    return test


CLAIMS = (
    Claim(
        id="low-quality-alone",
        text="With image features alone, pictures of low quality cost accuracy: row (b) over (a) of Table 9",
        source="Appendix E.9, Table 9",
        published=gains("table9", "b", "a"),
        rule=MORE,
        test=_low_quality(("image",), worse_first=False),
    ),
    Claim(
        id="low-quality-beside-others",
        text="Beside CF and text features low quality costs at most 5 %: row (c) against (d) of Table 9",
        source="Appendix E.9, Table 9",
        published=gains("table9", "c", "d"),
        rule=NO_LESS,
        test=_low_quality(FEATURES, worse_first=True),
    ),
)
