"""How fast training is: validation accuracy against seconds, and the seconds to fixed levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from bench.frames.time_to_accuracy import EXPERIMENT, curves, levels
from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import speed_figure
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.exhibits.training_strategy import STRATEGY_LOOKS
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.cautions import timing_notes
from reports.wording.wording import words

_END = {
    "method": "method",
    "strategy": "strategy",
    "seed": "seed",
    "seconds": "seconds",
    "targets": "targets",
    "gflops": "GFLOP",
    "valid_ndcg@10": "validation NDCG@10",
}
_LEVELS = {
    "method": "method",
    "seed": "seed",
    "level": "validation NDCG@10",
    "strategy": "strategy",
    "seconds": "seconds",
    "against_seconds": "seconds, LLM frozen",
    "speedup": "times as fast",
}
_APART = (
    "Some ratios are of trainings that were timed in different runs: what else the machine did may differ."
)


def exhibits(section: Section) -> list[Shown]:
    """Return validation accuracy against training time of each method, by strategy, SASRec beside them."""
    title = "How fast training is"
    own = section.cells(EXPERIMENT)
    curve = curves(own, section.store)
    methods = [name for name in dict.fromkeys(curve["method"]) if name in section.styles and name != "sasrec"]
    if not methods:
        return [gap(section, title, "no trainings recorded against time", EXPERIMENT)]
    looks = dict(STRATEGY_LOOKS)
    if "sasrec" in section.styles:
        looks["recbole"] = replace(section.styles["sasrec"], label="SASRec")
    reached = levels(curve)
    labels = {name: style.label for name, style in section.styles.items()}
    strategies = {name: look.label for name, look in looks.items()}

    def labelled(frame: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
        found = frame.assign(
            method=[labels.get(name, name) for name in frame["method"]],
            strategy=[strategies.get(name, name) for name in frame["strategy"]],
        )
        return found[list(columns)]

    last = curve.groupby(["method", "strategy", "seed"], sort=False).tail(1)
    tables = [table(section, "time_to_accuracy", "Training in the end", labelled(last, _END), _END)]
    if not reached.empty:
        shown = labelled(reached, _LEVELS)
        tables.append(table(section, "time_to_levels", "Seconds to levels", shown, _LEVELS))
    apart = not (reached.empty or reached["one_session"].all())
    reading = _reading(reached, labels, strategies)
    panels = [(labels[method], _lines(curve, method)) for method in methods]
    return [
        Exhibit(
            name=f"time_to_accuracy{section.suffix}",
            title=title,
            reading=reading,
            paper="The paper trains LLM methods jointly and does not report accuracy against time.",
            notes=(
                "Validation NDCG@10 among sampled candidates. Seconds of joint training are those of its optimiser"
                " steps; those of stored states hold warm-up, encoding, projectors and all validation. A line ends"
                " where training converged or its seconds were spent. GFLOP are those of the LLM and, of stored states,"
                " of projectors.",
                *((_APART,) if apart else ()),
                *timing_notes(own),
            ),
            commands=commands(own),
            tables=tuple(tables),
            figure=drawing(speed_figure, panels, looks, section.title),
            alt=f"Line charts of validation NDCG@10 against seconds of training. {reading}",
        )
    ]


def _lines(curve: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return a method's curves and SASRec's: columns series, seed, seconds, ndcg."""
    rows = curve[curve["method"].isin([method, "sasrec"])]
    rows = rows.rename(columns={"strategy": "series", "valid_ndcg@10": "ndcg"})
    return rows[["series", "seed", "seconds", "ndcg"]]


def _reading(reached: pd.DataFrame, methods: Mapping[str, str], strategies: Mapping[str, str]) -> str:
    """Return how much sooner each strategy has what joint training reaches at its best."""
    sentences = []
    for (method, strategy), rows in reached.groupby(["method", "strategy"], sort=False):
        best = rows.loc[rows.groupby("seed")["level"].idxmax()]
        never = int(best["speedup"].isna().sum())
        label = f"{methods.get(str(method), method)}: {strategies.get(str(strategy), strategy)}"
        if never == len(best):
            sentences.append(f"{label} never has the best of joint training.")
            continue
        ratios = sorted(best["speedup"].dropna())
        spread = f"{ratios[0]:.1f}" if len(ratios) == 1 else f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        some = f", in {never} of {len(best)} seeds never" if never else ""
        sentences.append(f"{label} has the best of joint training {spread} times as fast{some}.")
    return " ".join(sentences) or f"Trainings of {words(list(methods.values()))}."
