"""Figure 6: accuracy by popularity of the test item."""

from __future__ import annotations

from bench.frames import item_popularity
from reports.exhibits.exhibit import Shown
from reports.exhibits.group_accuracy import group_exhibits
from reports.sections.section import Section


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy by feature set in the fifths of the catalogue by popularity."""
    return group_exhibits(
        section,
        item_popularity.frame,
        name="figure6",
        title="Figure 6. Accuracy by popularity of the test item",
        groups="Group of items, 1 = coldest fifth of the catalogue",
        lacking="no popularity of the test items for several feature sets",
        paper=(
            "Image features beat CF features for cold items, CF features pass them in group 5; together they help in"
            " both, and text features help everywhere (Section 4.4)."
        ),
        experiment="item_popularity",
    )
