"""Strategy ``cached``: a joint warm-up, states encoded once, projectors trained on them until they converge.

The LLM is frozen, so that what it says of a history changes only while adaptors and ``[REC]`` do. Joint training
(paper, equation 2) runs it for every target of every epoch; this runs it once for each position. What it gives up is
that adaptors and ``[REC]`` learn along with the projectors to the end.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from illmrec.data.splits import Split
from illmrec.files import cache_dir, hash_json
from illmrec.model import processes
from illmrec.model.illmrec import ILLMRec
from illmrec.states.encoding import encode_positions
from illmrec.states.positions import Positions, evaluation_positions, joined, training_positions
from illmrec.states.table import StateTable
from illmrec.training.head_training import States
from illmrec.training.options import CachedOptions, TrainingOptions
from illmrec.training.projectors import ProjectorReport, initialise_projectors, train_projectors
from illmrec.training.trainer import Trainer, TrainingReport, calibration_users, validation_users

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CachedReport:
    """What training by stored states did: stored with the parameters.

    Attributes:
        warm_up: What the joint warm-up did; ``None`` without one.
        projectors: What training the projectors did.
        positions: Training positions that were stored.
        encoding: Seconds, tokens and error of the states of training and validation.
        seconds: All three together, those of states that were found included.
        risa_left_out: Why RISA was asked for and did not run, or ``None``; of a warm-up, it says so itself.
    """

    warm_up: TrainingReport | None
    projectors: ProjectorReport
    positions: int
    encoding: dict[str, float]
    seconds: float
    risa_left_out: str | None = None

    def described(self) -> dict[str, Any]:
        """Return what a cell keeps of it, as JSON values."""
        projectors, warmed = self.projectors, self.warm_up
        found: dict[str, Any] = {
            "epochs": len(projectors.epochs),
            "best_epoch": projectors.best_epoch,
            "converged": projectors.converged,
            "positions": self.positions,
            "encoding": self.encoding,
            "warm_up_targets": 0 if warmed is None else warmed.targets,
            "warm_up_seconds": 0.0 if warmed is None else warmed.seconds,
            "projector_seconds": projectors.seconds,
            "targets": int(projectors.epochs[-1]["targets"]) + (0 if warmed is None else warmed.targets),
            "seconds": self.seconds,
            "valid_ndcg@10": projectors.valid_ndcg10,
        }
        left_out = self.risa_left_out if warmed is None else warmed.risa_left_out
        return found | ({"risa_left_out": left_out} if left_out else {})


class CachedTrainer:
    """Trains one model by stored states.

    Args:
        model: The model to train in place.
        split: Leave-one-out split; targets come from its training part, the best epoch from validation.
        options: Training options; those of ``cached``, and for the warm-up all others.
        seed: Of everything that is drawn.
        negatives: Int [n_users, n], items for ranking validation targets.
        checkpoint: Folder for the state of an unfinished warm-up, or ``None``.
        cache: Folder of caches, for state tables; ``None`` is the user's.
        look: Is told the number and the validation NDCG@10 of each epoch of the projectors; it may raise to stop.
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
        progress: bool = True,
    ) -> None:
        self._look = look
        self.model, self.split, self.seed, self.negatives = model, split, seed, negatives
        self.options, self.cache, self.progress = options, cache, progress
        self.cached = options.cached or CachedOptions()
        drawn = self.cached.projector_seed
        self.projector_seed = seed if drawn is None else drawn
        self.warm_up: Trainer | None = None
        steps = warm_up_steps(split, options, length=model.history_length)
        if steps:
            joint = replace(
                options, strategy="frozen", cached=None, epochs=steps, max_steps=steps, validation_users=0
            )
            self.warm_up = Trainer(
                model=model,
                split=split,
                options=joint,
                seed=seed,
                negatives=negatives,
                checkpoint=checkpoint,
                progress=progress,
            )

    def run(self) -> CachedReport:
        """Warm up, encode, train the projectors, and leave the best epoch's in the model."""
        warmed = None if self.warm_up is None else self.warm_up.run()
        if warmed is None:
            logger.info("no warm-up: [REC] and adaptors stay as initialised")
        self._calibrate()
        if warmed is None:
            initialise_projectors(self.model, seed=self.projector_seed)
        train, valid, table = self.states()
        stored = len(train)
        key = hash_json({name: table.meta[name] for name in ("version", "model", "positions", "dtype")})
        report = train_projectors(
            self.model,
            train=States(values=table.values[:stored], targets=train.targets, key=key),
            valid=States(values=table.values[stored:], targets=valid.targets),
            negatives=self.negatives[valid.users],
            options=self.cached,
            binary=self.options.loss == "bce",
            seed=self.projector_seed,
            look=self._look,
            # A search looks at every epoch.
            cache=None if self._look else (self.cache or cache_dir()) / "projectors",
            progress=self.progress,
        )
        # Each process trained the same; where their hardware differs, so do roundings.
        processes.take_from_main(self.model.state_dict().values())
        encoding = {name: table.meta[name] for name in ("seconds", "tokens", "rms_error", "largest_error")}
        return CachedReport(
            warm_up=warmed,
            projectors=report,
            positions=stored,
            encoding=encoding,
            risa_left_out="states are stored before anything is trained" if self.options.risa else None,
            seconds=round((warmed.seconds if warmed else 0.0) + encoding["seconds"] + report.seconds, 3),
        )

    def _calibrate(self) -> None:
        """Standardise states as joint training does; those of the users that it takes are stored, too."""
        self.model.rec_mean.zero_()
        self.model.rec_scale.fill_(1.0)
        users = calibration_users(self.split, seed=self.seed)
        # What comes before the validation item is the training part.
        ends = evaluation_positions(self.split, "valid", length=self.model.history_length, users=users)
        table = encode_positions(self.model, ends, dtype="float32", cache=self.cache, progress=False)
        self.model.standardise_by(table.values[:])

    def states(self) -> tuple[Positions, Positions, StateTable]:
        """Return the positions of training and of validation, and the table of their states, the former first."""
        length = self.model.history_length
        users = validation_users(self.split, self.cached.validation_users, seed=self.seed)
        train = training_positions(self.split, length=length, last=self.cached.last_targets)
        valid = evaluation_positions(self.split, "valid", length=length, users=users)
        table = encode_positions(
            self.model,
            joined([train, valid]),
            dtype=self.cached.state_dtype,
            cache=self.cache,
            progress=self.progress,
        )
        return train, valid, table

    def discard_checkpoint(self) -> None:
        """Remove the state of the warm-up once the result is stored."""
        if self.warm_up is not None:
            self.warm_up.discard_checkpoint()


def warm_up_steps(split: Split, options: TrainingOptions, *, length: int) -> int:
    """Return the optimiser steps of a warm-up: as many as see about ``options.cached.warm_up`` targets."""
    wanted = 0 if options.cached is None else options.cached.warm_up
    if not wanted:
        return 0
    lengths = np.diff(split.train_offsets)
    targets = 1.0 if options.targets == "one" else float(np.minimum(length, lengths - 1).mean())
    return max(1, math.ceil(wanted / (targets * options.batch_size)))
