"""An experiment's program run again on a worker, up to the cells that are wanted of it.

Nothing of what a cell needs travels: data, features and LLM are the worker's own, and the program that planned the
cells at the caller plans them here. Its earlier stages (each call of ``Bench.run`` is one) give the results that they
had there, read from the store; at the stage that is asked for the program is left, and what computes its cells is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from bench.store.cell import Cell, Record
from bench.store.store import Store

_CURRENT: ContextVar[Replay | None] = ContextVar("replay", default=None)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one call of ``Bench.run`` was given.

    Attributes:
        cells: The cells by key.
        run: Computes some of them: ``run(cells, keep=..., wait=..., abandoned=...)`` returns the runner's outcome; with
            ``keep`` a stored result is kept, without ``wait`` a cell that another run computes is left to it.
        prepare: Computes something that cells share (``prepare(cell, part)``) and leaves it in the cache.
    """

    cells: Mapping[str, Cell]
    run: Callable[..., Any]
    prepare: Callable[[Cell, str], None]


class Reached(BaseException):
    """The program has come to the stage that is asked for."""


@dataclass
class Replay:
    """One program, run again.

    Attributes:
        stage: Number of the stage that is asked for, from 0.
        known: Of each stage before it, experiment and key of the results that it had.
        inside: Is called at the stage, while the program still holds what it has opened.
        loaded: Workspaces by their settings, kept between replays.
        found: The stage, once it is reached.
    """

    stage: int
    known: Sequence[Sequence[tuple[str, str]]]
    inside: Callable[[Stage], None] | None = None
    loaded: dict[Any, Any] = field(default_factory=dict)
    found: Stage | None = None
    _passed: int = 0

    def pass_through(self, stage: Callable[[], Stage], store: Store) -> list[Record]:
        """Return the results of a stage before the one that is asked for, or leave the program at it."""
        if self._passed < self.stage:
            records = [store.read(experiment, key) for experiment, key in self.known[self._passed]]
            self._passed += 1
            return records
        self.found = stage()
        if self.inside is not None:
            self.inside(self.found)
        raise Reached


def current_replay() -> Replay | None:
    """Return the replay that is going on, or None where an experiment is run by its user."""
    return _CURRENT.get()


@contextlib.contextmanager
def replaying(replay: Replay) -> Iterator[None]:
    """Run an experiment's program as a replay."""
    token = _CURRENT.set(replay)
    try:
        yield
    except Reached:
        pass
    finally:
        _CURRENT.reset(token)
