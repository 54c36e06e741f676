"""Figures 1(c), 8 and 9: how far pictures say what descriptions say, and on toyshop what their overlap is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench.frames import overlap
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.densities import PAIRS, densities_figure, histogram
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.exhibits.lines import curves, lines_exhibit
from reports.paper.paper_tables import short_name
from reports.paper.published import fact
from reports.sections.section import Section, has_prompt
from reports.wording.wording import words

_PANELS = 3
_TOWER = "text tower"


def exhibits(section: Section) -> list[Shown]:
    """Return the similarities, and accuracy by the overlap of pictures and descriptions."""
    title = "Figures 1(c), 8 and 9. Overlap of pictures and descriptions"
    family = _family(section)
    # Other positions of toyshop's knob are data sets of their own.
    relatives = [
        record
        for record in section.stored
        if (record.config.get("dataset") or {}).get("fingerprint") in family and has_prompt(record)
    ]
    cosines = overlap.frame(relatives, section.store)
    if cosines.empty:
        return [gap(section, title, "no cosines of pictures and descriptions", "overlap")]
    made: list[Shown] = [_similarities(section, relatives, cosines, title)]
    accuracy = overlap.accuracy_frame(relatives, section.store)
    points = curves(accuracy[accuracy["llm"] == section.llm], "method", "overlap")
    if points["x"].nunique() > 1:
        xlabel = "Share of what the description says that the picture shows"
        made.append(
            lines_exhibit(
                section,
                name="figure1c_accuracy",
                title="Figure 1(c) as a knob. Accuracy by overlap of pictures and descriptions",
                panels=[Panel(curves=points, xlabel=xlabel)],
                looks=section.styles,
                varied="of overlap",
                paper="Images can stand in for descriptions because the two overlap (Sections 1 and 5).",
                experiment="overlap",
            )
        )
    return made


def _family(section: Section) -> set[str]:
    """Return the fingerprints of the toyshops that differ from the data in their overlap alone, and its own."""
    knobs = {
        record.config["dataset"]["fingerprint"]: record.config["family"]
        for record in section.stored
        if record.experiment == overlap.EXPERIMENT and record.config.get("family") is not None
    }
    own = knobs.get(section.fingerprint)
    return {section.fingerprint, *(name for name, family in knobs.items() if family == own)}


def _similarities(section: Section, records: Sequence[Record], cosines: pd.DataFrame, title: str) -> Exhibit:
    """Return the distributions of the section's own data, and the means of all positions of the knob as a table."""
    values = [
        f"{row['matched']:.2f} with their own description against {_others(row)} ({row['encoder']}"
        + (f", overlap {row['overlap']:g})" if pd.notna(row["overlap"]) else ")")
        for row in cosines.to_dict("records")
    ]
    scores = [
        f" {row['encoder']} gives half of the items a score of {row['median_matched_score']:.2f} or more."
        for row in cosines[cosines["matched_score"].notna()].to_dict("records")
    ]
    drawn, means = _distributions(section, records)
    panels, left_out = list(means)[:_PANELS], list(means)[_PANELS:]
    drawn = drawn[drawn["panel"].isin(panels)]
    amazon, captions, unrelated = (
        fact(f"similarity_{kind}") for kind in ("amazon", "coco_pairs", "coco_unrelated")
    )
    measured = dict(zip(cosines["encoder"], cosines["measured_by"], strict=True))
    readable = cosines.drop(columns="fingerprint").dropna(axis="columns", how="all")
    cosine_table = table(section, "figure1c_means", "Cosines of pictures and descriptions", readable)
    return Exhibit(
        name=f"figure1c{section.suffix}",
        title=title,
        reading=f"Pictures' mean cosine is {'; '.join(values)}.{''.join(scores)}",
        paper=(
            f"CLIP's mean cosine is around {amazon[0]:g} on Sport and Art; COCO's captions have {captions[0]:g},"
            f" unrelated ones {unrelated[0]:g} ({amazon[1]}). SigLIP's scores are close to 1 for most items (Figure 9)."
        ),
        notes=(
            "Distributions over items, of the first seed; vertical lines are means.",
            *_without_category(cosines),
            *((f"Not drawn: {words(left_out)}.",) if left_out else ()),
            *(
                f"Cosines of {encoder} are measured by a {by}, since it has no text tower; they do not compare with"
                " CLIP's or SigLIP's."
                for encoder, by in measured.items()
                if by != _TOWER
            ),
        ),
        commands=section.made_by("overlap"),
        tables=(
            table(section, "figure1c", "Distribution of similarities", drawn),
            replace(cosine_table, data=cosines),
        ),
        figure=drawing(densities_figure, drawn, means, section.title),
        alt=f"Outlines of distributions of similarity over items. Mean cosine {'; '.join(values)}.",
    )


def _others(row: Mapping[str, Any]) -> str:
    """Return the mean cosines with other items' descriptions in words."""
    of_any = f"{row['shuffled_any']:.2f} with any other item's"
    if not row["same_category"]:
        return of_any
    return f"{row['shuffled']:.2f} with another's of the same category and {of_any}"


def _without_category(cosines: pd.DataFrame) -> tuple[str, ...]:
    """Return a sentence on the items that are compared with another of any category, or none where there are none."""
    lacking = {
        (row["items"] - row["same_category"], row["items"])
        for row in cosines.to_dict("records")
        if row["same_category"] < row["items"]
    }
    if not lacking:
        return ()
    counts = words([f"{number:,} of {items:,}" for number, items in sorted(lacking)])
    return (
        f"No other item has the category of {counts} items: the description of an item of any category stands in.",
    )


def _distributions(
    section: Section, records: Sequence[Record]
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Return the histograms of all encoders, SigLIP's scores as panels of their own, and the means they show."""
    own = [
        record
        for record in overlap.cells(records)
        if record.config["dataset"]["fingerprint"] == section.fingerprint
    ]
    newest = {
        record.method: record for record in sorted(own, key=lambda record: (-record.seed, record.created))
    }
    frames, means = [], {}
    for encoder, record in sorted(newest.items()):
        pairs = section.store.read_frame(record, "similarities")
        kinds = [("Cosine", ("matched", "shuffled"), (-1.0, 1.0))]
        if overlap.SCORES[0] in pairs:
            kinds.append(("Sigmoid score", overlap.SCORES, (0.0, 1.0)))
        for what, names, limits in kinds:
            panel = f"{what}, {short_name(encoder)}"
            values = {pair: pairs[column] for pair, column in zip(PAIRS, names, strict=True)}
            frames.append(histogram(values, panel, limits))
            means[panel] = {pair: float(column.mean()) for pair, column in values.items()}
    return pd.concat(frames, ignore_index=True), means
