"""Appendix E.13 of the paper: a model trained on a smaller catalogue serving a larger one; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import CANDIDATES, IDENTITY, METRIC_COLUMNS, identity, latest, rank_metrics
from bench.store.cell import Record
from bench.store.store import Store

EXPERIMENT = "catalogue_growth"
VERSION = 2

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="Appendix E.13",
    question="a model trained on a smaller catalogue serving a larger one",
    place=180,
    # Of a smaller share, fewer than 100 candidates would be left.
    arguments={"smoke": ("--shares", "0.9,1")},
)

KIND = "smaller-catalogue"
"""Kind of the variant in the accuracy cells of models that a smaller catalogue was trained on."""

TARGETS = ("all", "old", "new")

COSTS = (
    "users_per_second", "peak_memory_mb", "index_seconds", "feature_bytes_per_item", "projected_bytes_per_item",
    "model_bytes",
)  # fmt: skip

COLUMNS = (
    *IDENTITY, "method", "features", "seed", "trained_share", "trained_items", "served_share", "served_items",
    "candidates", "targets", "users", *METRIC_COLUMNS, *COSTS,
)  # fmt: skip


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, feature set, seed, pair of catalogues, kind of candidates and kind of target.

    Args:
        records: Cells, of any experiment; those of this experiment's latest version are picked, of several for the
            same place (other training, other machine) the newest.
        store: The store that holds their ranks.

    Returns:
        ``COLUMNS``: features are joined by +; a model trained on trained_share of the items serves served_share of
        them, and where both are equal it is one trained for that catalogue. targets is all, or old or new: whether
        the users' test item was in the catalogue of the training; a kind without users has no row. users_per_second
        goes from item ids to scores of the catalogue; peak_memory_mb is what the model takes by itself: LLM,
        features and heads, and what scoring adds; index_seconds is the time to project the catalogue; bytes an item
        are those of its features and of its projections; model_bytes those of the trained parameters.
    """
    newest: dict[tuple[Any, ...], Record] = {}
    for record in sorted(latest(records, EXPERIMENT), key=lambda record: record.created):
        config = record.config
        place = (*identity(record).values(), record.method, *config["features"], record.seed)
        newest[(*place, config["trained"]["share"], config["served"]["share"])] = record
    rows: list[dict[str, Any]] = []
    for record in newest.values():
        ranks = store.read_frame(record, "ranks")
        new = ranks["target_is_new"].to_numpy(dtype=bool)
        groups = {"all": np.ones(len(ranks), dtype=bool), "old": ~new, "new": new}
        labels = {
            **identity(record),
            "method": record.method,
            "features": "+".join(record.config["features"]),
            "seed": record.seed,
            **{
                f"{role}_{what}": record.config[role][what]
                for role in ("trained", "served")
                for what in ("share", "items")
            },
            **{name: record.results[name] for name in COSTS},
        }
        for candidates in CANDIDATES:
            for targets in TARGETS:
                users = ranks[groups[targets]]
                if len(users):
                    accuracy = rank_metrics(users, candidates)
                    kind = {
                        "candidates": candidates,
                        "targets": targets,
                        "users": users["user_id"].nunique(),
                    }
                    rows.append({**labels, **kind, **accuracy})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = [*IDENTITY, "method", "features", "seed", "served_share", "trained_share", "candidates"]
    return table.sort_values(order, kind="stable", ignore_index=True)
