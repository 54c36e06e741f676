"""The trials of a search: which count, how long they took, and which are of processes that live or have died."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from bench.harness.study_storage import import_optuna
from illmrec.temporary import place, process_start

OWNER = "process"
"""Attribute of a trial that names the process that makes it: machine, number and start."""


def importances(study: Any) -> dict[str, float]:
    """Return how much each parameter mattered for being among the best trials (PED-ANOVA), most first; {} with few."""
    optuna = import_optuna()
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(complete) < 4 or len({trial.value for trial in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        # Older releases call it experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def described_trials(study: Any) -> list[dict[str, Any]]:
    """Return the trials of a study for :func:`~bench.frames.tune.trials_frame`, numbered without those cut off."""
    found = []
    for number, trial in enumerate(judged(study)):
        reported = list(trial.intermediate_values.values())
        value = trial.value if trial.state.name == "COMPLETE" else max(reported, default=None)
        found.append(
            {
                "number": number,
                "state": trial.state.name.lower(),
                "seconds": spent_seconds([trial]),
                "value": value,
                "parameters": dict(trial.params),
            }
        )
    return found


def judged(study: Any) -> list[Any]:
    """Return the trials that were finished, or stopped early; one that was cut off is none."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def at_work(study: Any) -> list[Any]:
    """Return the trials that other processes are at: alive on this machine, or on another."""
    running = [trial for trial in study.trials if trial.state.name == "RUNNING" and OWNER in trial.user_attrs]
    return [trial for trial in running if not _is_dead(trial.user_attrs[OWNER])]


def end_abandoned(study: Any) -> None:
    """End the trials of processes that have died, which would stand for trials under way for ever."""
    states = import_optuna().trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        if _is_dead(trial.user_attrs.get(OWNER, ())):
            study.tell(trial.number, state=states.FAIL)


def _is_dead(owner: Sequence[Any]) -> bool:
    return len(owner) == 3 and owner[0] == place() and process_start(int(owner[1])) != owner[2]


def spent_seconds(trials: Sequence[Any]) -> float:
    """Return how long trials took together."""
    return sum(trial.duration.total_seconds() for trial in trials if trial.duration is not None)
