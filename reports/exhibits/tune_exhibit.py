"""The exhibit on tuning: how much of what separates methods is their hyper-parameters."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames.tune import EXPERIMENT
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import Panel, lines_figure
from reports.exhibits.curves import Source, no_levels
from reports.exhibits.exhibits import Exhibit, Shown
from reports.wording.origins import commands
from reports.wording.tables import MISSING, frame_table
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


def tune_exhibit(source: Source, records: Sequence[Record]) -> Shown:
    """Return default against tuned for each method, with the best so far by trial.

    Args:
        source: The section.
        records: All cells of the store: SASRec's and GRU4Rec's have no LLM.
    """
    title = "Tuning. Every method with an equal budget"
    own = [record for record in source.cells(records, EXPERIMENT) if record.method in source.styles]
    if not any(record.config.get("llm") for record in own):
        return source.gap(title, "no studies of hyper-parameters", EXPERIMENT)
    place = {name: number for number, name in enumerate(source.styles)}
    own.sort(key=lambda record: (place[record.method], record.seed))
    table = pd.DataFrame([_row(source, record) for record in own])
    spaces = pd.DataFrame(
        [
            {"method": source.styles[record.method].label, "parameter": name, "searched": described}
            for record in own
            for name, described in record.config["space"].items()
        ]
    )
    curves = pd.concat([_curve(source, record) for record in own], ignore_index=True)
    name, subject = f"tune{source.suffix}", source.section.title
    reading = _reading(table)
    return Exhibit(
        name=name,
        title=title,
        reading=reading,
        paper="The paper does not say how its baselines were tuned.",
        notes=(
            "Validation NDCG@10 among sampled candidates; no test item was read. The default is each study's first"
            " trial. What a parameter matters is its share in what sets the best trials apart (PED-ANOVA).",
        ),
        commands=commands(own),
        tables=(
            frame_table(name, f"Default against tuned, {subject}", table, _TITLES),
            frame_table(f"tune_spaces{source.suffix}", f"Search spaces, {subject}", spaces),
            frame_table(f"tune_curves{source.suffix}", f"Best so far, {subject}", curves),
        ),
        figure=drawing(
            lines_figure,
            [Panel(curves=curves, levels=no_levels(), xlabel="Trial")],
            source.styles,
            subject,
            "Best validation NDCG@10 so far",
        ),
        alt=f"Line chart of the best validation NDCG@10 by trial. {reading}",
    )


def _row(source: Source, record: Record) -> dict[str, object]:
    results = record.results
    default, tuned = results["default_ndcg@10"], results["valid_ndcg@10"]
    chosen = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in results["parameters"].items()
    ]
    important = [f"{name} {share:.0%}" for name, share in list(results["importances"].items())[:3]]
    return {
        "method": source.styles[record.method].label,
        "trials": results["trials"],
        "seconds": results["seconds"],
        "default": float("nan") if default is None else default,
        "tuned": tuned,
        "gain": float("nan") if default is None else tuned - default,
        "chosen": ", ".join(chosen),
        "matters": ", ".join(important) or MISSING,
    }


def _curve(source: Source, record: Record) -> pd.DataFrame:
    trials = source.store.read_frame(record, "trials").dropna(subset=["best_so_far"])
    return pd.DataFrame(
        {
            "series": record.method,
            "x": trials["trial"],
            "mean": trials["best_so_far"],
            "stderr": float("nan"),
            "seeds": 1,
        }
    )


def _reading(table: pd.DataFrame) -> str:
    gains = table.dropna(subset=["gain"])
    parts = [
        f"{row['method']} {row['default']:.4f} to {row['tuned']:.4f}" for row in gains.to_dict("records")
    ]
    if not parts:
        return "No default was finished in time."
    return f"Tuning takes validation NDCG@10 of {words(parts)}."
