"""Exhibits on pictures: how far they say what descriptions say, and what missing or poor ones cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from bench.frames import figure_types, image_quality, missing_images, overlap
from bench.frames.selection import latest
from bench.store.cell import Record
from reports.drawing.cost_figures import pictures_figure
from reports.drawing.deferred import drawing
from reports.drawing.densities import PAIRS, densities_figure, histogram
from reports.drawing.sweep_figures import Panel
from reports.exhibits.curves import Source, curves, each_method, lines_exhibit, no_levels
from reports.exhibits.exhibits import Exhibit, Shown
from reports.paper.paper_tables import Line, published_lines, seed_means, short_name, side_by_side
from reports.paper.published import fact
from reports.sections.methods import FEATURE_LOOKS, SUBSTITUTE_LOOKS
from reports.wording.tables import Table, frame_table
from reports.wording.wording import words

_PANELS = 3
_TOWER = "text tower"
_QUALITY_AXES = {
    "resolution": "Longer side in pixels",
    "jpeg": "JPEG quality",
    "blur": "Blur, radius in pixels",
}


def overlap_exhibits(source: Source, records: Sequence[Record]) -> list[Shown]:
    """Return Figures 1(c), 8 and 9, and on toyshop what the overlap of pictures and descriptions is worth.

    Args:
        source: The section.
        records: All cells of the store: other positions of toyshop's knob are data sets of their own.
    """
    title = "Figures 1(c), 8 and 9. Overlap of pictures and descriptions"
    family = _family(source.section.fingerprint, records)
    relatives = [
        record for record in records if (record.config.get("dataset") or {}).get("fingerprint") in family
    ]
    cosines = overlap.frame(relatives, source.store)
    if cosines.empty:
        return [source.gap(title, "no cosines of pictures and descriptions", "overlap")]
    made: list[Shown] = [_similarities(source, relatives, cosines, title)]
    accuracy = overlap.accuracy_frame(relatives, source.store)
    points = curves(accuracy[accuracy["llm"] == source.section.llm], "method", "overlap")
    if points["x"].nunique() > 1:
        made.append(
            lines_exhibit(
                source,
                name="figure1c_accuracy",
                title="Figure 1(c) as a knob. Accuracy by overlap of pictures and descriptions",
                panels=[
                    Panel(
                        curves=points,
                        levels=no_levels(),
                        xlabel="Share of what the description says that the picture shows",
                    )
                ],
                looks=source.styles,
                varied="of overlap",
                paper="Images can stand in for descriptions because the two overlap (Sections 1 and 5).",
                experiment="overlap",
            )
        )
    return made


def missing_exhibits(source: Source) -> list[Shown]:
    """Return Table 8 as a curve over the share of images that are missing, for each method that shows images."""
    frame = missing_images.frame(source.with_prompts, source.store)
    references = frame["substitutes"] == ""

    def exhibit(own: Source, rows: pd.DataFrame, of: str) -> Shown:
        return _missing(own, pd.concat([rows, frame[references]]), of)

    return each_method(source, frame[~references], exhibit)


def _missing(source: Source, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Table 8 as a curve. Missing images{of}"
    points = curves(frame[frame["substitutes"] != ""], "substitutes", "fraction")
    if points.empty or points["x"].nunique() < 2:
        return source.gap(title, "no accuracy cells with images missing", "missing_images")
    levels = curves(frame[frame["substitutes"] == ""], "method", "fraction")
    looks = {**SUBSTITUTE_LOOKS, **{name: source.styles[name] for name in levels["series"]}}
    return lines_exhibit(
        source,
        name="table8",
        title=title,
        panels=[Panel(curves=points, levels=levels, xlabel="Share of images removed")],
        looks=looks,
        varied="of the images removed",
        paper="With 50 % of the images missing I-LLMRec is above TALLRec and TRSR in NDCG@5 (Table 8).",
        experiment="missing_images",
        tables=() if of else _table8(source, frame),
    )


def quality_exhibits(source: Source) -> list[Shown]:
    """Return Table 9 as curves over what makes pictures worse, and in its own form where the source has small ones."""
    return each_method(source, image_quality.frame(source.records, source.store), _quality)


def _quality(source: Source, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Table 9 as a curve. Image quality{of}"
    worse = frame[frame["degradation"] != image_quality.ORIGINAL]
    if worse.empty:
        return source.gap(title, "no accuracy cells on worse pictures", "image_quality")
    original = curves(frame[frame["degradation"] == image_quality.ORIGINAL], "features", "degradation")
    panels = [
        Panel(
            curves=curves(worse[worse["degradation"] == kind], "features", "amount"),
            levels=original,
            xlabel=label,
        )
        for kind, label in _QUALITY_AXES.items()
        if (worse["degradation"] == kind).any()
    ]
    own = (worse["degradation"] == image_quality.LOW_RESOLUTION).any()
    tables = (_table9(source, frame, of),) if own else ()
    paper = "Low quality costs much where image features stand alone and little beside CF and text features (Table 9)."
    if not panels:
        return Exhibit(
            name=f"table9{source.suffix}",
            title=f"Table 9. Image quality{of}",
            reading="Low quality means the source's own low-resolution pictures.",
            paper=paper,
            commands=source.made_by("image_quality"),
            tables=tables,
        )
    lacking = "The data have no low-resolution pictures of their own, which Table 9 has."
    return lines_exhibit(
        source,
        name="table9_curve" if own else "table9",
        title=title,
        panels=panels,
        looks=FEATURE_LOOKS,
        varied="",
        notes=("Horizontal lines: the pictures as they are.", *(() if own else (lacking,))),
        paper=paper,
        experiment="image_quality",
        tables=tables,
    )


def figure_types_exhibit(source: Source) -> Shown:
    """Return Figure 12: the items most frequent in the histories of users who were served well, and badly."""
    title = "Figure 12. Items in the histories of users hit and missed"
    frame = figure_types.frame(source.records, source.store)
    frame = frame[(frame["fingerprint"] == source.section.fingerprint) & (frame["llm"] == source.section.llm)]
    frame = frame[frame["method"].isin(list(source.styles))]
    if frame.empty:
        return source.gap(
            title, "no counts of items in the histories of users hit and missed", "figure_types"
        )
    # One sheet: I-LLMRec's where it is there, of the first seed; the table has them all.
    method = "illmrec" if (frame["method"] == "illmrec").any() else frame["method"].iloc[0]
    sheet = frame[frame["method"] == method]
    sheet = sheet[sheet["seed"] == sheet["seed"].min()]
    label = source.styles[method].label
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
    pictures = figure_types.thumbnails(source.records, source.store)
    pictures = pictures[pictures["fingerprint"] == source.section.fingerprint]
    common = set(sheet.loc[sheet["group"] == "hit", "item_id"]) & set(
        sheet.loc[sheet["group"] == "missed", "item_id"]
    )
    reading = (
        f"Of the items most frequent with {label}, {len(common)} are in both rows; what is popular leads in both, so"
        " the other group's frequency stands beside."
    )
    name = f"figure12{source.suffix}"
    return Exhibit(
        name=name,
        title=title,
        reading=reading,
        paper=(
            "On Sport apparel leads where the target was hit, tactical gear where it was missed; on Art clear pictures"
            " lead against those with small text (Appendix E.11, Figure 12)."
        ),
        commands=source.made_by("figure_types"),
        shows_items=True,
        tables=(
            frame_table(
                name,
                f"Most frequent items of users hit and missed, {source.section.title}",
                frame.drop(columns="image"),
            ),
        ),
        figure=drawing(
            pictures_figure,
            drawn[["row", "place", "item_id", "item_title", "note"]],
            pictures[["item_id", "png"]],
            f"{source.section.title}, {label}",
        ),
        alt=f"Pictures of items. {' '.join(_listed(*strip) for strip in drawn.groupby('row', sort=False))}",
    )


def _listed(heading: object, rows: pd.DataFrame) -> str:
    return f"{heading}: {', '.join(rows['item_title'])}."


def _similarities(source: Source, records: Sequence[Record], cosines: pd.DataFrame, title: str) -> Exhibit:
    """Return the distributions of the section's own data, and the means of all positions of the knob as a table."""
    values = [
        f"{row['matched']:.2f} with their own description against {row['shuffled']:.2f} with another's"
        f" ({row['encoder']}" + (f", overlap {row['overlap']:g})" if pd.notna(row["overlap"]) else ")")
        for row in cosines.to_dict("records")
    ]
    scores = [
        f" {row['encoder']} gives half of the items a score of {row['median_matched_score']:.2f} or more."
        for row in cosines[cosines["matched_score"].notna()].to_dict("records")
    ]
    name = f"figure1c{source.suffix}"
    drawn, means = _distributions(source, records)
    panels = list(means)[:_PANELS]
    drawn = drawn[drawn["panel"].isin(panels)]
    amazon, captions, unrelated = (
        fact(f"similarity_{kind}") for kind in ("amazon", "coco_pairs", "coco_unrelated")
    )
    return Exhibit(
        name=name,
        title=title,
        reading=f"Pictures' mean cosine is {'; '.join(values)}.{''.join(scores)}",
        paper=(
            f"CLIP's mean cosine is around {amazon[0]:g} on Sport and Art; COCO's captions have {captions[0]:g},"
            f" unrelated ones {unrelated[0]:g} ({amazon[1]}). SigLIP's scores are close to 1 for most items (Figure 9)."
        ),
        notes=(
            "Distributions over items, of the first seed; vertical lines are means.",
            *((f"Not drawn: {words(list(means)[_PANELS:])}.",) if len(means) > _PANELS else ()),
            *(
                f"Cosines of {encoder} are measured by a {by}, since it has no text tower; they do not compare with"
                " CLIP's or SigLIP's."
                for encoder, by in dict(zip(cosines["encoder"], cosines["measured_by"], strict=True)).items()
                if by != _TOWER
            ),
        ),
        commands=source.made_by("overlap"),
        tables=(
            frame_table(name, f"Distribution of similarities, {source.section.title}", drawn),
            replace(
                frame_table(
                    f"figure1c_means{source.suffix}",
                    f"Cosines of pictures and descriptions, {source.section.title}",
                    cosines.drop(columns="fingerprint").dropna(axis="columns", how="all"),
                ),
                data=cosines,
            ),
        ),
        figure=drawing(densities_figure, drawn, means, source.section.title),
        alt=f"Outlines of distributions of similarity over items. Mean cosine {'; '.join(values)}.",
    )


def _distributions(
    source: Source, records: Sequence[Record]
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Return the histograms of all encoders, SigLIP's scores as panels of their own, and the means they show."""
    newest: dict[str, Record] = {}
    for record in sorted(
        latest(records, overlap.EXPERIMENT), key=lambda record: (-record.seed, record.created)
    ):
        if record.config["dataset"]["fingerprint"] == source.section.fingerprint:
            newest[record.method] = record
    frames, means = [], {}
    for encoder, record in sorted(newest.items()):
        pairs = source.store.read_frame(record, "similarities")
        kinds = [("Cosine", ("matched", "shuffled"), (-1.0, 1.0))]
        if overlap.SCORES[0] in pairs:
            kinds.append(("Sigmoid score", overlap.SCORES, (0.0, 1.0)))
        for what, names, limits in kinds:
            panel = f"{what}, {short_name(encoder)}"
            values = {pair: pairs[column] for pair, column in zip(PAIRS, names, strict=True)}
            frames.append(histogram(values, panel, limits))
            means[panel] = {pair: float(column.mean()) for pair, column in values.items()}
    return pd.concat(frames, ignore_index=True), means


def _table8(source: Source, frame: pd.DataFrame) -> tuple[Table, ...]:
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
        missing = "50 %" if name == "I-LLMRec" else "none"
        lines.append(
            Line(
                labels={"Method": name, "Missing images": missing},
                measured=measured,
                seeds=seeds,
                paper=paper[name],
            )
        )
    caption = f"Half of the images missing, descriptions in their place, {source.section.title}"
    return (side_by_side(f"table8_half{source.suffix}", caption, lines, source.section),)


def _table9(source: Source, frame: pd.DataFrame, of: str) -> Table:
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
    caption = f"Image quality{of}, low is the source's own low resolution, {source.section.title}"
    return side_by_side(f"table9_low{source.suffix}", caption, lines, source.section)


def _family(fingerprint: str, records: Sequence[Record]) -> set[str]:
    """Return the fingerprints of the toyshops that differ from a data set in their overlap alone, and its own."""
    knobs = {
        record.config["dataset"]["fingerprint"]: record.config["family"]
        for record in records
        if record.experiment == overlap.EXPERIMENT and record.config.get("family") is not None
    }
    if fingerprint not in knobs:
        return {fingerprint}
    return {name for name, family in knobs.items() if family == knobs[fingerprint]}
