"""Table 8 as a curve over the share of images that are missing."""

from __future__ import annotations

import pandas as pd

from bench.frames import missing_images
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Shown, each_method, gap
from reports.exhibits.lines import curves, lines_exhibit
from reports.paper.paper_tables import Line, published_lines, seed_means, side_by_side
from reports.sections.methods import SUBSTITUTE_LOOKS
from reports.sections.section import Section
from reports.wording.tables import Table


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy by the share of images that are missing, for each method that shows images."""
    frame = section.frame(missing_images.frame, prompts=True)
    references = frame["substitutes"] == ""

    def exhibit(own: Section, rows: pd.DataFrame, of: str) -> Shown:
        return _missing(own, pd.concat([rows, frame[references]]), of)

    return each_method(section, frame[~references], exhibit)


def _missing(section: Section, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Table 8 as a curve. Missing images{of}"
    points = curves(frame[frame["substitutes"] != ""], "substitutes", "fraction")
    if points.empty or points["x"].nunique() < 2:
        return gap(section, title, "no accuracy cells with images missing", "missing_images")
    levels = curves(frame[frame["substitutes"] == ""], "method", "fraction")
    return lines_exhibit(
        section,
        name="table8",
        title=title,
        panels=[Panel(curves=points, levels=levels, xlabel="Share of images removed")],
        looks={**SUBSTITUTE_LOOKS, **{name: section.styles[name] for name in levels["series"]}},
        varied="of the images removed",
        paper="With 50 % of the images missing I-LLMRec is above TALLRec and TRSR in NDCG@5 (Table 8).",
        experiment="missing_images",
        tables=() if of else _table8(section, frame),
    )


def _table8(section: Section, frame: pd.DataFrame) -> tuple[Table, ...]:
    """Return Table 8 with half of the images missing, or nothing where half was not evaluated."""
    paper = {
        name: values for (name, _), values in published_lines("table8", ("method", "missing_images")).items()
    }
    wanted = {
        "TALLRec": frame[frame["method"] == "tallrec"],
        "TRSR": frame[frame["method"] == "trsr"],
        "I-LLMRec": frame[(frame["substitutes"] == "description") & (frame["fraction"] == 0.5)],
    }
    if wanted["I-LLMRec"].empty:
        return ()
    lines = []
    for name, rows in wanted.items():
        measured, seeds = seed_means(rows) if len(rows) else ({}, 0)
        labels = {"Method": name, "Missing images": "50 %" if name == "I-LLMRec" else "none"}
        lines.append(Line(labels=labels, measured=measured, seeds=seeds, paper=paper[name]))
    caption = f"Half of the images missing, descriptions in their place, {section.title}"
    return (side_by_side(section, "table8_half", caption, lines),)
