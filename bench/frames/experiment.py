"""What an experiment says of itself, beside its table: its place in the paper, its question, its options; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment, ``python -m bench.NAME``; ``ABOUT`` in ``bench.frames.NAME``.

    Attributes:
        name: Its module.
        paper: Table, figure or appendix of the paper; empty where the paper has none.
        question: What it answers, in a few words.
        place: Where it stands in ``bench all``, ascending. What trains most of the shared models comes early, so that
            later experiments find them; any order gives the same numbers.
        arguments: Options that ``bench all`` adds, by preset.
        toyshop: Options that ``bench all`` adds on the generated data, by preset: what they need to support it.
        settings: It takes the options that experiments share; the others take --out, --overwrite, --track and
            --no-progress.
    """

    name: str
    paper: str
    question: str
    place: int
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    toyshop: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: bool = True

    @property
    def module(self) -> str:
        """Name of the module, for ``python -m``."""
        return f"bench.{self.name}"

    def extra(self, *, preset: str, dataset: str) -> list[str]:
        """Return the options that ``bench all`` adds to the user's."""
        generated = self.toyshop.get(preset, ()) if dataset == "toyshop" else ()
        return [*self.arguments.get(preset, ()), *generated]
