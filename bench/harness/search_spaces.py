"""What is searched for each method: its parameters, their ranges, and how they enter a method's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from bench.harness.methods import (
    CONTROLS,
    GENERATIVE,
    MULTIMODAL,
    RECBOLE,
    TEXTUAL_IDS,
    TOKEN_SCORED,
    is_reri_method,
)
from illmrec.model.readout import reads_llm
from illmrec.training import CachedOptions, TrainingOptions

Value = float | int | str | bool


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number between two ends.

    Attributes:
        name: The parameter.
        low: Smallest value.
        high: Largest value.
        log: Whether its logarithm is drawn uniformly.
    """

    name: str
    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Trial) -> Value:
        """Return a value for a trial."""
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def described(self) -> str:
        """Return the range for readers."""
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else ''}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some values.

    Attributes:
        name: The parameter.
        values: What there is to choose from.
    """

    name: str
    values: tuple[Value, ...]

    def suggest(self, trial: Trial) -> Value:
        """Return a value for a trial."""
        chosen: Value = trial.suggest_categorical(self.name, self.values)
        return chosen

    def described(self) -> str:
        """Return the choice for readers."""
        return ", ".join(map(str, self.values))


class Trial(Protocol):
    """What a space needs of an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number in a range."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return one of some values."""


Space = tuple[Range | Choice, ...]

LLM_SPACE: Space = (
    Range(name="learning_rate", low=3e-4, high=3e-3, log=True),
    Range(name="weight_decay", low=1e-3, high=0.3, log=True),
    Range(name="dropout", low=0.0, high=0.5),
    Range(name="temperature", low=0.3, high=2.0, log=True),
    Choice(name="hidden", values=(256, 512, 1024)),
    Choice(name="depth", values=(1, 2)),
    Choice(name="loss", values=("ce", "bce")),
    Choice(name="together", values=(True, False)),
    Choice(name="readout", values=("last", "last+mean")),
    Choice(name="history_length", values=(10, 20)),
    Choice(name="warm_up", values=(0, 4096)),
)
"""LLM methods, on stored states: projectors, their loss and optimiser, what is read, joint training before."""

RECBOLE_SPACE: Space = (
    Range(name="learning_rate", low=3e-4, high=3e-3, log=True),
    Range(name="dropout", low=0.0, high=0.5),
    Choice(name="hidden_size", values=(32, 64, 128)),
    Choice(name="layers", values=(1, 2, 3)),
    Choice(name="max_length", values=(20, 50)),
    Choice(name="loss", values=("ce", "bce")),
)
"""Sequential models; what a method is defined by is not searched."""

OWN_SPACES: dict[str, Space] = {
    "bert4rec": (Choice(name="mask_ratio", values=(0.1, 0.2, 0.4, 0.6)),),
    "esasrec": (Choice(name="negatives", values=(128, 256, 1024)),),
}
"""What some sequential models have beside it."""

MULTIMODAL_SPACES: dict[str, Space] = {
    "vbpr": (
        Range(name="learning_rate", low=3e-4, high=3e-2, log=True),
        Range(name="regularisation", low=1e-4, high=0.3, log=True),
        Choice(name="factors", values=(8, 16, 32, 64)),
        Choice(name="visual_factors", values=(8, 16, 32, 64)),
        Choice(name="batch_size", values=(128, 512, 2048)),
    ),
    "bm3": (
        Range(name="learning_rate", low=3e-4, high=1e-2, log=True),
        Range(name="regularisation", low=1e-3, high=1.0, log=True),
        Range(name="dropout", low=0.0, high=0.6),
        Range(name="alignment", low=0.1, high=10.0, log=True),
        Choice(name="width", values=(32, 64, 128)),
        Choice(name="layers", values=(1, 2)),
    ),
    "tiger": (
        Range(name="learning_rate", low=3e-4, high=3e-3, log=True),
        Range(name="dropout", low=0.0, high=0.5),
        Choice(name="width", values=(64, 128)),
        Choice(name="layers", values=(2, 4)),
        Choice(name="max_length", values=(10, 20)),
    ),
}
"""Collaborative models that see items' content."""

GENERATIVE_SPACES: dict[str, Space] = {
    "lc-rec": (
        Range(name="learning_rate", low=3e-4, high=1e-2, log=True),
        Choice(name="semantics", values=("text", "image", "image+text")),
        Choice(name="codebook", values=(32, 64, 128, 256)),
        Choice(name="tied", values=(True, False)),
        Choice(name="alignments", values=("title-to-codes+codes-to-title+next-title", "next-title", "none")),
        Range(name="alignment_weight", low=0.01, high=1.0, log=True),
        Choice(name="history_length", values=(10, 20)),
    ),
    "idgenrec": (
        Range(name="llm_learning_rate", low=3e-6, high=3e-3, log=True),
        Choice(name="words", values=(2, 4, 6)),
        Choice(name="history_length", values=(10, 20)),
    ),
}
"""Methods that write the next item in codes, and in words."""

FLOOR_SPACES: dict[str, Space] = {
    "item-knn": (
        Choice(name="neighbours", values=(20, 50, 100, 200, 500)),
        Range(name="shrinkage", low=0.1, high=100.0, log=True),
        Choice(name="window", values=(1, 2, 5, 10, 20, 50)),
    ),
    "sequential-rules": (
        Choice(name="distance", values=(1, 2, 5, 10, 20)),
        Choice(name="window", values=(1, 2, 5, 10, 20)),
    ),
    "content-knn": (
        Choice(name="window", values=(1, 2, 5, 10, 20)),
        Choice(name="centred", values=(True, False)),
    ),
    "recent-popularity": (Range(name="share", low=0.005, high=1.0, log=True),),
}
"""Floors that have anything to choose."""


SEARCH_VERSION = 3
"""Changes when a search would go another way."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched for a method.

    Attributes:
        space: Its parameters.
        defaults: The values that they have otherwise.
        identity: What a study is of: data, method, LLM, features and all other options, as JSON values.
    """

    space: Space
    defaults: Mapping[str, Value]
    identity: Mapping[str, Any]


def is_searched(method: str) -> bool:
    """Return whether a method has anything to search."""
    return is_reri_method(method) or method in (
        *RECBOLE,
        *MULTIMODAL,
        *GENERATIVE,
        *TEXTUAL_IDS,
        *FLOOR_SPACES,
    )


def tuned_as(method: str) -> str:
    """Return the method whose study says what a method is tuned to.

    A control of what fills a slot has the parameters of its method, so that nothing else differs between them.
    """
    control = CONTROLS.get(method)
    return control.of if control is not None and control.readout is None else method


def space_of(method: str) -> Space:
    """Return the search space of a method that has one."""
    if method in FLOOR_SPACES:
        return FLOOR_SPACES[method]
    if method in MULTIMODAL_SPACES:
        return MULTIMODAL_SPACES[method]
    if method in GENERATIVE_SPACES:
        return GENERATIVE_SPACES[method]
    control = CONTROLS.get(method)
    if control is not None and control.readout is not None:  # it is what the control is of
        fixed = {"readout"} if reads_llm(control.readout) else {"readout", "warm_up"}
        return tuple(part for part in LLM_SPACE if part.name not in fixed)
    if method in TOKEN_SCORED:  # one softmax is all that they have
        return tuple(part for part in LLM_SPACE if part.name not in ("loss", "together"))
    if is_reri_method(method):
        return LLM_SPACE
    fixed = set(RECBOLE[method]) | ({"max_length"} if method == "sasrec-short" else set())
    shared = (part for part in RECBOLE_SPACE if part.name not in fixed or part.name == "dropout")
    return (*shared, *OWN_SPACES.get(method, ()))


def widened(space: Space, known: Mapping[str, Any]) -> Space:
    """Return a space whose choices hold the values that a method has otherwise."""
    return tuple(
        replace(part, values=(*part.values, known[part.name]))
        if isinstance(part, Choice) and known[part.name] not in part.values
        else part
        for part in space
    )


def with_parameters(options: TrainingOptions, parameters: Mapping[str, Value]) -> TrainingOptions:
    """Return training options of stored states with those of the parameters that are about training.

    Args:
        options: Of strategy ``cached``.
        parameters: Of ``LLM_SPACE``; those that are about the model are left aside.
    """
    if not parameters or options.cached is None:
        return options
    own = {field.name for field in fields(CachedOptions)}
    changes: dict[str, Any] = {name: value for name, value in parameters.items() if name in own}
    loss: Any = parameters.get("loss", options.loss)
    return replace(
        options,
        loss=loss,
        negatives_from=options.negatives_from if loss == "bce" else "outside",
        cached=replace(options.cached, **changes),
    )
