"""How a model is trained, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from illmrec.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How a model is trained. Part of a cell's key.

    Attributes:
        risa: Train the adaptor by questions about the next item as well (section 3.2).
        targets: ``one`` random position of each user and epoch is a target, as in the paper; ``all`` makes every
            position of a random window of L + 1 items one, in the same pass.
        loss: ``bce`` with one sampled negative for each feature type (equation 1); ``ce`` over the catalogue.
        epochs: Passes over the users; each draws one window per user.
        max_steps: Stop after that many optimiser steps in all.
        batch_size: Users in one optimiser step.
        learning_rate: Of Adam.
        schedule: ``constant`` as in the paper, or ``cosine`` to zero after a short warm-up.
        answer_tokens: RISA answers are cut there.
        validation_users: Users of the validation after each epoch (drawn by seed); 0 keeps the last epoch.
        patience: Stop after that many epochs without a better validation NDCG@10; ``None`` never.
        token_budget: Tokens in one forward pass; a step takes as many passes as it needs, with the same result.
    """

    risa: bool = True
    targets: Literal["one", "all"] = "one"
    loss: Literal["bce", "ce"] = "bce"
    epochs: int = 10
    max_steps: int | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    answer_tokens: int = 64
    validation_users: int = 1000
    patience: int | None = 3
    token_budget: int = 4096

    def __post_init__(self) -> None:
        for name, valid in (
            ("targets", ("one", "all")),
            ("loss", ("bce", "ce")),
            ("schedule", ("constant", "cosine")),
        ):
            if getattr(self, name) not in valid:
                raise InputError(f"--{name} {getattr(self, name)}: unknown; valid: {', '.join(valid)}")
        for name in ("epochs", "batch_size", "answer_tokens", "token_budget"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")


def preset_options(preset: str) -> TrainingOptions:
    """Return the training options of a preset: ``paper``, ``small`` (the default on a CPU) or ``smoke`` (tests).

    Raises:
        InputError: If there is no such preset.
    """
    paper = TrainingOptions()
    small = replace(
        paper, targets="all", loss="ce", schedule="cosine", epochs=3, batch_size=8, validation_users=400
    )
    presets = {
        "paper": paper,
        "small": small,
        "smoke": replace(small, epochs=1, max_steps=4, batch_size=16, validation_users=32, answer_tokens=24),
    }
    if preset not in presets:
        raise InputError(f"--preset {preset}: unknown; valid: {', '.join(presets)}")
    return presets[preset]
