"""From the paper's settings to those of the authors' released code: what each switch changes."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from bench.frames import released_code
from reports.exhibits.exhibit import Exhibit, Shown, each_method, gap
from reports.paper.paper_tables import Line, seed_means, side_by_side
from reports.sections.section import Section


def exhibits(section: Section) -> list[Shown]:
    """Return the walk of each method that has one; a store without any lacks nothing."""
    frame = section.frame(released_code.frame)
    shown = each_method(section, frame[frame["llm"] == section.llm], _walk)
    return [item for item in shown if isinstance(item, Exhibit)]


def _walk(section: Section, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Ablation. From the paper to the released code{of}"
    if frame["row"].nunique() < 2:
        return gap(section, title, "no cells of the rows from the paper to the released code", "ablation")
    lines, values = [], {}
    for row, rows in frame.groupby("row", sort=False):
        measured, seeds = seed_means(rows)
        values[str(row)] = measured["ndcg@10"][0]
        costs = rows.drop_duplicates("seed")[["trainable_parameters", "training_seconds"]]
        parameters, seconds = costs.astype(float).mean()
        lines.append(
            Line(
                labels={"Row": str(row), "Switched": str(rows["switched"].iloc[0]) or "nothing"},
                measured=measured,
                seeds=seeds,
                costs={"Trained parameters": round(parameters), "Training (s)": seconds},
                paper={},
            )
        )
    caption = f"From the paper's settings to the released code's{of}, {section.title}"
    return Exhibit(
        name=f"released_code{section.suffix}",
        title=title,
        reading=_changes(values),
        notes=(
            "Each row switches one thing more than the row above it. A change depends on what was switched before it."
            " What of the released code no option has is on the card of the method.",
        ),
        commands=section.made_by("ablation"),
        tables=(side_by_side(section, "released_code", caption, lines),),
    )


def _changes(values: dict[str, float]) -> str:
    """Return the rows that change NDCG@10 most, and what all change together."""
    steps = {later: values[later] - values[earlier] for earlier, later in pairwise(values)}
    most = max(steps, key=lambda row: abs(steps[row]))
    first, *_, last = values
    return (
        f"NDCG@10 among sampled candidates goes from {values[first]:.4f} ({first}) to {values[last]:.4f} ({last});"
        f" {most} changes it most, by {steps[most]:+.4f}."
    ).replace(" -", " −")
