"""The claim on users with short and long histories."""

from __future__ import annotations

from bench.frames.groups import GROUPS, equal_groups
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import row_records
from reports.claims.evidence import Judge
from reports.claims.rules import MORE
from reports.sections.section import Section, has_ranks


def _image_over_cf_by_length(section: Section, judge: Judge) -> Found:
    """Compare image with CF features, row (b) with (c), in each fifth of the users by length of their history."""
    image, cf = row_records(section, "b"), row_records(section, "c")
    with_ranks = [record for record in image if has_ranks(record)]
    if not with_ranks or not cf:
        return [None]
    # A user of several targets has one history.
    ranks = section.store.read_frame(with_ranks[0], "ranks").drop_duplicates("user_id")
    groups = equal_groups(ranks["history_length"])
    return [
        judge.compare(
            image,
            cf,
            (f"group {group}: image (b)", "CF (c)"),
            users=ranks.loc[groups == group, "user_id"],
        )
        for group in range(1, GROUPS + 1)
    ]


CLAIMS = (
    Claim(
        id="every-length-of-history",
        text="Image features beat CF features in each fifth of the users by length of history: row (b) over (c)",
        source="Appendix E.7, Figure 11",
        published="image above CF in all five groups",
        rule=MORE,
        test=_image_over_cf_by_length,
    ),
)
