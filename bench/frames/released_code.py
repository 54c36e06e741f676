"""From the paper's settings to those of the authors' released code, one switch after another; no torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd

from bench.frames.selection import (
    CANDIDATES,
    IDENTITY,
    METRIC_COLUMNS,
    by_method,
    comparable,
    identity,
    stored_metrics,
    without_options,
)
from bench.frames.variants import variant_cells
from bench.protocol.metrics import by_user
from bench.protocol.statistics import holm, paired_interval
from bench.store.cell import Record
from bench.store.store import Store

KIND = "released-code"

PAPER_ROW = "paper"
WALK: dict[str, dict[str, Any]] = {
    PAPER_ROW: {},
    "learning-rate": {"learning_rate": 5e-5},
    "schedule": {"schedule": "linear", "clip": 1.0},
    "batch-size": {"batch_size": 8},
    "epochs": {"epochs": 8, "validation_users": 0},
    "mean-loss": {"reduction": "mean"},
    "negatives": {"negatives_from": "catalogue"},
    "word-embeddings": {"strategy": "embeddings"},
    "adaptor": {"adaptor": "norm-gelu"},
    "projectors": {"projector": "norm-inside", "hidden": 1024, "shared": 512},
    "affinity": {"affinity": "dot"},
    "inputs": {"inputs": "raw"},
    "windows": {"windows": "short"},
}
"""Per row what it switches, under the names of the settings; each row has what those above it switch as well. The last
one has the settings of the preset ``released-code``."""

SWITCHES = tuple(dict.fromkeys(name for switched in WALK.values() for name in switched))
_SWITCHED = (*SWITCHES, "patience")  # which only a constant learning rate has

COLUMNS = (
    *IDENTITY, "method", "row", "switched", "seed", "candidates", "users", "trainable_parameters", "training_seconds",
    "targets", *METRIC_COLUMNS,
)  # fmt: skip


def switched_up_to(row: str) -> dict[str, Any]:
    """Return what a row of the walk and those before it switch."""
    changes: dict[str, Any] = {}
    for name, switched in WALK.items():
        changes |= switched
        if name == row:
            return changes
    raise ValueError(f"{row} is no row of the walk")


def described(row: str) -> str:
    """Return what a row switches, as text: ``learning_rate 5e-05``."""
    return ", ".join(f"{name} {value}" for name, value in WALK[row].items())


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, row of the walk, seed and kind of candidates.

    Args:
        records: Cells of any experiment; those of the walk are picked, of several walks with other options the newest.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``, in the order of the walk, sampled candidates first.
    """
    found = [
        {
            **identity(record),
            "method": record.method,
            "row": row,
            "switched": described(row),
            "seed": record.seed,
            "candidates": candidates,
            "users": record.results["users"],
            "trainable_parameters": record.results["training"]["parameters"],
            "training_seconds": record.results["training"]["seconds"],
            "targets": record.results["training"]["targets"],
            **stored_metrics(record.results[candidates]),
        }
        for row, record in cells(records)
        for candidates in CANDIDATES
    ]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    place = table["row"].map({name: number for number, name in enumerate(WALK)})
    order = [*IDENTITY, "method", "place", "seed"]
    return (
        table.assign(place=place)
        .sort_values([*order, "candidates"], ascending=[*[True] * len(order), False], ignore_index=True)
        .drop(columns="place")
    )


def cells(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """Return the cells of the newest walk on each data set and LLM, of each method, with their rows."""
    walked = {
        key: (record, variant["row"])
        for key, (record, variant) in variant_cells(records, KIND).items()
        if variant["row"] in WALK
    }
    found: list[tuple[str, Record]] = []
    for own in by_method(without_options(record, _SWITCHED) for record, _ in walked.values()).values():
        found += [
            (walked[record.key][1], walked[record.key][0])
            for record in comparable(own, ignored=SWITCHES, point=lambda record: walked[record.key][1])
        ]
    return found


def significance(rows: Mapping[str, Sequence[Record]], store: Store) -> dict[tuple[str, str], float]:
    """Return the p value of each row of a walk against the one before, by row and kind of candidates.

    Args:
        rows: Cells of one method by row, one per seed.
        store: The store that holds their ranks.

    Returns:
        Two-sided p of the difference of NDCG@10 over the seeds and users that both have, of each kind of candidates
        adjusted for the number of rows (Holm).
    """
    ordered = [name for name in WALK if name in rows]
    found: dict[tuple[str, str], float] = {}
    for candidates in CANDIDATES:
        values = {
            name: pd.concat(
                {r.seed: by_user(store.read_frame(r, "ranks"), candidates) for r in rows[name]},
                names=["seed"],
            )
            for name in ordered
        }
        p_values = {}
        for before, name in pairwise(ordered):
            pair = {"first": values[before], "second": values[name]}
            both = pd.concat(pair, axis="columns", join="inner")
            if not both.empty:
                p_values[name] = paired_interval(both).p_value
        adjusted = zip(p_values, holm(list(p_values.values())), strict=True)
        found |= {(name, candidates): p for name, p in adjusted}
    return found
