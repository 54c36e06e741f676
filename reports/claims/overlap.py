"""The claim on pictures and descriptions that say the same."""

from __future__ import annotations

from dataclasses import replace

from bench.frames import overlap
from reports.claims.claim import Claim, Found
from reports.claims.evidence import Evidence, Judge
from reports.claims.rules import MORE
from reports.paper.paper_tables import short_name
from reports.paper.published import fact
from reports.sections.section import Section


def _own_description(section: Section, judge: Judge) -> Found:
    """Compare the cosine of items' pictures with their own description and with another's of their category.

    There is one comparison per encoder, over the items whose category has another item.
    """
    cells = sorted(
        overlap.cells(section.cells(overlap.EXPERIMENT)), key=lambda record: (-record.seed, record.created)
    )
    found: list[Evidence | None] = []
    for encoder, record in sorted({record.method: record for record in cells}.items()):
        pairs = section.store.read_frame(record, "similarities")
        pairs = pairs[pairs["same_category"]]
        both = pairs.rename(columns={"matched": "first", "shuffled": "second"})[["first", "second"]]
        evidence = judge.pair(both, ("own", "another's"), learnt=False)
        if evidence is not None:
            means = both.mean()
            shown = f"{short_name(encoder)}: {means['first']:.3f} against {means['second']:.3f}, {len(both)} items"
            evidence = replace(evidence, shown=shown, unit="cosine", users=0)
        found.append(evidence)
    return found or [None]


_AMAZON, _SOURCE = fact("similarity_amazon")

CLAIMS = (
    Claim(
        id="overlap",
        text="A picture is closer to its own item's description than to another's of the same category",
        source=_SOURCE,
        published=f"mean cosine {_AMAZON:g}; unrelated pairs of COCO {fact('similarity_coco_unrelated')[0]:g}",
        rule=MORE,
        test=_own_description,
        ranked=False,
    ),
)
