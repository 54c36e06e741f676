"""Tuning: how much of what separates methods is their hyper-parameters."""

from __future__ import annotations

import math

import pandas as pd

from bench.frames.tune import EXPERIMENT
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import Panel, lines_figure
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.sections.commands import commands
from reports.sections.section import Section, number
from reports.wording.tables import MISSING
from reports.wording.wording import words

_TITLES = {
    "method": "method",
    "trials": "trials",
    "seconds": "seconds",
    "default": "NDCG@10, default",
    "tuned": "NDCG@10, tuned",
    "gain": "gain",
    "chosen": "chosen",
    "matters": "matters most",
}


def exhibits(section: Section) -> list[Shown]:
    """Return default against tuned for each method, with the best so far by trial."""
    title = "Tuning. Every method with an equal budget"
    own = [record for record in section.cells(EXPERIMENT) if record.method in section.styles]
    if not own:
        return [gap(section, title, "no studies of hyper-parameters", EXPERIMENT)]
    place = {name: position for position, name in enumerate(section.styles)}
    own.sort(key=lambda record: (place[record.method], record.seed))
    studies = pd.DataFrame([_study(section, record) for record in own])
    spaces = pd.DataFrame(
        [
            {"method": section.styles[record.method].label, "parameter": name, "searched": described}
            for record in own
            for name, described in record.config["space"].items()
        ]
    )
    best = pd.concat([_best_so_far(section, record) for record in own], ignore_index=True)
    gains = [
        f"{row['method']} {row['default']:.4f} to {row['tuned']:.4f}"
        for row in studies.dropna(subset=["gain"]).to_dict("records")
    ]
    reading = (
        f"Tuning takes validation NDCG@10 of {words(gains)}." if gains else "No default was finished in time."
    )
    panels = [Panel(curves=best, xlabel="Trial")]
    ylabel = "Best validation NDCG@10 so far"
    return [
        Exhibit(
            name=f"tune{section.suffix}",
            title=title,
            reading=reading,
            paper="The paper does not say how its baselines were tuned.",
            notes=(
                "Validation NDCG@10 among sampled candidates; no test item was read. The default is each study's first"
                " trial. What a parameter matters is its share in what sets the best trials apart (PED-ANOVA).",
            ),
            commands=commands(own),
            tables=(
                table(section, "tune", "Default against tuned", studies, _TITLES),
                table(section, "tune_spaces", "Search spaces", spaces),
                table(section, "tune_curves", "Best so far", best),
            ),
            figure=drawing(lines_figure, panels, section.styles, section.title, ylabel),
            alt=f"Line chart of the best validation NDCG@10 by trial. {reading}",
        )
    ]


def _study(section: Section, record: Record) -> dict[str, object]:
    results = record.results
    default, tuned = number(results["default_ndcg@10"]), results["valid_ndcg@10"]
    chosen = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in results["parameters"].items()
    ]
    important = [f"{name} {share:.0%}" for name, share in list(results["importances"].items())[:3]]
    return {
        "method": section.styles[record.method].label,
        "trials": results["trials"],
        "seconds": results["seconds"],
        "default": default,
        "tuned": tuned,
        "gain": tuned - default,
        "chosen": ", ".join(chosen),
        "matters": ", ".join(important) or MISSING,
    }


def _best_so_far(section: Section, record: Record) -> pd.DataFrame:
    trials = section.store.read_frame(record, "trials").dropna(subset=["best_so_far"])
    points = {"series": record.method, "x": trials["trial"], "mean": trials["best_so_far"]}
    return pd.DataFrame({**points, "stderr": math.nan, "seeds": 1})
