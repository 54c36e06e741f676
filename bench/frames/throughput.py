"""The table of the throughput experiment from its stored records; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.frames.experiment import Experiment
from bench.store.cell import Record

EXPERIMENT = "throughput"
VERSION = 4

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="",
    question="the engine beside the strongest plain passes and the released code's manner",
    place=210,
)

TWO_PASS, SORTED, PADDING_FREE = "two-pass", "two-pass-sorted", "padding-free"
RELEASED_STYLE, LLAMA_CPP, ENGINE, COMPILED = "released-style", "llama.cpp", "engine", "engine-compiled"

PHASES: dict[str, tuple[str, ...]] = {
    "train-one": (TWO_PASS, SORTED, PADDING_FREE, RELEASED_STYLE, ENGINE, COMPILED),
    "train-all": (TWO_PASS, SORTED, PADDING_FREE, ENGINE, COMPILED),
    "inference": (TWO_PASS, SORTED, PADDING_FREE, RELEASED_STYLE, LLAMA_CPP, ENGINE, COMPILED),
}
"""The paths of each phase; the released code trains on one position of a user only, llama.cpp on none."""

PATHS = PHASES["inference"]

PEERS = (TWO_PASS, SORTED, PADDING_FREE, RELEASED_STYLE)
"""Paths that do the same work as the engine with the same weights, and have the same results."""

COLUMNS = (
    "path", "phase", "device", "dtype", "users", "tokens", "seconds_median", "samples_per_second",
    "tokens_per_second", "peak_memory_mb", "utilisation", "speedup_vs_two_pass", "speedup_vs_strongest",
)  # fmt: skip


def throughput_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each path and phase, ``COLUMNS``, in the order of phases and paths.

    ``speedup_vs_two_pass`` is NaN where the path was measured without ``two-pass`` beside it, ``speedup_vs_strongest``
    where it was without any of ``PEERS``, the fastest of which it compares with.
    """
    table = pd.DataFrame([record.results for record in records], columns=list(COLUMNS))
    table = table.astype({"speedup_vs_two_pass": float, "utilisation": float})
    peers = table[table["path"].isin(PEERS)].groupby("phase")["samples_per_second"].max()
    table["speedup_vs_strongest"] = table["samples_per_second"] / table["phase"].map(peers)
    order = {
        (phase, path): number
        for number, (phase, path) in enumerate((phase, path) for phase in PHASES for path in PATHS)
    }
    rows = [order[phase, path] for phase, path in zip(table["phase"], table["path"], strict=True)]
    return table.iloc[np.argsort(rows, kind="stable")].reset_index(drop=True)
