"""Appendix E.6: users whose test item is not in training."""

from __future__ import annotations

import pandas as pd

from bench.frames import unseen_items
from reports.exhibits.exhibit import Exhibit, Shown, each_method, gap, table
from reports.exhibits.group_accuracy import group_frame
from reports.exhibits.lines import POINTS, curves
from reports.sections.methods import FEATURE_LOOKS
from reports.sections.section import Section


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy by feature set of users with and without a test item that is in training, for each method."""
    return each_method(section, group_frame(section, unseen_items.frame), _unseen)


def _unseen(section: Section, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Appendix E.6. Users whose test item is not in training{of}"
    points = curves(frame, "features", "group")
    unseen = points[points["x"] == "unseen"]
    # Of another method, one feature set is what the comparison leaves behind.
    if unseen.empty or (of and points["series"].nunique() < 2):
        return gap(section, title, "no user with a test item that is not in training", "unseen_items")
    users = frame.loc[frame["group"] == "unseen", "users"].max()
    shown = [f"{FEATURE_LOOKS[row['series']].label} {row['mean']:.4f}" for row in unseen.to_dict("records")]
    return Exhibit(
        name=f"table_unseen{section.suffix}",
        title=title,
        reading=f"NDCG@10 of the {users} users whose test item is not in training: {', '.join(shown)}.",
        paper="CF features alone are near zero; image features reach Hit@5 0.3245 on Sport and 0.0689 on Art.",
        commands=section.made_by("unseen_items"),
        tables=(table(section, "table_unseen", title, points, POINTS, {"series": FEATURE_LOOKS}),),
    )
