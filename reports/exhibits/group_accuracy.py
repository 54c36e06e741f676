"""Accuracy by groups of users or items, a line for each feature set: what Figures 6, 11 and Appendix E.6 share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import pandas as pd

from bench.frames.selection import ACCURACY, OURS
from bench.store.cell import Record
from bench.store.store import Store
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Shown, each_method, gap
from reports.exhibits.lines import curves, lines_exhibit
from reports.sections.methods import FEATURE_LOOKS
from reports.sections.section import Section


def group_frame(section: Section, make: Callable[[Sequence[Record], Store], pd.DataFrame]) -> pd.DataFrame:
    """Return a frame of ``bench.frames`` without methods of one feature set, whose ranks need not be read here.

    Args:
        section: The section.
        make: Such as ``bench.frames.item_popularity.frame``.
    """
    sets: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for record in section.records:
        if record.experiment == ACCURACY:
            sets[record.method].add(tuple(record.config.get("features") or ()))
    alone = {method for method, found in sets.items() if len(found) == 1} - {OURS}
    kept = [r for r in section.records if r.experiment != ACCURACY or r.method not in alone]
    return make(kept, section.store)


def group_exhibits(
    section: Section,
    make: Callable[[Sequence[Record], Store], pd.DataFrame],
    *,
    name: str,
    title: str,
    groups: str,
    lacking: str,
    paper: str,
    experiment: str,
) -> list[Shown]:
    """Return accuracy by feature set in each group, for each method; a gap with fewer than two feature sets.

    Args:
        section: The section.
        make: The frame of the experiment, with columns features and group.
        name: File name without its ending and the section's suffix.
        title: Heading.
        groups: What the groups are.
        lacking: What is missing where there is nothing to show.
        paper: What the paper says on the same.
        experiment: What computes the cells.
    """

    def exhibit(own: Section, frame: pd.DataFrame, of: str) -> Shown:
        points = curves(frame, "features", "group")
        if points["series"].nunique() < 2:
            return gap(own, f"{title}{of}", lacking, experiment)
        return lines_exhibit(
            own,
            name=name,
            title=f"{title}{of}",
            panels=[Panel(curves=points, xlabel=groups)],
            looks=FEATURE_LOOKS,
            paper=paper,
            experiment=experiment,
        )

    return each_method(section, group_frame(section, make), exhibit)
