"""Training of the parts around the LLM, RISA and RERI in one pass (paper section 3.4, equation 2), and of the LLM."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from illmrec.data.splits import Split
from illmrec.errors import InputError
from illmrec.files import hash_json
from illmrec.model import processes
from illmrec.model.budget import TokenBudget, token_batches
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import reads_llm
from illmrec.model.trunks import Trunks
from illmrec.network_folders import remove_directory
from illmrec.prompts.questions import Questions
from illmrec.ranking import mean_ndcg, target_ranks
from illmrec.training.adaptor_start import start_from_text
from illmrec.training.calibration import calibrate
from illmrec.training.checkpoint import (
    CHECKPOINT_SECONDS,
    load_optimiser,
    optimiser_tensors,
    read_checkpoint,
    under,
    write_checkpoint,
)
from illmrec.training.examples import Examples, draw_examples
from illmrec.training.options import TrainingOptions
from illmrec.training.strategies import Masters, clip, learning_rate_factor, parameter_groups, without_risa
from illmrec.training.windows import Windows, draw_windows

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What a training run did: stored with its parameters.

    Attributes:
        epochs: Per epoch: mean losses, validation NDCG@10, targets seen so far.
        best_epoch: The epoch whose parameters were kept, counted from 1.
        targets: Targets seen.
        seconds: Time in training steps, resumed runs included.
        risa_left_out: Why RISA was asked for and did not run, or ``None``.
        adaptor_fit: What :func:`~illmrec.training.adaptor_start.start_from_text` returned, where it was asked for.
        converged: Whether the last epochs, as many as the patience, were no better; ``None`` where nothing validated.
    """

    epochs: list[dict[str, float]]
    best_epoch: int
    targets: int
    seconds: float
    risa_left_out: str | None = None
    adaptor_fit: dict[str, float] = field(default_factory=dict)
    converged: bool | None = None

    def described(self) -> dict[str, Any]:
        """Return what a cell keeps of it, as JSON values."""
        found: dict[str, Any] = {
            "epochs": len(self.epochs),
            "best_epoch": self.best_epoch,
            "targets": self.targets,
            "seconds": self.seconds,
            "valid_ndcg@10": self.epochs[self.best_epoch - 1].get("valid_ndcg@10"),
        }
        found |= {"adaptor_fit": self.adaptor_fit} if self.adaptor_fit else {}
        found |= {} if self.converged is None else {"converged": self.converged}
        return found | ({"risa_left_out": self.risa_left_out} if self.risa_left_out else {})


class Trainer:
    """Trains one model; the same code for every representation, head and option.

    Several processes train it together: each goes through its share of a step's users, and their gradients are summed,
    so that the result is that of one process up to rounding. The main one alone writes the checkpoint.

    Args:
        model: The model to train in place.
        split: Leave-one-out split; only its training part is used for targets.
        options: Training options.
        seed: Seed of windows, negatives and questions. Every draw depends on (seed, epoch, step) alone, so that a
            resumed run equals an uninterrupted one.
        negatives: Int [n_users, n], items for ranking validation targets.
        checkpoint: Folder for the state of an unfinished run, or ``None``.
        progress: Show a progress bar.
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
        progress: bool = True,
    ) -> None:
        if not reads_llm(model.readout):
            raise InputError(
                f"--readout {model.readout}: the LLM is not asked, so that there is nothing to train jointly; give "
                "--strategy cached"
            )
        if model.readout == "last+mean" and options.targets != "all":
            raise InputError(
                f"--readout {model.readout}: joint training reads states at every item; give --targets all"
            )
        self.model, self.split, self.options, self.seed = model, split, options, seed
        self.negatives, self.checkpoint, self.progress = negatives, checkpoint, progress
        self.questions: Questions | None = None
        if options.risa:
            tokenizer = model.engine.backbone.tokenizer
            self.questions = Questions(
                items=split.dataset.items, tokenizer=tokenizer, answer_tokens=options.answer_tokens
            )
        self.risa_left_out = without_risa(model) if options.risa else None
        self.masters = Masters(dict(model.llm.named_parameters()))
        self.optimiser = torch.optim.Adam(
            parameter_groups(model, options, self.masters), lr=options.learning_rate
        )
        n_users = len(split.learners)
        self.steps_per_epoch = math.ceil(n_users / options.batch_size)
        self.total_steps = self.steps_per_epoch * options.epochs
        if options.max_steps is not None:
            self.total_steps = min(self.total_steps, options.max_steps)
        self.budget = TokenBudget(options.token_budget)
        self.trunks = Trunks()
        self.first_stage = self.total_steps // 2 if options.strategy == "two-stage" else 0
        if options.strategy == "two-stage" and not self.first_stage:
            raise InputError("strategy two-stage: needs two optimiser steps or more; raise --max-steps")
        self.step, self.targets, self.seconds = 0, 0, 0.0
        self.epochs: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._best: dict[str, Tensor] = {}
        self._best_epoch = 0

    def run(self) -> TrainingReport:
        """Train, validate after each epoch and leave the best epoch's parameters in the model."""
        # A run that goes on takes its own parameters over these.
        fit = start_from_text(self.model, self.split) if self.options.adaptor_start == "text" else {}
        self._resume()
        processes.wait()  # None may go on, and write, before all have read.
        if self.risa_left_out and processes.is_main():
            logger.info("RISA is left out: %s; the parameters are the same without it", self.risa_left_out)
        if self.step == 0:
            calibrate(self.model, self.split, seed=self.seed, validated=self.options.validation_users)
        started = saved = time.monotonic()
        before = self.seconds
        with tqdm(
            total=self.total_steps, initial=self.step, desc="training", unit="step", disable=not self.progress
        ) as bar:
            while self.step < self.total_steps and not self._out_of_patience():
                self._train_step()
                self.seconds = before + time.monotonic() - started
                bar.update()
                bar.set_postfix_str(f"{self.targets / self.seconds:.0f} targets/s", refresh=False)
                if self.step % self.steps_per_epoch == 0 or self.step == self.total_steps:
                    paused = time.monotonic()
                    self._finish_epoch()
                    started += time.monotonic() - paused
                    self._save()
                    saved = time.monotonic()
                elif time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
        self.model.load_state_dict(self._best)
        return TrainingReport(
            epochs=self.epochs,
            best_epoch=self._best_epoch,
            targets=self.targets,
            seconds=round(self.seconds, 3),
            risa_left_out=self.risa_left_out,
            adaptor_fit=fit,
            converged=self._waited() if self.options.validation_users else None,
        )

    def _train_step(self) -> None:
        epoch, index = divmod(self.step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.split.learners)
        users = order[index * self.options.batch_size : (index + 1) * self.options.batch_size]
        generator = np.random.default_rng([self.seed, epoch, index])
        windows = draw_windows(
            self.split,
            users,
            generator,
            targets=self.options.targets,
            length=self.model.history_length,
            windows=self.options.windows,
        )
        factor = learning_rate_factor(self.options, step=self.step, steps=self.total_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        if self.options.strategy == "two-stage":
            self._start_stage()
        with self._keeping_trunks():
            losses = self._losses(windows, generator)
        clip(self.optimiser, self.options)
        self.optimiser.step()
        self.masters.publish()
        self.optimiser.zero_grad()
        self.step += 1
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def _start_stage(self) -> None:
        """Freeze the adaptors in the second stage, and standardise its ``[REC]`` by what they have become (E.10)."""
        self.model.adaptors.requires_grad_(self.step < self.first_stage)
        if self.step == self.first_stage:
            calibrate(self.model, self.split, seed=self.seed, validated=self.options.validation_users)

    def _objectives(self) -> tuple[bool, bool]:
        """Return whether this step trains RISA and RERI: both, but for the stages of two-stage training."""
        if self.options.strategy == "two-stage":
            return self.step < self.first_stage, self.step >= self.first_stage
        return self.options.risa, True

    def draw(self, windows: Windows, generator: np.random.Generator) -> Examples:
        """Return the examples of a step: every path that trains on the same windows learns from the same."""
        risa, reri = self._objectives()
        drawn = draw_examples(
            self.model,
            windows,
            generator,
            questions=self.questions if risa else None,
            sampled=self.options.loss == "bce",
            retrieval=reri,
            history_negatives=self.options.negatives_from == "catalogue",
        )
        # Only now, so that negatives are those of a run with RISA.
        return replace(drawn, questions=None) if self.risa_left_out else drawn

    def no_losses(self) -> dict[str, float]:
        """Return zero for each loss that this training has."""
        return {"reri": 0.0} if self.questions is None or self.risa_left_out else {"reri": 0.0, "risa": 0.0}

    def _losses(self, windows: Windows, generator: np.random.Generator) -> dict[str, float]:
        """Leave the gradients of one step and return its mean losses."""
        examples = self.draw(windows, generator)
        sums = self.budget.run(
            lambda tokens: self._accumulate(examples, token_budget=tokens), undo=self._make_room
        )
        # Only here: what a process does again for lack of memory is no business of the others.
        processes.sum_gradients(p for group in self.optimiser.param_groups for p in group["params"])
        self.targets += examples.n_targets
        means = processes.total(torch.tensor(list(sums.values()), dtype=torch.float64))
        return dict(zip(sums, means.tolist(), strict=True))

    def _accumulate(self, examples: Examples, *, token_budget: int) -> dict[str, float]:
        """Add up this process's share of gradients and mean losses over as many passes as the token budget asks for."""
        counts = {"reri": examples.n_targets, "risa": max(1, examples.n_answer_tokens)}
        sums = self.no_losses()
        tokens = examples.token_counts(self.model.prompts)
        share = processes.share(tokens)
        for rows in token_batches(tokens[share], token_budget=token_budget):
            part = self._pass(examples.of(share[rows]))
            torch.stack([value / counts[name] for name, value in part.items()]).sum().backward()
            for name, value in part.items():
                sums[name] += value.item() / counts[name]
        return sums

    @contextmanager
    def _keeping_trunks(self) -> Iterator[None]:
        """Let the model keep what it reads again and nothing trains, as far as there is such."""
        self.model.trunks = self.trunks
        try:
            yield
        finally:
            self.model.trunks = None

    def _make_room(self) -> None:
        """Take back what an unfinished step has left, and what is kept only to save time."""
        self.trunks.give_up()
        self.optimiser.zero_grad()
        self.model.zero_grad()

    def _pass(self, examples: Examples) -> dict[str, Tensor]:
        packed = examples.pack(self.model.prompts)
        rec, answers = self.model.hidden(packed)
        losses = {}
        if len(packed.rec_positions):
            losses["reri"] = self.model.retrieval_loss(
                self.model.read_out(rec, examples.histories, examples.boundaries),
                self._on_device(examples.targets),
                negatives=None if examples.negatives is None else self._on_device(examples.negatives),
                reduction=self.options.reduction,
            )
        if len(packed.answer_ids):
            losses["risa"] = self.model.answer_loss(answers, self._on_device([packed.answer_ids]))
        return losses

    def _on_device(self, parts: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(self.model.rec.device)

    def _finish_epoch(self) -> None:
        steps = (self.step - 1) % self.steps_per_epoch + 1
        first = min(max(self.first_stage - (self.step - steps), 0), steps)
        stages = {"reri": steps - first, "risa": first} if self.first_stage else {}
        trained = dict.fromkeys(self._sums, steps) | stages
        row = {f"{name}_loss": value / trained[name] for name, value in self._sums.items() if trained[name]}
        self._sums = {}
        row["targets"] = self.targets
        best_before = max((e["valid_ndcg@10"] for e in self.epochs if "valid_ndcg@10" in e), default=-1.0)
        if self.step > self.first_stage and self.options.validation_users:
            row["valid_ndcg@10"] = self.validate()
        self.epochs.append(row)
        logger.info(
            "epoch %d: %s", len(self.epochs), ", ".join(f"{name} {value:.4g}" for name, value in row.items())
        )
        # Before the projectors' stage there is nothing to choose from.
        if self.step > self.first_stage and row.get("valid_ndcg@10", math.inf) > best_before:
            self._best_epoch = len(self.epochs)
            self._best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def validate(self, count: int | None = None) -> float:
        """Return mean NDCG@10 of the validation items among their sampled candidates.

        Args:
            count: Users that are looked at; ``None`` takes those of the options.
        """
        users = validation_users(self.split, count or self.options.validation_users, seed=self.seed)
        with self._keeping_trunks():
            scores = self.model.score([self.split.history(int(user), "valid") for user in users])
        ranks = target_ranks(scores, self.split.targets("valid")[users], candidates=self.negatives[users])
        # It decides when all stop: processes on different hardware may differ by a rank.
        return processes.of_main([mean_ndcg(ranks, 10)])[0]

    def _out_of_patience(self) -> bool:
        """Tell whether to stop before the last epoch: not while the learning rate has its way down before it."""
        return self.options.schedule == "constant" and self._waited()

    def _waited(self) -> bool:
        """Tell whether as many epochs as the patience have gone by without a better one."""
        patience = self.options.patience
        return patience is not None and 0 < self._best_epoch <= len(self.epochs) - patience

    def _identity(self) -> str:
        model = self.model
        return hash_json(
            {
                "options": self.options.described(),
                "seed": self.seed,
                "data": self.split.dataset.training_fingerprint,
                "backbone": {**model.engine.backbone.describe(), "name": model.engine.backbone.fingerprint},
                "heads": model.heads,
                "slots": model.slots,
                "context": model.prompts.context,
                "instruction": [model.prompts.task.tolist(), model.prompts.instruction.tolist()],
                "tokens": hash_json(model.prompts.items.ids.tolist()),
            }
        )

    def _save(self) -> None:
        if self.checkpoint is None or not processes.is_main():
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self._best.items()}
        tensors |= {f"master.{name}": value for name, value in self.masters.weights.items()}
        tensors |= optimiser_tensors(self.optimiser)
        state = {
            "identity": self._identity(),
            "step": self.step,
            "targets": self.targets,
            "seconds": self.seconds,
            "epochs": self.epochs,
            "sums": self._sums,
            "best_epoch": self._best_epoch,
        }
        write_checkpoint(self.checkpoint, tensors=tensors, state=state)

    def discard_checkpoint(self) -> None:
        """Remove the state of the run once its result is stored."""
        if self.checkpoint is not None and processes.is_main() and self.checkpoint.exists():
            remove_directory(self.checkpoint)

    def _resume(self) -> None:
        found = None if self.checkpoint is None else read_checkpoint(self.checkpoint)
        if found is None:
            return
        state, tensors = found
        if state["identity"] != self._identity():
            logger.info("%s: an unfinished run with other options; starting anew", self.checkpoint)
            return
        self.model.load_state_dict(under("model.", tensors))
        self._best = under("best.", tensors)
        self.masters.load(under("master.", tensors))
        load_optimiser(self.optimiser, tensors)
        self.step, self.targets, self.seconds = state["step"], state["targets"], state["seconds"]
        self.epochs, self._sums, self._best_epoch = state["epochs"], state["sums"], state["best_epoch"]
        logger.info("resuming an unfinished training at step %d of %d", self.step, self.total_steps)


def validation_users(split: Split, count: int, *, seed: int) -> np.ndarray:
    """Return the users whose validation items choose an epoch, int64 [count or all], drawn by seed, in order."""
    users = split.users("valid")
    if count >= len(users):
        return users
    return np.sort(np.random.default_rng([seed, split.dataset.n_users]).choice(users, count, replace=False))
