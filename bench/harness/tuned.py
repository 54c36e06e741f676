"""Chosen parameters of methods, kept with the study that chose them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.other_studies import nearest_study
from illmrec import checksums
from illmrec.errors import DamagedError, InputError
from illmrec.files import hash_json


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a study chose.

    Attributes:
        study: 16 hexadecimal digits over what was searched and on what.
        method: The method.
        parameters: The parameters of its best trial.
        valid_ndcg10: What that trial reached.
        default_ndcg10: What the parameters that a method has otherwise reach, the study's first trial.
        trials: Trials that were finished or pruned.
        seconds: What they took together.
    """

    study: str
    method: str
    parameters: Mapping[str, Any]
    valid_ndcg10: float
    default_ndcg10: float | None
    trials: int
    seconds: float

    def _check(self) -> None:
        """Raise a TypeError where a value is of another type than is written."""
        numbers = (
            self.seconds,
            self.valid_ndcg10,
            *(() if self.default_ndcg10 is None else (self.default_ndcg10,)),
        )
        sound = isinstance(self.parameters, dict) and type(self.trials) is int
        sound = sound and isinstance(self.study, str) and isinstance(self.method, str)
        if not sound or not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
            raise TypeError("a value is of the wrong type")

    def write(self, out: Path) -> None:
        """Keep it for ``--tuned``."""
        checksums.write_json(_path(out, self.study), {**self.__dict__, "parameters": dict(self.parameters)})

    @classmethod
    def read(cls, out: Path, identity: Mapping[str, Any]) -> Tuned:
        """Return what the study with this identity chose.

        Args:
            out: The output folder of the run.
            identity: What is searched, and on what.

        Raises:
            InputError: If there is no such study, or its file is damaged.
        """
        path = _path(out, study_key(identity))
        method = identity["method"]
        if not path.is_file():
            raise InputError(f"--tuned: {_missing(out, identity, method)}")
        found = checksums.read_json(path, remedy="run python -m bench.tune again")
        try:
            chosen = cls(**found)
            chosen._check()
            return chosen
        except (ValueError, TypeError) as error:
            raise DamagedError(f"{path}: damaged ({error}); run python -m bench.tune again") from error


def study_key(identity: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that identify a study."""
    return hash_json(dict(identity))


def _missing(out: Path, identity: Mapping[str, Any], method: str) -> str:
    """Say that there is no such study, and in which options a stored one differs."""
    command = f"python -m bench.tune --methods {method}"
    near = nearest_study(out, identity)
    if near is None:
        return f"no study of {method} on these data and with this LLM in {out}; run {command} with the same options"
    theirs, ours = (
        " ".join(f"--{name.replace('_', '-')} {value}" for name, value in each.items()) for each in near
    )
    which = "that" if len(near[0]) == 1 else "these"
    return (
        f"a study of {method} is stored with {theirs}; give {which} here, or run {command} {ours} with the other "
        "options the same"
    )


def _path(out: Path, study: str) -> Path:
    return out / "store" / "tuned" / f"{study}.json"
