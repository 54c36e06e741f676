"""A cell, one method with one set of options, data and seed, and the record of its result; no torch here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from illmrec.files import hash_json, parsed_json

_GENERATED = "toyshop"
"""How the names of generated data sets begin, which are part of their cells' keys."""
_MAY_BE_MODELS = ("llm", "encoder", "method", "summarizer")
_EXPERIMENT_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is to be computed. Two cells with equal experiment, version and config are the same cell.

    Attributes:
        experiment: Name of the experiment, also its folder in the store.
        version: Version of the experiment; it changes when the experiment's numbers would.
        config: The fully resolved configuration as JSON values: data set with its fingerprint, method,
            options and seed. Numpy scalars are turned into numbers; a path or an object is refused.
        method: Name of the method, equal to ``config["method"]``.
        seed: The seed, equal to ``config["seed"]``.
        dataset: Statistics of the data set (paper Table 4), for tables; not part of the key.
        label: How progress and errors name the cell; not part of the key.

    Raises:
        ValueError: If the experiment's name cannot be a folder, the config holds NaN or infinity, or method
            or seed contradict it: two different cells would share a key.
        TypeError: If the config is not JSON.
    """

    experiment: str
    version: int
    config: Mapping[str, Any]
    method: str
    seed: int
    dataset: Mapping[str, Any]
    label: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not _EXPERIMENT_NAME.fullmatch(self.experiment):
            raise ValueError(f"experiment '{self.experiment}' must be lower-case letters, digits, '_' or '-'")
        object.__setattr__(self, "config", plain_json(self.config))
        object.__setattr__(self, "dataset", plain_json(self.dataset))
        for name in ("method", "seed"):
            if self.config.get(name) != getattr(self, name):
                raise ValueError(f"'{name}' of the cell and of its config differ: both must be in the key")
        if not self.label:
            object.__setattr__(self, "label", f"{self.method} seed {self.seed}")

    @property
    def base_seed(self) -> int:
        """The seed of all but what the cell's own seed is limited to (``--seeds-of projectors``)."""
        return int(self.config.get("base_seed", self.seed))

    @cached_property
    def key(self) -> str:
        """Return the 16 hexadecimal digits that identify the cell."""
        return cell_key(self.experiment, self.version, self.config)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What computing a cell returns.

    Attributes:
        results: Numbers, flat or nested one level, as JSON values or numpy scalars.
        frames: Raw values to keep beside them, by name: ``{"ranks": frame}`` becomes ``ranks.parquet``.
    """

    results: Mapping[str, Any]
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A stored result: the fields of ``cell.json`` and the folder that holds it.

    Attributes:
        created: When it was written, ISO 8601 in UTC, to the microsecond: of two cells the newer is shown.
        seconds: How long it took to compute.
        command: The command that computed it.
        git_commit: Commit of the code, None outside a checkout.
        folder: The cell's folder, which also holds its parquet files.
    """

    experiment: str
    version: int
    key: str
    config: dict[str, Any]
    dataset: dict[str, Any]
    method: str
    seed: int
    results: dict[str, Any]
    created: str
    seconds: float
    command: str
    versions: dict[str, str]
    git_commit: str | None
    machine: dict[str, Any]
    folder: Path

    def to_json(self) -> str:
        """Return the text of ``cell.json``."""
        fields = asdict(self)
        del fields["folder"]
        return json.dumps(fields, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, folder: Path) -> Record:
        """Read the text of ``cell.json``.

        Raises:
            ValueError: If the text is not JSON, a field is missing or unknown or of a wrong type, or the key
                is not that of the config or of the folder.
        """
        fields = parsed_json(text)
        if not isinstance(fields, dict) or fields.keys() != _FIELD_TYPES.keys():
            raise ValueError("not the fields of a cell")
        for name, types in _FIELD_TYPES.items():
            if not isinstance(fields[name], types):
                raise ValueError(f"'{name}' has the wrong type")
        json.dumps(fields, allow_nan=False)  # NaN and infinity are never written: they are damage
        record = cls(**fields, folder=folder)
        parts = {"experiment": record.experiment, "version": record.version, "config": record.config}
        # Names were part of the keys of older cells, whose numbers stand.
        keys = (cell_key(record.experiment, record.version, record.config), hash_json(parts))
        if record.key != folder.name or record.key not in keys:
            raise ValueError("its key is not that of its config")
        return record


_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "experiment": (str,),
    "version": (int,),
    "key": (str,),
    "config": (dict,),
    "dataset": (dict,),
    "method": (str,),
    "seed": (int,),
    "results": (dict,),
    "created": (str,),
    "seconds": (int, float),
    "command": (str,),
    "versions": (dict,),
    "git_commit": (str, type(None)),
    "machine": (dict,),
}


def cell_key(experiment: str, version: int, config: Mapping[str, Any]) -> str:
    """Return the key of a cell, whatever the order of its config."""
    return hash_json({"experiment": experiment, "version": version, "config": content(config)})


def content(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without names beside which the content stands: what a key is made of.

    The same data, LLM or encoder in another folder is the same; under the same name it may be another. So a data set
    of a user's is its fingerprint, ``{"name": ..., "content": ...}`` its content, and ``name@content`` what follows
    the ``@`` where an LLM or an encoder is meant.
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            inner = content(value)
            users_own = name == "dataset" and not str(inner.get("name")).startswith(_GENERATED)
            if "content" in inner or users_own:
                inner.pop("name", None)
            found[name] = {at: _after(text) for at, text in inner.items()} if name == "encoders" else inner
        else:
            found[name] = _after(value) if name in _MAY_BE_MODELS else value
    return found


def _after(value: object) -> object:
    return value.rpartition("@")[2] or value if isinstance(value, str) else value


def plain_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy as it would be read back from a JSON file: numpy scalars as numbers, tuples as lists.

    Raises:
        TypeError: If something in it has no JSON form.
        ValueError: If a number is NaN or infinite.
    """

    def scalar(item: object) -> object:
        if isinstance(item, np.generic):
            return item.item()
        if isinstance(item, Mapping):
            return dict(item)
        raise TypeError(f"{type(item).__name__} {item!r} has no JSON form")

    copy: dict[str, Any] = json.loads(json.dumps(value, default=scalar, allow_nan=False))
    return copy
