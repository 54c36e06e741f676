"""Small figures of one cell, from the raw values that are stored beside its results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.store.cell import Record
from bench.store.store import Store

_DEEPEST = 100


def figures(record: Record, store: Store) -> dict[str, Figure]:
    """Return the figures of a result by name; none where its raw values are of no kind that is drawn here."""
    found: dict[str, Figure] = {}
    for name, draw in DRAWN.items():
        if (record.folder / f"{name}.parquet").is_file():
            figure = draw(store.read_frame(record, name))
            if figure is not None:
                found[name] = figure
    return found


def hits(ranks: pd.DataFrame) -> Figure | None:
    """Draw Hit@k against k, the share of targets whose rank is at most k, for each kind of candidates."""
    kinds = [name for name in ("rank_sampled", "rank_full") if name in ranks]
    if not kinds or ranks.empty:
        return None
    figure, axes = _axes("k", "Hit@k")
    depths = np.arange(1, _DEEPEST + 1)
    for kind in kinds:
        ordered = np.sort(ranks[kind].to_numpy())
        shares = np.searchsorted(ordered, depths, side="right") / len(ordered)
        axes.plot(depths, shares, label=kind.removeprefix("rank_"))
    axes.set(xscale="log", ylim=(0, 1))
    axes.legend(title="candidates")
    return figure


def spread(timings: pd.DataFrame) -> Figure | None:
    """Draw the share of runs that took at most so long."""
    if "seconds" not in timings or timings.empty:
        return None
    figure, axes = _axes("seconds", "share of runs")
    seconds = np.sort(timings["seconds"].to_numpy())
    axes.step(seconds, np.arange(1, len(seconds) + 1) / len(seconds), where="post")
    axes.set(xlim=(0, None), ylim=(0, 1))
    return figure


DRAWN: dict[str, Callable[[pd.DataFrame], Figure | None]] = {"ranks": hits, "timings": spread}
"""What is drawn of which frame."""


def _axes(across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    return figure, axes
