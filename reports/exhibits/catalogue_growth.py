"""Appendix E.13, a growing catalogue: models that were trained on fewer items than they serve."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bench.frames import catalogue_growth
from reports.drawing.sweep_figures import Panel
from reports.exhibits.exhibit import Shown, each_method, gap
from reports.exhibits.lines import curves, lines_exhibit
from reports.paper.published import fact
from reports.sections.methods import MethodStyle, method_styles
from reports.sections.section import Section
from reports.wording.tables import frame_table
from reports.wording.wording import words

_RETRAINED = "retrained"
_PANELS = 3
_COSTS = {
    "features": "features",
    "trained_items": "trained on items",
    "served_items": "serves items",
    "targets": "test items",
    "users": "users",
    "hit@5": "Hit@5",
    "ndcg@5": "NDCG@5",
    "ndcg@10": "NDCG@10",
    "users_per_second": "users a second",
    "index_seconds": "indexing (s)",
    "peak_memory_mb": "peak memory (MB)",
    "feature_bytes_per_item": "bytes of features an item",
    "projected_bytes_per_item": "bytes of projections an item",
    "model_bytes": "bytes of the model",
}


def exhibits(section: Section) -> list[Shown]:
    """Return accuracy as the catalogue grows, of models trained for it and before, with what serving costs."""
    frame = section.frame(catalogue_growth.frame)
    own = (frame["fingerprint"] == section.fingerprint) & (frame["llm"] == section.llm)
    return each_method(section, frame[own], _growth)


def _growth(section: Section, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Appendix E.13. A growing catalogue{of}"
    if frame["served_items"].nunique() < 2:
        return gap(section, title, "no models serving catalogues of several sizes", "catalogue_growth")
    panels, shares = [], []
    for features in list(dict.fromkeys(frame["features"]))[:_PANELS]:
        rows = frame[(frame["features"] == features) & (frame["targets"] == "all")]
        current = rows[rows["trained_share"] == rows["served_share"]].assign(series=_RETRAINED)
        older = [
            group.assign(series=f"{share:g}")
            for share, group in rows.groupby("trained_share")
            if group["served_items"].nunique() > 1
        ]
        shares += [group["series"].iloc[0] for group in older]
        points = curves(pd.concat([current, *older]), "series", "served_items")
        panels.append(Panel(curves=points, xlabel=f"Items served, {features}"))
    means = (
        frame[frame["candidates"] == "sampled"]
        .groupby(list(_COSTS)[:4], sort=False)[list(_COSTS)[4:]]
        .mean()
        .reset_index()
        .astype({"users": int})
    )
    caption = f"Serving a growing catalogue{of}, sampled candidates, {section.title}"
    return lines_exhibit(
        section,
        name="figure_growth",
        title=title,
        panels=panels,
        looks=_looks(shares),
        notes=(
            "Test items that a model was not trained with count; the table has users with such a test item (new) and"
            " the others (old) apart.",
        ),
        paper=_paper(),
        experiment="catalogue_growth",
        tables=(frame_table(f"table_growth{section.suffix}", caption, means, _COSTS),),
    )


def _looks(shares: list[str]) -> dict[str, MethodStyle]:
    names = [_RETRAINED, *sorted(set(shares), key=float)]
    labels = {name: f"trained on {100 * float(name):.0f} % of the items" for name in names[1:]}
    labels[_RETRAINED] = "trained for each size"
    styles = method_styles(names)
    return {name: replace(styles[name], label=labels[name]) for name in names}


def _paper() -> str:
    """Return the paper's numbers, from its text."""

    def values(*names: str) -> str:
        return words([f"{fact(f'catalogue_performance_{name}')[0]:g}" for name in names])

    speed, source = fact("users_per_second")
    storage, _ = fact("feature_cache_kilobytes")
    return (
        f"On Phone {values('5k', '10k', '15k', '20k')} for models trained on 5K, 10K, 15K and 20K items, and"
        f" {values('5k_to_10k', '10k_to_15k', '15k_to_20k')} where the model of the size before serves 10K, 15K and 20K"
        f" (the metric is not named); {speed:g} users a second at every size, {storage:g} kB an item ({source})."
    )
