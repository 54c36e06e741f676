"""Trials of a hyper-parameter search, the best so far, and what each parameter was worth; no torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment

EXPERIMENT = "tune"
VERSION = 1

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="",
    question="which hyper-parameters suit each method, searched with equal budgets on validation",
    place=160,
    arguments={"smoke": ("--methods", "illmrec,sasrec"), "small": ("--trials", "6", "--minutes", "4")},
)

COLUMNS = ("dataset", "method", "trial", "state", "seconds", "valid_ndcg@10", "best_so_far")
"""Before one column for each parameter."""


def trials_frame(dataset: str, method: str, trials: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return one row a trial, ``COLUMNS`` and a column for each parameter.

    Args:
        dataset: Name of the data set.
        method: Name of the method.
        trials: Per trial ``number``, ``state``, ``seconds``, ``value`` (validation NDCG@10; of a pruned trial, what it
            had come to) and ``parameters``, in the order of their numbers.
    """
    rows, best = [], float("nan")
    for trial in trials:
        value = trial["value"]
        # A pruned trial was stopped since others were ahead: it is never the best.
        if trial["state"] == "complete" and value is not None and not value <= best:
            best = float(value)
        rows.append(
            {
                "dataset": dataset,
                "method": method,
                "trial": trial["number"],
                "state": trial["state"],
                "seconds": trial["seconds"],
                "valid_ndcg@10": value,
                "best_so_far": best,
                **trial["parameters"],
            }
        )
    parameters = list(dict.fromkeys(name for trial in trials for name in trial["parameters"]))
    return pd.DataFrame(rows, columns=[*COLUMNS, *parameters])
