"""The table of the retrieval experiment from its stored records; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.frames.experiment import Experiment
from bench.store.cell import Record

EXPERIMENT = "retrieval"
VERSION = 1

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="",
    question="exact search against FAISS indexes on a large generated catalogue",
    place=230,
    arguments={
        "smoke": ("--preset", "smoke"),
        "small": ("--items", "100000", "--queries", "300"),
    },
    settings=False,
)

EFFORTS: dict[str, tuple[int | None, ...]] = {
    "exact": (None,),
    "flat": (None,),
    "hnsw": (32, 128, 512),
    "ivfpq": (8, 32, 128),
}
"""Kinds of index, and points on the curve of recall against speed; one index serves all of its kind."""

COLUMNS = (
    "kind", "effort", "items", "width", "queries", "k", "recall", "queries_per_second", "latency_ms_median",
    "latency_ms_p95", "build_seconds", "index_mb", "search_memory_mb",
)  # fmt: skip


def retrieval_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each kind of index and effort, ``COLUMNS``, in the order of ``EFFORTS``.

    Args:
        records: Cells on one catalogue: recall is the share of each user's exact top k that was found.
    """
    table = pd.DataFrame([record.results for record in records], columns=list(COLUMNS))
    order = [(list(EFFORTS).index(record.method), record.config["effort"] or 0) for record in records]
    places = sorted(range(len(records)), key=order.__getitem__)
    return table.iloc[np.asarray(places, dtype=np.intp)].reset_index(drop=True)
