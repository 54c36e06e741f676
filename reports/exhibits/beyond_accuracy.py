"""What the methods recommend beyond being right: how much of the catalogue, how popular, how novel, how alike."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames.beyond_accuracy import COLUMNS, EXPERIMENT, SIMILARITIES, frame
from bench.store.cell import Record
from reports.exhibits.exhibit import Exhibit, Shown, gap, in_order, table
from reports.paper.paper_tables import short_name
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.wording import label

_TITLES = {
    "method": "method",
    "coverage": "coverage",
    "popularity": "popularity",
    "novelty": "novelty (bits)",
    "similarity_image": "image similarity",
    "similarity_text": "text similarity",
    "seeds": "seeds",
}


def exhibits(section: Section) -> list[Shown]:
    """Return what the recommended lists of the methods are like, one row for each method."""
    title = "Beyond accuracy. What is recommended"
    records = [record for entry in section.headline.values() for record in entry.records]
    similarities = section.cells(EXPERIMENT)
    found = frame(records, similarities)
    if found.empty:
        return [
            gap(section, title, "no accuracy cells that keep the lists of recommended items", "comparison")
        ]
    means = found.groupby("method", sort=False)[list(COLUMNS[3:])].mean()
    means["seeds"] = found.groupby("method", sort=False)["seed"].nunique()
    shown = in_order(means.reset_index(), section)
    compared = [name for name in SIMILARITIES if shown[f"similarity_{name}"].notna().any()]
    lacking = [f"similarity_{name}" for name in SIMILARITIES if name not in compared]
    shown = shown.drop(columns=lacking)
    return [
        Exhibit(
            name=f"beyond_accuracy{section.suffix}",
            title=title,
            reading=_reading(shown, section),
            notes=(
                "The first ten items of every user, out of the catalogue without the user's history. Coverage: share of"
                " the catalogue that is recommended to anyone. Popularity: interactions in training of what is"
                " recommended, over those of an item drawn uniformly. Novelty: mean of −log2 of an item's share of all"
                " interactions in training. None of them is better for being high or low by itself.",
                *_similarity_notes(similarities, compared),
            ),
            commands=commands(records),
            tables=(
                table(
                    section,
                    "beyond_accuracy_mean",
                    "Recommended lists, means over seeds",
                    shown,
                    _TITLES,
                    {"method": section.styles},
                ),
            ),
        )
    ]


def _reading(frame: pd.DataFrame, section: Section) -> str:
    coverage = frame.sort_values("coverage", ascending=False)
    widest, narrowest = coverage.iloc[0], coverage.iloc[-1]
    said = f"{label(widest, section.styles)} recommends {widest['coverage']:.1%} of the catalogue"
    if len(frame) > 1:
        said += f", the most, and {label(narrowest, section.styles)} {narrowest['coverage']:.1%}, the least"
    popular = frame.dropna(subset="popularity").sort_values("popularity", ascending=False)
    if len(popular):
        first = popular.iloc[0]
        said += (
            f"; what {label(first, section.styles)} recommends has {first['popularity']:.1f} times the interactions of"
            " an item drawn uniformly"
        )
        said += ", the highest number" if len(popular) > 1 else ""
    return f"{said}."


def _similarity_notes(cells: Sequence[Record], compared: Sequence[str]) -> tuple[str, ...]:
    """Return what similarities are of, and by whose features."""
    if not compared:
        return ()
    by = {
        name: dict.fromkeys(
            short_name(cell.config["encoders"][name]) for cell in cells if name in cell.config["encoders"]
        )
        for name in compared
    }
    encoders = "; ".join(f"{name} features by {', '.join(names)}" for name, names in by.items())
    several = any(len(names) > 1 for names in by.values())
    caution = " Those of different encoders do not compare." if several else ""
    return (
        f"Similarity: mean cosine of the features of two items of a list, over lists and pairs ({encoders}); an item"
        f" without a picture, or without a text, is left out.{caution}",
    )
