"""Figures 1(c), 8 and 9 of the paper, and accuracy by the overlap knob of toyshop; no torch here."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import (
    CANDIDATES,
    METHOD_OPTIONS,
    METRIC_COLUMNS,
    comparable,
    identity,
    latest,
    llm_cells,
    scores_in_full,
    stored_metrics,
)
from bench.frames.variants import of_dataset
from bench.store.cell import Record
from bench.store.store import Store

EXPERIMENT = "overlap"

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="Figures 1(c), 8, 9, Table 5",
    question="how far pictures say what descriptions say, and what that is worth",
    place=130,
    arguments={"smoke": ("--overlaps", "0,1", "--methods", "illmrec,tallrec")},
)

SCORES = ("matched_score", "shuffled_score")
"""SigLIP's sigmoid scores of an item's own pair and of that with another of its category."""

_COSINES = (
    "items", "matched", "stderr_matched", "shuffled", "stderr_shuffled", "matched_above_shuffled", "same_category",
    "shuffled_any", "stderr_shuffled_any",
)  # fmt: skip
_SIGLIP = (*SCORES, "median_matched_score")

COLUMNS = (
    "dataset", "fingerprint", "overlap", "encoder", "measured_by", "seed", *_COSINES, *_SIGLIP,
)  # fmt: skip

ACCURACY_COLUMNS = (
    "dataset", "llm", "overlap", "method", "seed", "candidates", "users", "prompt_tokens", *METRIC_COLUMNS,
)  # fmt: skip


def cells(records: Sequence[Record]) -> list[Record]:
    """Return the cells of cosines whose other descriptions are of the same category; older ones took those of any.

    Args:
        records: Cells, of any experiment.
    """
    return [record for record in latest(records, EXPERIMENT) if "same_category" in record.results]


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per data set, encoder and seed: cosines of items' pictures and descriptions.

    Args:
        records: Cells, of any experiment; those of the overlap are picked.
        store: The store that holds them; the cosines of each item are in the frame ``similarities`` of each cell.

    Returns:
        ``COLUMNS``: matched is the mean cosine of an item's picture and description, shuffled that with the description
        of another item of its category, and matched_above_shuffled the share of items whose own description is the
        closer one. same_category counts the items whose category has another; those of the others are of any category.
        shuffled_any is the mean with another item of any category for all. Rows with different measured_by do not
        compare. matched_score and shuffled_score are the means of SigLIP's sigmoid scores, median_matched_score the
        median of the first; other encoders have none. overlap is toyshop's knob, missing for other data.
    """
    rows = [
        {
            "dataset": record.config["dataset"]["name"],
            "fingerprint": record.config["dataset"]["fingerprint"],
            "overlap": record.config["overlap"],
            "encoder": record.method,
            "measured_by": record.config["measured_by"],
            "seed": record.seed,
            **{name: record.results[name] for name in _COSINES},
            **{name: record.results.get(name) for name in _SIGLIP},
        }
        for record in cells(records)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(("overlap", *_SIGLIP), float))
    order = ["dataset", "encoder", "measured_by", "seed", "overlap"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def accuracy_frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, overlap of pictures and descriptions, seed and kind of candidates.

    Args:
        records: Cells, of any experiment; accuracy cells of LLM methods on toyshops whose cosines were measured are
            picked.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``ACCURACY_COLUMNS``: dataset names the toyshop without its overlap, which is a column.
    """
    knobs = {
        record.config["dataset"]["fingerprint"]: (record.config["overlap"], record.config["family"])
        for record in latest(records, EXPERIMENT)
        if record.config["overlap"] is not None
    }
    overlap, members = {}, []
    for record in llm_cells(records):
        fingerprint = record.config["dataset"]["fingerprint"]
        if fingerprint in knobs and scores_in_full(record):
            overlap[record.key], family = knobs[fingerprint]
            members.append(
                of_dataset(record, name=family["name"], fingerprint=json.dumps(family, sort_keys=True))
            )
    rows = []
    for record in comparable(members, ignored=METHOD_OPTIONS, point=lambda record: overlap[record.key]):
        who = identity(record)
        labels = {
            "dataset": who["dataset"],
            "llm": who["llm"],
            "overlap": overlap[record.key],
            "method": record.method,
            "seed": record.seed,
            "users": record.results["users"],
            "prompt_tokens": record.results["prompt"]["tokens"],
        }
        rows += [
            {**labels, "candidates": kind, **stored_metrics(record.results[kind])} for kind in CANDIDATES
        ]
    table = pd.DataFrame(rows, columns=list(ACCURACY_COLUMNS))
    order = ["dataset", "llm", "method", "seed", "candidates", "overlap"]
    return table.sort_values(order, kind="stable", ignore_index=True)
