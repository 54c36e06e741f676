"""Strategy ``cached``: a joint warm-up, states encoded once, projectors trained on them until they converge.

The LLM is frozen, so that what it says of a history changes only while adaptors and ``[REC]`` do. Joint training
(paper, equation 2) runs it for every target of every epoch; this runs it once for each position. What it gives up is
that adaptors and ``[REC]`` learn along with the projectors to the end; with ``CachedOptions.alternations`` joint steps
follow on converged projectors, and states are stored anew.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from illmrec.data.splits import Split
from illmrec.files import cache_dir, hash_json
from illmrec.model import processes
from illmrec.model.illmrec import ILLMRec
from illmrec.states.encoding import encode_positions
from illmrec.states.positions import Positions, evaluation_positions, training_positions
from illmrec.states.table import StateTable
from illmrec.training.adaptor_start import start_from_text
from illmrec.training.calibration import calibrate_by_table
from illmrec.training.head_training import States
from illmrec.training.options import CachedOptions, TrainingOptions
from illmrec.training.other_seeds import begin_for_seeds
from illmrec.training.projectors import ProjectorReport, initialise_projectors, train_projectors
from illmrec.training.trainer import Trainer, TrainingReport, validation_users

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of training by stored states.

    Attributes:
        joint: What the joint steps before the states did; ``None`` without any.
        began: Seconds from the start of the run to the projectors of this round.
        encoding: Seconds, tokens and error of the states of training and validation.
        projectors: What training the projectors did.
    """

    joint: TrainingReport | None
    began: float
    encoding: dict[str, float]
    projectors: ProjectorReport


@dataclass(frozen=True, kw_only=True)
class CachedReport:
    """What training by stored states did: stored with the parameters.

    Attributes:
        rounds: One, and one more for each alternation.
        kept: Which of them validated best and was kept, from 0.
        positions: Training positions that were stored in each.
        risa_left_out: Why RISA was asked for and did not run, or ``None``; of joint steps, they say so themselves.
        adaptor_fit: What :func:`~illmrec.training.adaptor_start.start_from_text` returned, where it was asked for.
    """

    rounds: tuple[Round, ...]
    kept: int
    positions: int
    risa_left_out: str | None = None
    adaptor_fit: dict[str, float] = field(default_factory=dict)

    @property
    def joint(self) -> list[TrainingReport]:
        """What joint steps did, of the rounds that had any."""
        return [part.joint for part in self.rounds if part.joint is not None]

    @property
    def projectors(self) -> ProjectorReport:
        """What training the projectors did in the round that was kept."""
        return self.rounds[self.kept].projectors

    def described(self) -> dict[str, Any]:
        """Return what a cell keeps of it, as JSON values: sums over all rounds; epochs are those of the one kept."""
        projectors = self.projectors
        spent = {
            "warm_up_seconds": sum(part.seconds for part in self.joint),
            "encoding": sum(part.encoding["seconds"] for part in self.rounds),
            "projector_seconds": sum(part.projectors.seconds for part in self.rounds),
        }
        joint_targets = sum(part.targets for part in self.joint)
        encoding = self.rounds[self.kept].encoding
        tokens = sum(part.encoding["tokens"] for part in self.rounds)
        found: dict[str, Any] = {
            "epochs": len(projectors.epochs),
            "best_epoch": projectors.best_epoch,
            "converged": projectors.converged,
            "positions": self.positions,
            "encoding": {**encoding, "seconds": spent["encoding"], "tokens": tokens},
            "warm_up_targets": joint_targets,
            "warm_up_seconds": spent["warm_up_seconds"],
            "projector_seconds": spent["projector_seconds"],
            "targets": joint_targets
            + sum(int(part.projectors.epochs[-1]["targets"]) for part in self.rounds),
            "seconds": round(sum(spent.values()), 3),
            "valid_ndcg@10": projectors.valid_ndcg10,
        }
        if len(self.rounds) > 1:
            found["rounds"] = [part.projectors.valid_ndcg10 for part in self.rounds]
            found["round_kept"] = self.kept
        found |= {"adaptor_fit": self.adaptor_fit} if self.adaptor_fit else {}
        left_out = next((part.risa_left_out for part in self.joint), self.risa_left_out)
        return found | ({"risa_left_out": left_out} if left_out else {})


class CachedTrainer:
    """Trains one model by stored states.

    Args:
        model: The model to train in place.
        split: Leave-one-out split; targets come from its training part, the best epoch from validation.
        options: Training options; those of ``cached``, and for the warm-up all others.
        seed: Of everything that is drawn.
        negatives: Int [n_users, n], items for ranking validation targets.
        checkpoint: Folder for the state of unfinished joint steps, or ``None``; those of later rounds lie beside it.
        cache: Folder of caches, for state tables; ``None`` is the user's.
        look: Is told the number and the validation NDCG@10 of each epoch of the projectors; it may raise to stop.
        other_seeds: Seeds that will be trained after this one, by the same options: where nothing that learns is in a
            history, their states are encoded along with these.
        progress: Show progress bars.
    """

    def __init__(
        self,
        *,
        model: ILLMRec,
        split: Split,
        options: TrainingOptions,
        seed: int,
        negatives: np.ndarray,
        checkpoint: Path | None = None,
        cache: Path | None = None,
        look: Callable[[int, float], None] | None = None,
        other_seeds: Sequence[int] = (),
        progress: bool = True,
    ) -> None:
        self._look = look
        self.other_seeds = tuple(other_seeds)
        self.model, self.split, self.seed, self.negatives = model, split, seed, negatives
        self.options, self.cache, self.progress = options, cache, progress
        self.cached = options.cached or CachedOptions()
        drawn = self.cached.projector_seed
        self.projector_seed = seed if drawn is None else drawn
        length = model.history_length
        targets = (self.cached.warm_up, *[self.cached.alternation_targets] * self.cached.alternations)
        steps = [joint_steps(split, options, targets=wanted, length=length) for wanted in targets]
        self.stages = [self._joint(number, count, checkpoint) for number, count in enumerate(steps)]

    def _joint(self, number: int, steps: int, checkpoint: Path | None) -> Trainer | None:
        """Return what trains jointly before the states of a round, or ``None`` for no steps."""
        if not steps:
            return None
        joint = replace(
            self.options,
            strategy=self.cached.joint,
            cached=None,
            epochs=steps,
            max_steps=steps,
            validation_users=0,
            adaptor_start="drawn",
        )
        later = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.{number}")
        return Trainer(
            model=self.model,
            split=self.split,
            options=joint,
            # Each draws windows and questions of its own.
            seed=int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
            if number
            else self.seed,
            negatives=self.negatives,
            checkpoint=later if number else checkpoint,
            progress=self.progress,
        )

    def run(self) -> CachedReport:
        """Warm up, encode, train the projectors, alternate, and leave the best round's best epoch in the model."""
        started = time.monotonic()
        fit = start_from_text(self.model, self.split) if self.options.adaptor_start == "text" else {}
        rounds: list[Round] = []
        best: dict[str, Tensor] = {}
        kept = 0
        for number, stage in enumerate(self.stages):
            trained = None if stage is None else stage.run()
            if trained is None:
                logger.info("no warm-up: [REC] and adaptors stay as initialised")
            self._calibrate()
            if trained is None:
                initialise_projectors(self.model, seed=self.projector_seed)
            found, positions = self._on_states(trained, started)
            rounds.append(found)
            # Each process trained the same; where their hardware differs, so do roundings.
            processes.take_from_main(self.model.state_dict().values())
            values = [part.projectors.valid_ndcg10 for part in rounds]
            if processes.of_main([number == int(np.argmax(values))])[0]:
                kept = number
                best = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(best)
        if len(rounds) > 1:
            logger.info("round %d of %d kept", kept + 1, len(rounds))
        none = self.options.risa and not self.cached.trains_jointly
        return CachedReport(
            rounds=tuple(rounds),
            kept=kept,
            positions=positions,
            risa_left_out="states are stored before anything is trained" if none else None,
            adaptor_fit=fit,
        )

    def _on_states(self, joint: TrainingReport | None, started: float) -> tuple[Round, int]:
        """Store states, train the projectors on them, and return what that did and how many positions it had."""
        train, valid, table = self.states()
        began = time.monotonic() - started
        stored = len(train)
        key = hash_json({name: table.meta[name] for name in ("version", "model", "positions", "dtype")})
        plain = self.model.plain
        report = train_projectors(
            self.model,
            train=States(values=table.values[:stored], targets=train.targets, key=key),
            valid=States(values=table.values[stored:], targets=valid.targets),
            negatives=self.negatives[valid.users],
            options=self.cached,
            binary=self.options.loss == "bce",
            seed=self.projector_seed,
            look=self._look,
            # A search looks at every epoch; what is run plainly finds nothing trained.
            cache=None if self._look or plain else (self.cache or cache_dir()) / "projectors",
            progress=self.progress,
        )
        encoding = {name: table.meta[name] for name in ("seconds", "tokens", "rms_error", "largest_error")}
        return Round(joint=joint, began=round(began, 3), encoding=encoding, projectors=report), stored

    def _calibrate(self) -> None:
        validated = self.cached.validation_users
        calibrate_by_table(self.model, self.split, seed=self.seed, validated=validated, cache=self.cache)

    def states(self) -> tuple[Positions, Positions, StateTable]:
        """Return the positions of training and of validation, and the table of their states, the former first."""
        length, stored = self.model.history_length, self.cached
        train = training_positions(self.split, length=length, last=stored.last_targets)
        valid = self._validated(self.seed)
        kept: Any = {"dtype": stored.state_dtype, "cache": self.cache, "progress": self.progress}
        if not stored.trains_jointly:
            begin_for_seeds(
                self.model,
                self.split,
                {seed: [train, self._validated(seed)] for seed in (self.seed, *self.other_seeds)},
                validated=stored.validation_users,
                **kept,
            )
        return train, valid, encode_positions(self.model, train, valid, **kept)

    def _validated(self, seed: int) -> Positions:
        users = validation_users(self.split, self.cached.validation_users, seed=seed)
        return evaluation_positions(self.split, "valid", length=self.model.history_length, users=users)

    def discard_checkpoint(self) -> None:
        """Remove the state of joint steps once the result is stored."""
        for stage in self.stages:
            if stage is not None:
                stage.discard_checkpoint()


def joint_steps(split: Split, options: TrainingOptions, *, targets: int, length: int) -> int:
    """Return the optimiser steps that see about so many targets; 0 for none."""
    if not targets:
        return 0
    lengths = np.diff(split.train_offsets)
    of_user = 1.0 if options.targets == "one" else float(np.minimum(length, lengths - 1).mean())
    return max(1, math.ceil(targets / (of_user * options.batch_size)))
