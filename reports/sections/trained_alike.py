"""Whether methods that are trained by the same loops were trained alike, by the configurations of their cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.store.cell import Record

_OF_BOTH = (
    "epochs", "max_steps", "batch_size", "learning_rate", "schedule", "validation_users", "patience",
)  # fmt: skip
"""Options of joint training; training on stored states has most of them under the same names, with its own values."""
_OF_JOINT_STEPS = ("batch_size", "learning_rate", "schedule")
_LATER = {"joint": "frozen", "alternations": 0}
"""Options of stored states that came later: at these values they are left out of configurations."""
_NO_TRAINING = ("state_dtype", "projector_seed")
_NEVER_SEARCHED = ("strategy", "validation_users", "optimiser")
"""What no search chooses: it tells where a search, of both or of one, chose the rest."""


def trained_unlike(first: Record, second: Record) -> str:
    """Return in which options two methods that score alike were trained otherwise; nothing where in none.

    Of those that were each searched with one budget, what the searches chose may differ. Methods of other kinds have
    other options.
    """
    return ", ".join(unlike_options(first, second))


def unlike_options(first: Record, second: Record) -> dict[str, tuple[Any, Any]]:
    """Return the options in which two methods were trained otherwise, in words, with the value of either.

    Training on stored states counts by its own options: those of joint steps that it never took change nothing.
    """
    ours = [record.config for record in (first, second)]
    if not all("training" in config and "history_length" in config for config in ours):
        return {}
    tuned = ["tuned" if "tuned" in config else "not tuned" for config in ours]
    searched = "tuned" in tuned
    found: dict[str, tuple[Any, Any]] = {"one of them tuned": (tuned[0], tuned[1])}
    # Where the way of training is what an experiment varies, it may differ.
    if not any((config["dataset"].get("variant") or {}).get("strategy") for config in ours):
        left, right = (_options(config["training"]) for config in ours)
        if left["strategy"] == right["strategy"]:
            left, right = (
                options | _stored(config["training"])
                for options, config in zip((left, right), ours, strict=True)
            )
        names = _NEVER_SEARCHED if searched else {**left, **right}
        found |= {name: (left.get(name), right.get(name)) for name in names}
    if not searched:
        found["history_length"] = (ours[0]["history_length"], ours[1]["history_length"])
    return {name.replace("_", " "): values for name, values in found.items() if values[0] != values[1]}


def _options(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that every training has, however it is done."""
    cached = training.get("cached")
    own = training if cached is None else {"schedule": "by validation", **cached}
    return {
        "strategy": training.get("strategy") or "frozen",
        **{name: training.get(name) for name in ("targets", "loss")},
        **{name: own.get(name) for name in _OF_BOTH},
        "optimiser": "Adam" if cached is None else "AdamW",
        "weight_decay": 0 if cached is None else cached.get("weight_decay"),
    }


def _stored(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else describes a training on stored states; nothing of any other."""
    cached = training.get("cached")
    if cached is None:
        return {}
    own = {**_LATER, **{name: value for name, value in cached.items() if name not in _NO_TRAINING}}
    joint = _OF_JOINT_STEPS if own.get("warm_up") or own["alternations"] else ()
    return own | {f"{name}_of_joint_steps": training.get(name) for name in joint}
