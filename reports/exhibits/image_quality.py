"""Table 9: as curves over what makes pictures worse, and in its own form where the data have small pictures."""

from __future__ import annotations

import pandas as pd

from bench.frames import image_quality
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Exhibit, Shown, each_method, gap
from reports.exhibits.lines import curves, lines_exhibit
from reports.paper.paper_tables import Line, published_lines, seed_means, side_by_side
from reports.sections.methods import FEATURE_LOOKS
from reports.sections.section import Section
from reports.wording.tables import Table

_AXES = {"resolution": "Longer side in pixels", "jpeg": "JPEG quality", "blur": "Blur, radius in pixels"}


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy on worse pictures by feature set, for each method."""
    return each_method(section, section.frame(image_quality.frame), _quality)


def _quality(section: Section, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Table 9 as a curve. Image quality{of}"
    worse = frame[frame["degradation"] != image_quality.ORIGINAL]
    if worse.empty:
        return gap(section, title, "no accuracy cells on worse pictures", "image_quality")
    original = curves(frame[frame["degradation"] == image_quality.ORIGINAL], "features", "degradation")
    panels = [
        Panel(
            curves=curves(worse[worse["degradation"] == kind], "features", "amount"),
            levels=original,
            xlabel=label,
        )
        for kind, label in _AXES.items()
        if (worse["degradation"] == kind).any()
    ]
    own = (worse["degradation"] == image_quality.LOW_RESOLUTION).any()
    tables = (_table9(section, frame, of),) if own else ()
    paper = "Low quality costs much where image features stand alone and little beside CF and text features (Table 9)."
    if not panels:
        return Exhibit(
            name=f"table9{section.suffix}",
            title=f"Table 9. Image quality{of}",
            reading="Low quality means the source's own low-resolution pictures.",
            paper=paper,
            commands=section.made_by("image_quality"),
            tables=tables,
        )
    lacking = "The data have no low-resolution pictures of their own, which Table 9 has."
    return lines_exhibit(
        section,
        name="table9_curve" if own else "table9",
        title=title,
        panels=panels,
        looks=FEATURE_LOOKS,
        notes=("Horizontal lines: the pictures as they are.", *(() if own else (lacking,))),
        paper=paper,
        experiment="image_quality",
        tables=tables,
    )


def _table9(section: Section, frame: pd.DataFrame, of: str) -> Table:
    """Return Table 9 in its own form: the source's low-resolution pictures against its pictures as they are."""
    kinds = {"low": image_quality.LOW_RESOLUTION, "high": image_quality.ORIGINAL}
    sets = {"image": "image", "image+cf+text": "all"}
    lines = []
    for (row, features, quality), values in published_lines("table9", ("row", "features", "quality")).items():
        rows = frame[(frame["features"] == sets[features]) & (frame["degradation"] == kinds[quality])]
        measured, seeds = seed_means(rows) if len(rows) else ({}, 0)
        labels = {
            "Row": f"({row})",
            "Features": FEATURE_LOOKS[features].label,
            "Images": f"{quality} quality",
        }
        lines.append(Line(labels=labels, measured=measured, seeds=seeds, paper={} if of else values))
    caption = f"Image quality{of}, low is the source's own low resolution, {section.title}"
    return side_by_side(section, "table9_low", caption, lines)
