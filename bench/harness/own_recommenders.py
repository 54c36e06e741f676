"""A recommender of one's own, ``package.module:Name``: how it is recognised and made, what stands for it in a cell."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.protocol.evaluation import Scorer, ScoresError, UserScorer
from illmrec.assembly import import_named
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.errors import InputError

SCORER_PARTS = ("score", "score_users")
GIVEN = ("split", "dataset", "n_items", "seed")
"""What a class or a function that makes a recommender is called with, as far as it has such parameters."""


def is_own_recommender(name: str) -> bool:
    """Return whether a name is that of a class that scores the catalogue, or of a function that makes a recommender.

    A function counts as one where it has one of the parameters ``split``, ``dataset``, ``n_items`` and ``seed``: what
    makes a representation has none.

    Raises:
        InputError: If it is written as ``package.module:Name`` and there is no such module or name.
    """
    if ":" not in name:
        return False
    named = import_named(name)
    if any(hasattr(named, part) for part in SCORER_PARTS):
        return True
    return inspect.isfunction(named) and not parameters(named).keys().isdisjoint(GIVEN)


def check_own_recommender(name: str) -> None:
    """Refuse what cannot be made for a data set, before anything is computed.

    Raises:
        InputError: If it is an object that is made already, or has parameters without a default that are not given.
    """
    named = import_named(name)
    if not callable(named) or not (inspect.isclass(named) or inspect.isfunction(named)):
        raise InputError(
            f"--methods {name}: it is made already, for one data set; name its class, or a function that makes it"
        )
    if problem := missing_parameter(named):
        raise InputError(f"--methods {name}: {problem}")
    source_of(name)


def made(named: Callable[..., Any], *, split: Split, dataset: Dataset, seed: int) -> Any:
    """Call a class or function with those of ``GIVEN`` that it has as parameters."""
    known = {"split": split, "dataset": dataset, "n_items": dataset.n_items, "seed": seed}
    asked = parameters(named)
    return named(**{name: value for name, value in known.items() if name in asked})


def parameters(named: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a class or function; none where it has no signature."""
    try:
        return inspect.signature(named).parameters
    except ValueError:  # written in C
        return {}


def missing_parameter(named: Any) -> str:
    """Return what is wrong with the parameters of a class or function, nothing if all of them are known."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unknown = [
        name
        for name, parameter in parameters(named).items()
        if name not in GIVEN and parameter.default is parameter.empty and parameter.kind not in kinds
    ]
    if not unknown:
        return ""
    return (
        f"it cannot be made: {unknown[0]!r} is a parameter without a default, and only {', '.join(GIVEN)} are given; "
        "write a function of these that makes it"
    )


def source_of(name: str) -> str:
    """Return a hash of the file that a recommender is written in: its results are found again while that is the same.

    Raises:
        InputError: If there is no such file, or it cannot be read.
    """
    named = import_named(name)
    try:
        path = Path(inspect.getsourcefile(named) or "")
        return sha256(path.read_bytes()).hexdigest()[:16]
    except (TypeError, OSError) as error:
        raise InputError(
            f"--methods {name}: the file that it is written in cannot be read ({error}), and results are stored under "
            "what is in it"
        ) from error


def fitted_recommender(
    name: str, *, split: Split, dataset: Dataset, seed: int
) -> tuple[Scorer | UserScorer, dict[str, Any]]:
    """Return a recommender, made for the training part, and the seconds that it took.

    Raises:
        ScoresError: If it scores nothing.
    """
    began = time.perf_counter()
    recommender: Scorer | UserScorer = made(import_named(name), split=split, dataset=dataset, seed=seed)
    if not any(hasattr(recommender, part) for part in SCORER_PARTS):
        raise ScoresError(f"{name}: what it makes lacks score(histories), or score_users(users, histories)")
    return recommender, {"seconds": round(time.perf_counter() - began, 3)}
