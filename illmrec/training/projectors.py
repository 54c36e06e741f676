"""Training of the projectors on stored states until validation stops improving: seconds, since no LLM is run."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from illmrec.model.illmrec import ILLMRec
from illmrec.model.retrieval_loss import Sampler, binary_loss, sampled_softmax_loss, softmax_loss
from illmrec.ranking import mean_ndcg, target_ranks
from illmrec.training.options import CachedOptions

logger = logging.getLogger(__name__)

EXACT_ITEMS = 50_000
"""A softmax over a larger catalogue is estimated from a sample unless the options say otherwise."""
_SAMPLED_ITEMS = 8192
_DECAY = 0.3
_SCORED = 1 << 25


@dataclass(frozen=True, kw_only=True)
class States:
    """States and what comes next.

    Attributes:
        values: [positions, width], standardised; may lie on disk.
        targets: Int64 [positions].
    """

    values: Tensor
    targets: np.ndarray


@dataclass(frozen=True, kw_only=True)
class ProjectorReport:
    """What training the projectors did.

    Attributes:
        epochs: Per epoch: mean loss, learning rate, validation NDCG@10, targets and seconds so far.
        best_epoch: The epoch that was kept, counted from 1.
        converged: Whether it stopped because validation did, and not at the last epoch that was allowed.
        seconds: Time, validation included.
    """

    epochs: list[dict[str, float]]
    best_epoch: int
    converged: bool
    seconds: float

    @property
    def valid_ndcg10(self) -> float:
        """Validation NDCG@10 of the epoch that was kept."""
        return self.epochs[self.best_epoch - 1]["valid_ndcg@10"]


def train_projectors(
    model: ILLMRec,
    *,
    train: States,
    valid: States,
    negatives: np.ndarray,
    options: CachedOptions,
    binary: bool = False,
    seed: int,
    look: Callable[[int, float], None] | None = None,
    progress: bool = True,
) -> ProjectorReport:
    """Train user and item projectors in place and leave those of the best epoch.

    AdamW. When validation NDCG@10 has not improved for ``options.patience`` epochs, the best projectors so far go on
    at a third of the learning rate; when that has helped ``options.decays`` times no more, training has converged.

    Args:
        model: The model; nothing but its projectors changes.
        train: States of the training positions.
        valid: One state a user, of validation.
        negatives: Int [users, n], items for ranking validation targets.
        options: How.
        binary: Binary cross-entropy with one sampled item for each target and feature type, as in the paper.
        seed: Of batches, dropout and negatives.
        look: Is told the number and the validation NDCG@10 of each epoch; it may raise to stop.
        progress: Show a progress bar.
    """
    training = _Training(model, train, valid, negatives, options, binary=binary, seed=seed)
    return training.run(look, progress=progress)


def projector_flops(model: ILLMRec, *, targets: int, batch_size: int) -> float:
    """Return the FLOPs of one epoch over all items of the catalogue (multiply and add count as two).

    Forward and backward, three products each but for the first layers, whose inputs need no gradient.
    """
    steps = max(1, round(targets / batch_size))

    def products(projectors: nn.ModuleDict, count: float) -> float:
        layers = [[m for m in p.modules() if isinstance(m, nn.Linear)] for p in projectors.values()]
        return sum(
            (2 if number == 0 else 3) * layer.weight.numel() * count
            for own in layers
            for number, layer in enumerate(own)
        )

    affinities = 3.0 * targets * model.n_items * model.shared * len(model.heads)
    users = products(model.user_projectors, targets)
    return 2 * (users + products(model.item_projectors, steps * model.n_items) + affinities)


class _Training:
    def __init__(
        self,
        model: ILLMRec,
        train: States,
        valid: States,
        negatives: np.ndarray,
        options: CachedOptions,
        *,
        binary: bool,
        seed: int,
    ) -> None:
        self.model, self.train, self.valid = model, train, valid
        self.negatives, self.options, self.binary = negatives, options, binary
        self.generator = np.random.default_rng([seed, 1])
        self.noise = torch.Generator().manual_seed(seed)
        self.parameters = [*model.user_projectors.parameters(), *model.item_projectors.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=options.learning_rate, weight_decay=options.weight_decay
        )
        sampled = options.negatives
        if sampled is None:
            sampled = _SAMPLED_ITEMS if model.n_items > EXACT_ITEMS else 0
        self.sampler = None
        if sampled and not binary:
            frequency = np.bincount(train.targets, minlength=model.n_items).astype(float)
            self.sampler = Sampler(frequency, uniform=sampled)
        self.steps = 0

    def run(self, look: Callable[[int, float], None] | None, *, progress: bool) -> ProjectorReport:
        options, began = self.options, time.monotonic()
        epochs: list[dict[str, float]] = []
        best: list[Tensor] = []
        best_epoch, since, decays, factor = 0, 0, options.decays, 1.0
        converged = False
        with tqdm(total=options.epochs, desc="projectors", unit="epoch", disable=not progress) as bar:
            while len(epochs) < options.epochs and not converged:
                loss = self._epoch(factor)
                row = {"loss": loss, "learning_rate": factor * options.learning_rate}
                row |= {
                    "valid_ndcg@10": self._validate(),
                    "targets": float(len(self.train.targets) * (len(epochs) + 1)),
                }
                epochs.append(row | {"seconds": round(time.monotonic() - began, 3)})
                if look is not None:
                    look(len(epochs), row["valid_ndcg@10"])
                bar.update()
                bar.set_postfix_str(f"valid NDCG@10 {row['valid_ndcg@10']:.4f}", refresh=False)
                if not best or row["valid_ndcg@10"] > epochs[best_epoch - 1]["valid_ndcg@10"]:
                    best = [parameter.detach().clone() for parameter in self.parameters]
                    best_epoch, since = len(epochs), 0
                    continue
                since += 1
                if since >= options.patience:
                    converged = decays == 0
                    decays, factor, since = decays - 1, factor * _DECAY, 0
                    self._restore(best)
        self._restore(best)
        report = ProjectorReport(
            epochs=epochs,
            best_epoch=best_epoch,
            converged=converged,
            seconds=round(time.monotonic() - began, 3),
        )
        logger.info(
            "projectors: epoch %d of %d kept, validation NDCG@10 %.4f, %s, %.0f s",
            best_epoch,
            len(epochs),
            report.valid_ndcg10,
            "converged" if converged else f"cut off at {options.epochs} epochs",
            report.seconds,
        )
        return report

    @torch.no_grad()
    def _restore(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def _epoch(self, factor: float) -> float:
        """Go through all positions once and return the mean loss of a target."""
        options, count = self.options, len(self.train.targets)
        batches = max(1, round(count / options.batch_size))
        total = 0.0
        for rows in np.array_split(self.generator.permutation(count), batches):
            self.steps += 1
            # Adam's first steps are as large as later ones on estimates of a few batches.
            warm = min(1.0, self.steps / options.warm_up_steps) if options.warm_up_steps else 1.0
            for group in self.optimiser.param_groups:
                group["lr"] = options.learning_rate * factor * warm
            rows.sort()  # reads the disk in order
            loss = self._loss(rows)
            self.optimiser.zero_grad()
            (loss / len(rows)).backward()
            self.optimiser.step()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise ValueError("the loss is not finite: lower the learning rate")
        return total / count

    def _loss(self, rows: np.ndarray) -> Tensor:
        model, options = self.model, self.options
        device = model.rec.device
        states = self.train.values[torch.from_numpy(rows)].to(device).float()
        if options.dropout:
            kept = torch.rand(states.shape, generator=self.noise).to(device) >= options.dropout
            states = states * kept / (1 - options.dropout)
        targets = self.train.targets[rows]
        with self._precision():
            users = model.project_standardised(states)
        users = users.float() / options.temperature
        if self.binary:
            return self._binary(users, targets)
        if self.sampler is None:
            at = torch.from_numpy(targets).to(device)
            return softmax_loss(users, self._items(), at, together=options.together)
        items, at, drawn, expected = (
            torch.from_numpy(part).to(device) for part in self.sampler.draw(targets, self.generator)
        )
        return sampled_softmax_loss(
            users, self._items(items), at, sampled=drawn, expected=expected, together=options.together
        )

    def _precision(self) -> torch.autocast:
        """Multiply matrices of projectors in the LLM's data type, which is the one that is fast here."""
        backbone = self.model.engine.backbone
        return torch.autocast(
            backbone.device.type, dtype=backbone.dtype, enabled=backbone.dtype != torch.float32
        )

    def _items(self, items: Tensor | None = None) -> Tensor:
        with self._precision():
            projected = self.model.project_items(items)
        return projected.float()

    def _binary(self, users: Tensor, targets: np.ndarray) -> Tensor:
        shape = (len(targets), len(self.model.heads))
        drawn = self.generator.integers(self.model.n_items - 1, size=shape)
        drawn += drawn >= targets[:, None]  # any item but the target
        pairs = torch.from_numpy(np.concatenate([np.broadcast_to(targets[:, None], shape), drawn]))
        items, at = torch.unique(pairs.to(users.device), return_inverse=True)
        return binary_loss(users, self._items(items), at)

    @torch.inference_mode()
    def _validate(self) -> float:
        """Return mean NDCG@10 of the validation items among their sampled candidates."""
        model, valid = self.model, self.valid
        ranks = []
        whole = model.catalogue() if model.n_items <= EXACT_ITEMS else None
        candidates = np.concatenate([valid.targets[:, None], self.negatives], axis=1)
        chunk = max(1, _SCORED // (candidates.shape[1] * model.shared * len(model.heads)))
        chunk = chunk if whole is None else max(1, _SCORED // model.n_items)
        for start in range(0, len(candidates), chunk):
            part = candidates[start : start + chunk]
            states = valid.values[start : start + chunk].to(model.rec.device).float()
            users = model.project_standardised(states).flatten(1)
            if whole is None:
                items, at = np.unique(part, return_inverse=True)
                projected = model.project_items(torch.from_numpy(items).to(users.device)).flatten(1)
            else:
                projected, at = whole, part
            scores = (users @ projected.T).cpu().numpy()
            at = at.reshape(part.shape)
            ranks.append(target_ranks(scores, at[:, 0], candidates=at[:, 1:]))
        return mean_ndcg(np.concatenate(ranks), 10)
