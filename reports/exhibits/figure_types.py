"""Figure 12: the items most frequent in the histories of users who were served well, and badly."""

from __future__ import annotations

import pandas as pd

from bench.frames import figure_types
from bench.frames.selection import OURS
from illmrec.escaping import shortened
from reports.drawing.cost_figures import pictures_figure
from reports.drawing.deferred import drawing
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.sections.section import Section


def exhibits(section: Section) -> list[Shown]:
    """Return a sheet of pictures, and the items of all methods and seeds as a table."""
    title = "Figure 12. Items in the histories of users hit and missed"
    frame = section.frame(figure_types.frame)
    frame = frame[(frame["fingerprint"] == section.fingerprint) & (frame["llm"] == section.llm)]
    frame = frame[frame["method"].isin(list(section.styles))]
    if frame.empty:
        reason = "no counts of items in the histories of users hit and missed"
        return [gap(section, title, reason, "figure_types")]
    # One sheet: I-LLMRec's where it is there, of the first seed; the table has them all.
    method = OURS if (frame["method"] == OURS).any() else frame["method"].iloc[0]
    sheet = frame[frame["method"] == method]
    sheet = sheet[sheet["seed"] == sheet["seed"].min()]
    label = section.styles[method].label
    cutoff = f"first {sheet['cutoff'].iloc[0]} ({sheet['candidates'].iloc[0]} candidates)"
    rows = [
        f"{'Hit' if group == 'hit' else 'Missed'} among the {cutoff}: {users} users"
        for group, users in zip(sheet["group"], sheet["users"], strict=True)
    ]
    notes = [
        f"{row['frequency']:.2f} a user, else {row['other_frequency']:.2f}"
        for row in sheet.to_dict("records")
    ]
    drawn = sheet.assign(row=rows, note=notes).rename(columns={"title": "item_title"})
    pictures = section.frame(figure_types.thumbnails)
    pictures = pictures[pictures["fingerprint"] == section.fingerprint]
    hit, missed = (set(sheet.loc[sheet["group"] == group, "item_id"]) for group in ("hit", "missed"))
    caption = "Most frequent items of users hit and missed"
    return [
        Exhibit(
            name=f"figure12{section.suffix}",
            title=title,
            reading=(
                f"Of the items most frequent with {label}, {len(hit & missed)} are in both rows; what is popular leads"
                " in both, so the other group's frequency stands beside."
            ),
            paper=(
                "On Sport apparel leads where the target was hit, tactical gear where it was missed; on Art clear"
                " pictures lead against those with small text (Appendix E.11, Figure 12)."
            ),
            commands=section.made_by("figure_types"),
            shows_items=True,
            tables=(table(section, "figure12", caption, frame.drop(columns="image")),),
            figure=drawing(
                pictures_figure,
                drawn[["row", "place", "item_id", "item_title", "note"]],
                pictures[["item_id", "png"]],
                f"{section.title}, {label}",
            ),
            alt=f"Pictures of items. {' '.join(_listed(*strip) for strip in drawn.groupby('row', sort=False))}",
        )
    ]


def _listed(heading: object, rows: pd.DataFrame) -> str:
    return f"{heading}: {', '.join(shortened(title, 80) for title in rows['item_title'])}."
