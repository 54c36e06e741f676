"""Exhibits on how the model is trained and what it is built from: Tables 3, 10 and 11."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from bench.frames import backbones, training_strategy
from bench.store.cell import Record
from reports.drawing.cost_figures import cost_figure
from reports.drawing.deferred import drawing
from reports.exhibits.curves import Source, each_method
from reports.exhibits.exhibits import Exhibit, Shown
from reports.paper.paper_tables import Line, published_lines, seed_means, short_name, side_by_side
from reports.sections.methods import method_styles
from reports.wording.origins import commands, session_notes
from reports.wording.tables import MISSING, frame_table
from reports.wording.wording import words

_LABELS = {
    "frozen": "LLM frozen",
    "lora": "LoRA",
    "end-to-end": "LLM and all",
    "two-stage": "Two stages",
    "cached": "Stored states",
}
STRATEGY_LOOKS = {
    name: replace(look, label=_LABELS[name])
    for name, look in method_styles(training_strategy.STRATEGIES).items()
}
"""Looks of the training strategies."""


def strategy_exhibits(source: Source) -> list[Shown]:
    """Return Tables 3 and 10: accuracy, time and trained parameters by training strategy."""
    frame = training_strategy.frame(source.records, source.store)
    return each_method(source, frame[frame["llm"] == source.section.llm], _strategies)


def _strategies(source: Source, frame: pd.DataFrame, of: str) -> Shown:
    title = f"Tables 3 and 10. Training strategies{of}"
    if frame["strategy"].nunique() < 2:
        return source.gap(title, "no accuracy cells of several training strategies", "training_strategy")
    paper = {name: published_lines(name, ("strategy",)) for name in ("table3", "table10")}
    lines, points = [], []
    for strategy, rows in frame.groupby("strategy", sort=False):
        measured, seeds = seed_means(rows)
        costs = rows.drop_duplicates("seed")[
            ["trainable_parameters", "training_seconds", "targets_per_second"]
        ]
        means = costs.astype(float).mean()
        label = STRATEGY_LOOKS[str(strategy)].label
        printed = training_strategy.PAPER[str(strategy)]
        published = {} if of else next((paper[name][(row,)] for name, row in printed.items()), {})
        lines.append(
            Line(
                labels={"Strategy": label, "Paper's row": "; ".join(printed.values()) or MISSING},
                measured=measured,
                seeds=seeds,
                costs={
                    "Trained parameters": round(means["trainable_parameters"]),
                    "Training (s)": means["training_seconds"],
                    "Targets a second": means["targets_per_second"],
                },
                paper=published,
            )
        )
        mean, error = measured["ndcg@10"]
        points.append((strategy, means["training_seconds"], mean, error, seeds))
    drawn = pd.DataFrame(points, columns=["series", "cost", "mean", "stderr", "seeds"])
    name = f"table3{source.suffix}"
    return Exhibit(
        name=name,
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
        ),
        commands=source.made_by("training_strategy"),
        tables=(
            frame_table(
                name,
                f"NDCG@10 against training time{of}, {source.section.title}",
                drawn,
                {"cost": "seconds of training", "mean": "NDCG@10"},
            ),
            side_by_side(
                f"table3_strategies{source.suffix}",
                f"Training strategies{of}, {source.section.title}",
                lines,
                source.section,
            ),
        ),
        figure=drawing(
            cost_figure, drawn, STRATEGY_LOOKS, source.section.title, "Training time in s (left is better)"
        ),
        alt=f"Scatter plot of NDCG@10 against seconds of training. {_against_frozen(drawn)}",
    )


def backbone_exhibits(source: Source, records: Sequence[Record]) -> list[Shown]:
    """Return Table 11: accuracy and cost by LLM and vision encoder.

    Args:
        source: The section.
        records: All cells of the store: other LLMs are sections of their own.
    """
    own = [record for record in records if _of_data(record, source.section.fingerprint)]
    used = [record for record in own if "bench.backbones" in record.command]

    def exhibit(place: Source, rows: pd.DataFrame, of: str) -> Shown:
        return _backbones(place, rows, of, commands(used or own))

    return each_method(source, backbones.frame(own, source.store), exhibit)


def _backbones(source: Source, frame: pd.DataFrame, of: str, made_by: tuple[str, ...]) -> Shown:
    title = f"Table 11. LLMs and vision encoders{of}"
    if len(frame[["llm", "vision"]].drop_duplicates()) < 2:
        return source.gap(title, "no accuracy cells of several LLMs or vision encoders", "backbones")
    lines, points = [], []
    for (llm, vision), rows in frame.groupby(["llm", "vision"], sort=False):
        measured, seeds = seed_means(rows)
        costs = rows.drop_duplicates("seed").iloc[-1]
        lines.append(
            Line(
                labels={"LLM": short_name(llm), "Vision encoder": short_name(vision)},
                measured=measured,
                seeds=seeds,
                costs={
                    "LLM parameters": int(costs["llm_parameters"]),
                    "Training (s)": rows["training_seconds"].astype(float).mean(),
                    "Latency of one user (ms)": costs["latency_ms_median"],
                    "Peak memory (MB)": costs["peak_memory_mb"],
                },
            )
        )
        mean, error = measured["ndcg@10"]
        points.append(
            (f"{short_name(llm)}, {short_name(vision)}", costs["latency_ms_median"], mean, error, seeds)
        )
    drawn = pd.DataFrame(points, columns=["series", "cost", "mean", "stderr", "seeds"])
    if not of:
        lines += [
            Line(labels={"LLM": f"Paper: {llm}", "Vision encoder": vision}, paper=values)
            for (llm, vision), values in published_lines("table11", ("llm", "vision")).items()
        ]
    best = drawn.sort_values("mean", ascending=False).to_dict("records")
    name = f"table11{source.suffix}"
    looks = method_styles(drawn["series"])
    reading = "NDCG@10 among sampled candidates: " + ", ".join(
        f"{row['series']} {row['mean']:.4f} at {row['cost']:.1f} ms a user" for row in best
    )
    return Exhibit(
        name=name,
        title=title,
        reading=f"{reading}.",
        paper=(
            "The larger Vicuna is better than LLaMA with either encoder, and SigLIP better than CLIP with either LLM:"
            " stronger backbones help (Appendix E.12)."
        ),
        notes=session_notes(frame["session"]),
        commands=made_by,
        tables=(
            frame_table(
                name,
                f"NDCG@10 against latency{of}, {source.section.label}",
                drawn,
                {"series": "LLM, vision encoder", "cost": "latency of one user (ms)", "mean": "NDCG@10"},
            ),
            side_by_side(
                f"table11_backbones{source.suffix}",
                f"LLMs and vision encoders{of}, {source.section.label}",
                lines,
                source.section,
            ),
        ),
        figure=drawing(
            cost_figure,
            drawn,
            looks,
            source.section.label,
            "Median latency of one user in ms (left is better)",
        ),
        alt=f"Scatter plot of NDCG@10 against latency. {reading}.",
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


def _of_data(record: Record, fingerprint: str) -> bool:
    dataset = record.config.get("dataset") or {}
    return ((dataset.get("variant") or {}).get("of") or dataset.get("fingerprint")) == fingerprint
