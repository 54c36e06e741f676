"""The claim on missing images."""

from __future__ import annotations

from bench.frames.missing_images import KIND
from bench.frames.selection import OURS
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import headline_records, newest_by_seed, variant_of
from reports.claims.evidence import Judge
from reports.claims.rules import MORE
from reports.claims.summarised import of_summaries
from reports.paper.published import gains
from reports.sections.section import FEATURES, Section

_HALF = {"kind": KIND, "fraction": 0.5, "substitutes": "description"}


def _half_over_trsr(section: Section, judge: Judge) -> Found:
    """Compare I-LLMRec with half of the images removed, descriptions in their place, with TRSR."""
    halved = newest_by_seed(
        [
            record
            for record in section.sweeps
            if record.method == OURS
            and record.config.get("risa")
            and record.config.get("features") == list(FEATURES)
            and _HALF.items() <= variant_of(record).items()
        ]
    )
    trsr = headline_records(section, "trsr")
    if not halved or not trsr:
        return [None]
    names = (f"{section.styles[OURS].label} without half of the images", section.styles["trsr"].label)
    return [judge.compare(halved, trsr, names)]


CLAIMS = (
    Claim(
        id="half-of-the-images",
        text="With 50 % of the images missing I-LLMRec still beats TRSR",
        source="Appendix E.8, Table 8",
        published=gains("table8", "I-LLMRec", "TRSR"),
        rule=MORE,
        test=of_summaries(_half_over_trsr),
    ),
)
