"""Validation accuracy against the time, targets and FLOPs of training; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import IDENTITY, identity, latest
from bench.store.cell import Record
from bench.store.store import Store

EXPERIMENT = "time_to_accuracy"
VERSION = 3

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="",
    question="how soon each way of training reaches which accuracy",
    place=150,
    arguments={"smoke": ("--methods", "illmrec"), "small": ("--seconds", "120")},
)

CURVE = ("seconds", "targets", "gflops", "valid_ndcg@10")
"""Columns of a cell's frame ``curve``: what had been spent when validation was looked at."""

COLUMNS = (*IDENTITY, "method", "strategy", "seed", *CURVE, "session")

LEVELS = (
    *IDENTITY, "method", "level", "seed", "strategy", "seconds", "against", "against_seconds", "speedup", "one_session",
)  # fmt: skip


def curves(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return every point of every training, ``COLUMNS``, trainings in the order in which they were stored."""
    parts = [
        store.read_frame(record, "curve").assign(
            **identity(record),
            method=record.method,
            strategy=record.config["strategy"],
            seed=record.seed,
            session=record.results["session"],
        )
        for record in sorted(latest(records, EXPERIMENT), key=lambda record: record.created)
    ]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def levels(table: pd.DataFrame, *, against: str = "frozen") -> pd.DataFrame:
    """Return how long each strategy takes to the best accuracy that one of them has, and to shares of it.

    Args:
        table: What :func:`curves` returned.
        against: The strategy whose best validation NDCG@10 sets the levels.

    Returns:
        ``LEVELS``: for each method, seed and level (90, 95 and 100 % of the best of ``against``) the seconds after
        which a strategy first has it, missing where it never has, and how many times as long ``against`` takes.
        ``one_session`` says whether one run has timed both.
    """
    rows = []
    keys = [*IDENTITY, "method", "seed"]
    for place, part in table.groupby(keys, sort=False, dropna=False):
        reference = part[part["strategy"] == against]
        if reference.empty:
            continue
        for share in (0.9, 0.95, 1.0):
            level = share * float(reference["valid_ndcg@10"].max())
            needed = first_reached(reference, level)
            for strategy, curve in part.groupby("strategy", sort=False):
                if strategy == against:
                    continue
                seconds = first_reached(curve, level)
                rows.append(
                    {
                        **dict(zip(keys, place, strict=True)),
                        "level": level,
                        "strategy": strategy,
                        "seconds": seconds,
                        "against": against,
                        "against_seconds": needed,
                        "speedup": None if seconds is None or needed is None else needed / seconds,
                        "one_session": set(curve["session"]) == set(reference["session"]),
                    }
                )
    return pd.DataFrame(rows, columns=list(LEVELS))


def first_reached(curve: pd.DataFrame, level: float) -> float | None:
    """Return the seconds after which a curve first has a level, or ``None``."""
    reached = curve.loc[curve["valid_ndcg@10"] >= level, "seconds"]
    return None if reached.empty else float(reached.min())
