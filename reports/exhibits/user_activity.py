"""Figure 11: accuracy by length of the user's sequence."""

from __future__ import annotations

from bench.frames import user_activity
from reports.exhibits.exhibit import Shown
from reports.exhibits.group_accuracy import group_exhibits
from reports.sections.section import Section


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy by feature set in the fifths of the users by length of history."""
    return group_exhibits(
        section,
        user_activity.frame,
        name="figure11",
        title="Figure 11. Accuracy by length of the user's sequence",
        groups="Group of users, 1 = shortest fifth of the histories",
        lacking="no cells of several feature sets",
        paper=(
            "Image features beat CF features in every group, each further feature type helps, and all decline as"
            " sequences get longer (Appendix E.7)."
        ),
        experiment="user_activity",
    )
