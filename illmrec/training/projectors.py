"""Training of the projectors on stored states until validation stops improving: seconds, since no LLM is run."""

from __future__ import annotations

import copy
import logging
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from illmrec.model.illmrec import ILLMRec
from illmrec.ranking import mean_ndcg, target_ranks
from illmrec.training.head_training import HeadTraining, States
from illmrec.training.options import CachedOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProjectorReport:
    """What training the projectors did.

    Attributes:
        epochs: Per epoch: mean loss, learning rate, validation NDCG@10, targets and seconds so far. Feature types that
            were trained apart are counted together: the loss is their sum, the learning rate the highest, and
            validation ranks by the sum of affinities, of each feature type by its best epoch so far.
        best_epoch: The epoch after which nothing was better, counted from 1.
        converged: Whether all stopped because validation did, and not at the last epoch that was allowed.
        seconds: Time, validation included; of feature types that were found trained, the time that it took then.
        found: Feature types whose projectors were found trained.
    """

    epochs: list[dict[str, float]]
    best_epoch: int
    converged: bool
    seconds: float
    found: tuple[str, ...] = ()

    @property
    def valid_ndcg10(self) -> float:
        """Validation NDCG@10 of what was kept."""
        return self.epochs[-1]["valid_ndcg@10"]


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
    cache: Path | None = None,
    progress: bool = True,
) -> ProjectorReport:
    """Train user and item projectors in place and leave those of the best epoch.

    AdamW. When validation NDCG@10 has not improved for ``options.patience`` epochs, the best projectors so far go on
    at a third of the learning rate; when that has helped ``options.decays`` times no more, training has converged.

    The loss is a sum over feature types that share no parameter, so that each type is trained apart, with batches and
    validation of its own: a type's projectors are the same beside any others, and found where a cache has them. Where
    the sum of affinities is trained as well (``options.together``), all types are trained as one.

    Args:
        model: The model; nothing but its projectors changes.
        train: States of the training positions.
        valid: One state a user, of validation.
        negatives: Int [users, n], items for ranking validation targets.
        options: How.
        binary: Binary cross-entropy with one sampled item for each target and feature type, as in the paper.
        seed: Of batches, dropout and negatives.
        look: Is told the number and the validation NDCG@10 of each epoch; it may raise to stop.
        cache: Folder of trained projectors; ``None`` keeps and finds none.
        progress: Show a progress bar.
    """
    groups: Sequence[tuple[str, ...]] = [model.heads] if options.together else [(h,) for h in model.heads]
    shared: dict[str, Any] = {"options": options, "binary": binary, "seed": seed, "negatives": negatives}
    tasks = [HeadTraining(model, heads, train=train, valid=valid, **shared) for heads in groups]
    found = [task for task in tasks if cache is not None and task.restore(cache)]
    report = _run(tasks, valid, options, look=look, progress=progress)
    report = replace(report, found=tuple(head for task in found for head in task.heads))
    if cache is not None:
        for task in tasks:
            if task not in found:
                task.keep(cache)
    logger.info(
        "projectors: epoch %d of %d kept, validation NDCG@10 %.4f, %s, %.0f s%s",
        report.best_epoch,
        len(report.epochs),
        report.valid_ndcg10,
        "converged" if report.converged else f"cut off at {options.epochs} epochs",
        report.seconds,
        f", those of {', '.join(report.found)} found trained" if found else "",
    )
    return report


def initialise_projectors(model: ILLMRec, *, seed: int) -> None:
    """Draw the initial projectors of each feature type by seed and type: they do not depend on the other types."""
    for head in model.heads:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(
                int(np.random.SeedSequence([seed, zlib.crc32(head.encode())]).generate_state(1)[0])
            )
            for projectors in (model.user_projectors, model.item_projectors):
                fresh = copy.deepcopy(projectors[head]).cpu()  # the same on any device
                for module in fresh.modules():
                    if isinstance(module, (nn.Linear, nn.LayerNorm, nn.Embedding)):
                        module.reset_parameters()
                projectors[head].load_state_dict(fresh.state_dict())


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


def _run(
    tasks: Sequence[HeadTraining],
    valid: States,
    options: CachedOptions,
    *,
    look: Callable[[int, float], None] | None,
    progress: bool,
) -> ProjectorReport:
    """Train all, epoch by epoch, until each has converged; leave the best of each."""
    began = time.monotonic()
    before = sum(task.seconds for task in tasks)
    epochs: list[dict[str, float]] = []
    best_epoch = 1
    with tqdm(total=options.epochs, desc="projectors", unit="epoch", disable=not progress) as bar:
        while not epochs or (len(epochs) < options.epochs and not all(task.converged for task in tasks)):
            active = [task for task in tasks if not task.converged]
            factor = max((task.factor for task in active), default=0.0)
            better = [task.epoch() for task in active]
            scores = sum(task.best_scores for task in tasks)
            ranks = target_ranks(np.asarray(scores), np.zeros(len(valid.targets), dtype=np.int64))
            row = {"loss": sum(task.loss for task in tasks)}
            row["learning_rate"] = options.learning_rate * factor
            row["valid_ndcg@10"] = mean_ndcg(ranks, 10)
            row["targets"] = float(max(task.targets for task in tasks))
            epochs.append(row | {"seconds": round(before + time.monotonic() - began, 3)})
            best_epoch = len(epochs) if any(better) else best_epoch
            if look is not None:
                look(len(epochs), row["valid_ndcg@10"])
            bar.update()
            bar.set_postfix_str(f"valid NDCG@10 {row['valid_ndcg@10']:.4f}", refresh=False)
    for task in tasks:
        task.leave_best()
    return ProjectorReport(
        epochs=epochs,
        best_epoch=best_epoch,
        converged=all(task.converged for task in tasks),
        seconds=epochs[-1]["seconds"],
    )
