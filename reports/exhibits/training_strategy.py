"""Tables 3 and 10: accuracy, time and trained parameters by training strategy."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bench.frames import training_strategy
from reports.drawing.cost_figures import cost_figure
from reports.drawing.deferred import drawing
from reports.exhibits.exhibit import Exhibit, Shown, each_method, gap, table
from reports.paper.paper_tables import Line, published_lines, seed_means, side_by_side
from reports.sections.methods import method_styles
from reports.sections.section import Section
from reports.wording.cautions import machine_words
from reports.wording.tables import MISSING
from reports.wording.wording import words

_LABELS = {
    "frozen": "LLM frozen",
    "lora": "LoRA",
    "embeddings": "Word embeddings",
    "end-to-end": "LLM and all",
    "two-stage": "Two stages",
    "cached": "Stored states",
}
STRATEGY_LOOKS = {
    name: replace(look, label=_LABELS[name])
    for name, look in method_styles(training_strategy.STRATEGIES).items()
}
"""Looks of the training strategies."""

_MACHINES = "These were trained on different machines: their seconds cannot be compared."


def exhibits(section: Section) -> list[Shown]:
    """Return the strategies of each method, against their training time and beside the paper's."""
    frame = section.frame(training_strategy.frame)
    return each_method(section, frame[frame["llm"] == section.llm], _strategies)


def _strategies(section: Section, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Tables 3 and 10. Training strategies{of}"
    if frame["strategy"].nunique() < 2:
        return gap(section, title, "no accuracy cells of several training strategies", "training_strategy")
    paper = {name: published_lines(name, ("strategy",)) for name in ("table3", "table10")}
    lines, points = [], []
    for strategy, rows in frame.groupby("strategy", sort=False):
        measured, seeds = seed_means(rows)
        costs = rows.drop_duplicates("seed")[
            ["trainable_parameters", "training_seconds", "targets_per_second"]
        ]
        parameters, seconds, targets = costs.astype(float).mean()
        printed = training_strategy.PAPER[str(strategy)]
        published = {} if of else next((paper[name][(row,)] for name, row in printed.items()), {})
        labels = {
            "Strategy": STRATEGY_LOOKS[str(strategy)].label,
            "Paper's row": "; ".join(printed.values()) or MISSING,
        }
        spent = {
            "Trained parameters": round(parameters),
            "Training (s)": seconds,
            "Targets a second": targets,
        }
        lines.append(Line(labels=labels, measured=measured, seeds=seeds, costs=spent, paper=published))
        points.append((strategy, seconds, *measured["ndcg@10"], seeds))
    machines = {
        machine_words(record.machine)
        for record, _ in training_strategy.by_strategy(section.records)
        if record.method in set(frame["method"])
    }
    drawn = pd.DataFrame(points, columns=["series", "cost", "mean", "stderr", "seeds"])
    titles = {"cost": "seconds of training", "mean": "NDCG@10"}
    xlabel = "Training time in s (left is better)"
    return Exhibit(
        name=f"table3{section.suffix}",
        title=title,
        reading=_against_frozen(drawn),
        paper=(
            "LoRA adds 0.0061 NDCG@5 on Sport and 0.0110 on Art, which the authors forgo for its cost (Table 3);"
            " training in two stages is comparable (Table 10). Their End-to-End keeps the LLM frozen, too."
        ),
        notes=(
            "All strategies take the same number of optimiser steps; time is that of the steps. LLM and all trains the"
            " whole LLM, which the paper leaves out. Stored states approximates LLM frozen: the LLM runs once for each"
            " position, then projectors are trained until validation stops improving; its time holds all of that.",
            *([_MACHINES] if len(machines) > 1 else []),
        ),
        commands=section.made_by("training_strategy"),
        tables=(
            table(section, "table3", f"NDCG@10 against training time{of}", drawn, titles),
            side_by_side(section, "table3_strategies", f"Training strategies{of}, {section.title}", lines),
        ),
        figure=drawing(cost_figure, drawn, STRATEGY_LOOKS, section.title, xlabel),
        alt=f"Scatter plot of NDCG@10 against seconds of training. {_against_frozen(drawn)}",
    )


def _against_frozen(points: pd.DataFrame) -> str:
    """Return what each strategy changes against the frozen LLM, and at how many times its training time."""
    rows = points.set_index("series")
    if training_strategy.FROZEN not in rows.index:
        names = [STRATEGY_LOOKS[name].label for name in rows.index]
        return f"NDCG@10 among sampled candidates of {words(names)}: {words([f'{m:.4f}' for m in rows['mean']])}."
    frozen = rows.loc[training_strategy.FROZEN]
    changes = [
        f"{STRATEGY_LOOKS[str(name)].label} {row['mean'] - frozen['mean']:+.4f} at"
        f" {row['cost'] / frozen['cost']:.1f} times the training time"
        for name, row in rows.iterrows()
        if name != training_strategy.FROZEN
    ]
    return f"NDCG@10 against the frozen LLM's {frozen['mean']:.4f}: {', '.join(changes)}.".replace(" -", " −")
