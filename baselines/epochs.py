"""Training by epochs until validation stops improving: the best epoch is kept, and a run that was stopped goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from baselines.training_record import TrainingRecord
from illmrec.files import hash_json
from illmrec.model import processes
from illmrec.training.checkpoint import (
    CHECKPOINT_SECONDS,
    load_optimiser,
    optimiser_tensors,
    read_checkpoint,
    under,
    write_checkpoint,
)

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class EpochTraining:
    """A training of a network, epoch by epoch.

    What it draws comes from ``draws`` and torch's own generators, whose states are kept with the rest: a run that goes
    on equals one that was never stopped.

    Args:
        name: Of the method, for messages.
        network: What is trained, in place.
        optimiser: Of its parameters.
        train: Trains for an epoch and returns the mean loss of a batch.
        validate: Returns the validation NDCG@10.
        draws: The generators of numpy, or own ones of torch, that ``train`` draws from.
        epochs: Most epochs.
        patience: Epochs without a better validation NDCG@10 after which it stops.
        schedule: Of the learning rate, if it has one; ``train`` steps it.
        checkpoint: Folder for the state of an unfinished run, or ``None``.
        identity: JSON values that a state to go on from has in common with this run.
        alone: Whether one process trains and the others wait for it elsewhere; else each trains the same.
    """

    name: str
    network: nn.Module
    optimiser: torch.optim.Optimizer
    train: Callable[[], float]
    validate: Callable[[], float]
    draws: Sequence[np.random.Generator | torch.Generator]
    epochs: int
    patience: int
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    checkpoint: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False
    _scores: list[float] = field(default_factory=list, init=False)
    _losses: list[float] = field(default_factory=list, init=False)
    _best: dict[str, Tensor] = field(default_factory=dict, init=False)
    _best_epoch: int = field(default=0, init=False)
    _seconds: float = field(default=0.0, init=False)

    def run(
        self, *, targets: int, progress: bool, look: Callable[[int, float], None] | None = None
    ) -> TrainingRecord:
        """Train, leave the best epoch's parameters in the network and return what was done.

        Args:
            targets: Of an epoch.
            progress: Show a progress bar.
            look: Is told the number and the validation NDCG@10 of each epoch; it may raise to stop.
        """
        self._resume()
        if not self.alone:
            processes.wait()  # none may go on, and write, before all have read
        began, saved = time.monotonic() - self._seconds, time.monotonic()
        with tqdm(
            total=self.epochs, initial=len(self._scores), desc=f"training {self.name}", disable=not progress
        ) as bar:
            while len(self._scores) < self.epochs and len(self._scores) - self._best_epoch < self.patience:
                self._epoch()
                self._seconds = time.monotonic() - began
                bar.set_postfix_str(f"validation NDCG@10 {self._scores[-1]:.4f}")
                bar.update(1)
                if look is not None:
                    look(len(self._scores), self._scores[-1])
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
        if self._seconds > CHECKPOINT_SECONDS:
            self._save()  # what comes after, its evaluation, may be stopped too
        self.network.load_state_dict(self._best)
        logger.info(
            "%s: best of %d epochs is %d, validation NDCG@10 %.4f, %.0f s",
            self.name, len(self._scores), self._best_epoch, max(self._scores), self._seconds,
        )  # fmt: skip
        return TrainingRecord(
            epochs=len(self._scores),
            best_epoch=self._best_epoch,
            validation_ndcg10=tuple(self._scores),
            training_loss=tuple(self._losses),
            targets_per_epoch=targets,
            seconds=self._seconds,
        )

    def _epoch(self) -> None:
        self._losses.append(self.train())
        self._scores.append(self.validate())
        if not self._best or self._scores[-1] > self._scores[self._best_epoch - 1]:
            self._best_epoch = len(self._scores)
            self._best = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _known(self) -> str:
        shapes = {name: list(value.shape) for name, value in self.network.state_dict().items()}
        return hash_json({**self.identity, "name": self.name, "shapes": shapes})

    def _save(self) -> None:
        if self.checkpoint is None or not processes.is_main():
            return
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        tensors |= optimiser_tensors(self.optimiser)
        tensors["generator"] = torch.get_rng_state()
        tensors |= {
            f"draws.{number}": draws.get_state()
            for number, draws in enumerate(self.draws)
            if isinstance(draws, torch.Generator)
        }
        if torch.cuda.is_available():
            tensors["generator_of_cuda"] = torch.cuda.get_rng_state()
        state = {
            "identity": self._known(),
            "scores": self._scores,
            "losses": self._losses,
            "best_epoch": self._best_epoch,
            "seconds": self._seconds,
            "draws": [
                draws.bit_generator.state if isinstance(draws, np.random.Generator) else None
                for draws in self.draws
            ],
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "rates": [group["lr"] for group in self.optimiser.param_groups],
        }
        write_checkpoint(self.checkpoint, tensors=tensors, state=state)

    def _resume(self) -> None:
        found = None if self.checkpoint is None else read_checkpoint(self.checkpoint)
        if found is None:
            return
        state, tensors = found
        if state.get("identity") != self._known():
            logger.info("%s: an unfinished run of something else; starting anew", self.checkpoint)
            return
        self.network.load_state_dict(under("network.", tensors))
        device = next(self.network.parameters()).device
        self._best = {name: value.to(device) for name, value in under("best.", tensors).items()}
        load_optimiser(self.optimiser, tensors)
        for group, rate in zip(self.optimiser.param_groups, state["rates"], strict=True):
            group["lr"] = rate
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        for number, draws in enumerate(self.draws):
            if isinstance(draws, torch.Generator):
                draws.set_state(tensors[f"draws.{number}"])
            else:
                draws.bit_generator.state = state["draws"][number]
        torch.set_rng_state(tensors["generator"])
        if "generator_of_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["generator_of_cuda"])
        self._scores, self._losses = state["scores"], state["losses"]
        self._best_epoch, self._seconds = state["best_epoch"], state["seconds"]
        logger.info("%s: resuming an unfinished training at epoch %d", self.name, len(self._scores) + 1)
