"""What an optimiser step learns from: trunks, targets at their boundaries, sampled negatives and RISA questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from illmrec.errors import InputError
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.packing import Fitted, Packed, PromptBuilder
from illmrec.prompts.questions import Questions
from illmrec.training.windows import Windows

Question = tuple[np.ndarray, np.ndarray]
"""Token ids of a question and of its answer."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The examples of one step, a list entry per user.

    Attributes:
        histories: Trunks, cut to the context.
        boundaries: Int [branches], items of the trunk that a retrieval branch follows.
        targets: Int [branches], the item that comes next.
        negatives: Int [branches, heads], sampled items, or ``None`` for cross-entropy over the catalogue.
        questions: One question about the last target each, or ``None`` for RERI alone.
    """

    histories: Sequence[Fitted]
    boundaries: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    negatives: Sequence[np.ndarray] | None
    questions: Sequence[Question] | None

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return sum(map(len, self.targets))

    @property
    def n_answer_tokens(self) -> int:
        """Number of answer tokens."""
        return sum(len(answer) for _, answer in self.questions or ())

    def of(self, rows: np.ndarray) -> Examples:
        """Return the examples of some users."""
        return Examples(
            histories=[self.histories[row] for row in rows],
            boundaries=[self.boundaries[row] for row in rows],
            targets=[self.targets[row] for row in rows],
            negatives=None if self.negatives is None else [self.negatives[row] for row in rows],
            questions=None if self.questions is None else [self.questions[row] for row in rows],
        )

    def pack(self, prompts: PromptBuilder) -> Packed:
        """Lay out the prompts in one row."""
        return prompts.pack(self.histories, boundaries=self.boundaries, questions=self.questions)

    def token_counts(self, prompts: PromptBuilder) -> np.ndarray:
        """Return int [users], tokens of each user's trunk and branches."""
        further = np.array([len(boundaries) - 1 for boundaries in self.boundaries])
        tokens = prompts.token_counts(self.histories) + further * (len(prompts.instruction) + 1)
        if self.questions is not None:
            tokens = tokens + np.array([len(question) + len(answer) for question, answer in self.questions])
        return tokens


def draw_examples(
    model: ILLMRec,
    windows: Windows,
    generator: np.random.Generator,
    *,
    questions: Questions | None,
    sampled: bool,
    retrieval: bool = True,
    history_negatives: bool = False,
) -> Examples:
    """Cut windows to the context and draw their questions and negatives.

    Args:
        model: The model that learns.
        windows: Stretches of the training part.
        generator: Source of randomness.
        questions: Where RISA's questions are drawn from; ``None`` for RERI alone.
        sampled: Draw negatives.
        retrieval: Keep retrieval branches; ``False`` leaves RISA alone, about the last target.
        history_negatives: Negatives may be items of the trunk.
    """
    asked, branches = None, [0] * len(windows.trunks)
    if questions is not None:
        # About the last target, which is never cut; what it takes is not there for the history.
        asked = questions.draw(np.array([following[-1] for following in windows.targets]), generator)
        branches = [len(question) + len(answer) - 1 for question, answer in asked]
    histories = [
        model.prompts.fit(trunk, branch=branch)
        for trunk, branch in zip(windows.trunks, branches, strict=True)
    ]
    boundaries, targets = [], []
    for history, trunk, ends, following in zip(
        histories, windows.trunks, windows.boundaries, windows.targets, strict=True
    ):
        # Boundaries that went with the oldest items are gone.
        moved = ends - (len(trunk) - len(history.items))
        boundaries.append(moved[moved > 0])
        targets.append(following[moved > 0])
    if not retrieval:
        boundaries, targets = [b[:0] for b in boundaries], [t[-1:] for t in targets]
    negatives = None
    if sampled:
        negatives = [
            _negatives(model, t, history.items[:0] if history_negatives else history.items, generator)
            for t, history in zip(targets, histories, strict=True)
        ]
    return Examples(
        histories=histories, boundaries=boundaries, targets=targets, negatives=negatives, questions=asked
    )


def _negatives(
    model: ILLMRec, targets: np.ndarray, excluded: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Draw one item for each target and feature type that is neither the target nor an excluded one."""
    drawn = generator.integers(model.n_items, size=(len(targets), len(model.heads)))
    for _ in range(100):
        bad = (drawn == targets[:, None]) | np.isin(drawn, excluded)
        if not bad.any():
            return drawn
        drawn[bad] = generator.integers(model.n_items, size=int(bad.sum()))
    raise InputError("the catalogue is too small to draw a negative outside a user's history; use --loss ce")
