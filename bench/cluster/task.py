"""What a worker is asked to do and what it answers: all that travels between the two. Imports no dask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from illmrec.files import hash_json

Kind = Literal["done", "failed", "unsupported", "input", "held", "unfit"]
"""How a task ended.

- ``done``: the result is in the store.
- ``failed``: computing the cell raised an error.
- ``unsupported``: data or installation lack what the cell needs.
- ``input``: what the user gave cannot be used.
- ``held``: another run computes the cell.
- ``unfit``: this worker cannot, and another may: its disk is full, it lacks the data, or it plans other cells.
"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a worker is to do.

    Attributes:
        module: The experiment's module.
        args: Its arguments, as the user gave them.
        folder: The caller's working folder, from which relative paths start.
        command: The command, for the stored result.
        stage: Number of the stage that has the cell.
        known: Of each stage before it, experiment and key of the results that it had.
        key: Key of the cell; empty for all cells of the stage that measure a machine.
        part: What to prepare for the cell, which is then not computed; empty for nothing.
        keep: Keep a stored result.
        abandoned: Holders of claims that the caller has watched for the length of their lease.
        topic: Where log records go.
    """

    module: str
    args: tuple[str, ...]
    folder: str
    command: str
    stage: int
    known: tuple[tuple[tuple[str, str], ...], ...]
    key: str = ""
    part: str = ""
    keep: bool = True
    abandoned: tuple[str, ...] = ()
    topic: str = ""

    @property
    def program(self) -> str:
        """What identifies the stage and all that led to it."""
        return hash_json([self.module, self.args, self.folder, self.stage, self.known])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a task ended, and on which worker.

    Attributes:
        kind: See ``Kind``.
        message: Why, in one line; of ``held`` the holder of the claim.
        worker: Address of the worker.
        keys: Experiment and key of the results of cells that measure a machine; the machine is part of their keys.
        failures: Label and reason of those of them that failed.
    """

    kind: Kind
    message: str = ""
    worker: str = ""
    keys: tuple[tuple[str, str], ...] = ()
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a cell needs of others.

    Attributes:
        parts: What it shares with other cells and can be computed beforehand, by name of the part: the key tells
            two of the same name apart.
        group: Cells of the same group share a state table or a trained model, which the first of them computes; empty
            for none.
        resources: What the cell asks for of its worker, such as ``{"GPU": 1}``.
    """

    parts: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)
