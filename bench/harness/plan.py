"""What an experiment would compute, collected by running its program without computing anything."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell

_CURRENT: ContextVar[Plan | None] = ContextVar("plan", default=None)


Prompts = tuple[str, float, float]
"""Method, items of history, and how many such prompts."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What something takes, where its cell does not say so itself, as accuracy cells and timed prompts do.

    Attributes:
        evaluated: LLM method that reads the prompts of all evaluated users; empty for none.
        read: Further prompts that the LLM reads.
        trained: Prompts that the LLM is trained on, forward and backward.
        gflops: Work without the LLM, in small products.
        pictures: Pictures to encode.
        summaries: Summaries of all items are needed.
        seconds: Wall-clock time where an option bounds it.
    """

    evaluated: str = ""
    read: tuple[Prompts, ...] = ()
    trained: tuple[Prompts, ...] = ()
    gflops: float = 0.0
    pictures: float = 0.0
    summaries: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A cell to compute.

    Attributes:
        cell: The cell.
        place: Its data and LLM.
        work: What it takes; None where the cell itself says so, as accuracy cells and timed prompts do.
    """

    cell: Cell
    place: Workspace
    work: Work | None = None


@dataclass
class Plan:
    """What one experiment would compute.

    Attributes:
        cells: Cells to compute, those stored already included.
        besides: Work in no cell.
        loaded: Workspaces by their settings, shared between experiments: data and LLM are loaded once.
    """

    cells: list[Planned] = field(default_factory=list)
    besides: list[Work] = field(default_factory=list)
    loaded: dict[Settings, Workspace] = field(default_factory=dict)

    def add(
        self,
        cells: Sequence[Cell],
        place_of: Callable[[Cell], Workspace],
        work: Callable[[Cell], Work | None] | None,
    ) -> None:
        """Note cells that the experiment would compute."""
        self.cells += [
            Planned(cell=cell, place=place_of(cell), work=None if work is None else work(cell))
            for cell in cells
        ]

    def workspace(self, settings: Settings) -> Workspace:
        """Return the workspace of these settings; data sets and LLMs that are the same are loaded once."""
        if settings not in self.loaded:
            place = Workspace(settings)
            for other in self.loaded.values():
                if other.settings.dataset_arguments() == settings.dataset_arguments():
                    vars(place)["dataset"] = other.dataset
                if "backbone" in vars(other) and _llm(other.settings) == _llm(settings):
                    vars(place)["backbone"] = other.backbone
            self.loaded[settings] = place
        return self.loaded[settings]


def _llm(settings: Settings) -> tuple[object, ...]:
    """Return what makes an LLM another one."""
    return (
        settings.llm,
        settings.layers,
        settings.dtype,
        settings.torch_device(),
        settings.compile,
        settings.plain,
    )


def current_plan() -> Plan | None:
    """Return the plan that is being made, or None where experiments are run."""
    return _CURRENT.get()


@contextlib.contextmanager
def planning(plan: Plan) -> Iterator[None]:
    """Let experiments add what they would compute to a plan; what they say meanwhile is not shown."""
    token = _CURRENT.set(plan)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        _CURRENT.reset(token)
