"""One feature type's projectors: trained on stored states an epoch at a time, kept, and found again."""

from __future__ import annotations

import hashlib
import json
import math
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from illmrec.errors import DivergedError
from illmrec.files import atomic_directory, hash_json, parsed_json
from illmrec.model import processes
from illmrec.model.heads import Form
from illmrec.model.illmrec import ILLMRec
from illmrec.model.retrieval_loss import Sampler, binary_loss, sampled_softmax_loss, softmax_loss
from illmrec.ranking import mean_ndcg, target_ranks
from illmrec.training.options import CachedOptions

EXACT_ITEMS = 50_000
"""A softmax over a larger catalogue is estimated from a sample unless the options say otherwise."""
_SAMPLED_ITEMS = 8192
_DECAY = 0.3
_VERSION = 1
_META, _PARAMETERS = "meta.json", "projectors.safetensors"
_SCORED = 1 << 25


@dataclass(frozen=True, kw_only=True)
class States:
    """States and what comes next.

    Attributes:
        values: [positions, width], standardised; may lie on disk.
        targets: Int64 [positions].
        key: Stands for the values, where a table holds them.
    """

    values: Tensor
    targets: np.ndarray
    key: str = ""


class HeadTraining:
    """Projectors of one feature type, or of several that are trained as one.

    Args:
        model: The model.
        heads: The feature types.
        train: States of the training positions.
        valid: One state a user, of validation.
        negatives: Int [users, n], items for ranking validation targets.
        options: How they are trained.
        binary: Binary cross-entropy instead of a softmax.
        seed: Of batches, dropout and negatives.
    """

    def __init__(
        self,
        model: ILLMRec,
        heads: tuple[str, ...],
        *,
        train: States,
        valid: States,
        negatives: np.ndarray,
        options: CachedOptions,
        binary: bool,
        seed: int,
    ) -> None:
        self.model, self.heads, self.train, self.valid = model, heads, train, valid
        self.options, self.binary, self.seed = options, binary, seed
        # The target comes first: its row among its candidates is 0.
        self.candidates = np.concatenate([valid.targets[:, None], negatives], axis=1)
        drawn = [seed, zlib.crc32("+".join(heads).encode())]
        self.generator = np.random.default_rng(drawn)
        self.noise = torch.Generator().manual_seed(int(np.random.SeedSequence(drawn).generate_state(1)[0]))
        self.parameters = [
            parameter
            for projectors in (model.user_projectors, model.item_projectors)
            for head in heads
            for parameter in projectors[head].parameters()
        ]
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
        self.steps = self.epochs = self.targets = 0
        self.factor, self.loss, self.seconds = 1.0, math.nan, 0.0
        self.converged = False
        self.best_scores = np.zeros(self.candidates.shape, dtype=np.float32)
        self._initial = [parameter.detach().clone() for parameter in self.parameters]
        self._best: list[Tensor] = self._initial
        self._value, self._since, self._decays = -1.0, 0, options.decays

    def epoch(self) -> bool:
        """Go through all positions once, validate, and tell whether that was the best so far."""
        began = time.monotonic()
        self.loss = self._train()
        self.epochs += 1
        self.targets += len(self.train.targets)
        scores = self._scores()
        ranks = target_ranks(scores, np.zeros(len(scores), dtype=np.int64))
        better = (value := mean_ndcg(ranks, 10)) > self._value
        if better:
            self._best = [parameter.detach().clone() for parameter in self.parameters]
            self._value, self._since, self.best_scores = value, 0, scores
        else:
            self._since += 1
            if self._since >= self.options.patience:
                self.converged = self._decays == 0
                self._decays, self.factor, self._since = self._decays - 1, self.factor * _DECAY, 0
                self.leave_best()
        self.seconds += time.monotonic() - began
        return better

    @torch.no_grad()
    def leave_best(self) -> None:
        """Put the projectors of the best epoch into the model."""
        for parameter, value in zip(self.parameters, self._best, strict=True):
            parameter.copy_(value)

    def restore(self, cache: Path) -> bool:
        """Take trained projectors from a cache and tell whether it has them."""
        folder = cache / self._key
        if not (folder / _META).is_file():
            return False
        meta = parsed_json((folder / _META).read_text())
        stored = load_file(folder / _PARAMETERS)
        self._best = [stored[str(number)] for number in range(len(self.parameters))]
        self.leave_best()
        self.converged, self.factor = bool(meta["converged"]), float(meta["factor"])
        self.loss, self.seconds = float(meta["loss"]), float(meta["seconds"])
        self.epochs, self.targets = int(meta["epochs"]), int(meta["targets"])
        self.best_scores = self._scores()
        return True

    def keep(self, cache: Path) -> None:
        """Write trained projectors to a cache, whole or not at all; those that were cut off are not kept."""
        if not self.converged or not processes.is_main():
            return
        names = ("converged", "factor", "loss", "seconds", "epochs", "targets")
        meta = {"heads": self.heads, **{name: getattr(self, name) for name in names}}
        tensors = {str(n): value.detach().cpu().contiguous() for n, value in enumerate(self._best)}
        with atomic_directory(cache / self._key) as folder:
            save_file(tensors, folder / _PARAMETERS)
            (folder / _META).write_text(json.dumps(meta))

    @property
    def _key(self) -> str:
        """Everything that the trained projectors depend on."""
        backbone = self.model.engine.backbone
        arrays = [
            *(value.cpu().numpy() for value in self._initial),
            *(self.model.features(head).cpu().numpy() for head in self.heads),
            *(self.train.targets, self.valid.targets, self.candidates),
        ]
        return hash_json(
            {
                "version": _VERSION,
                "states": self.train.key,
                "heads": self.heads,
                # Only what has converged is kept, whatever more was allowed.
                "options": {
                    name: value for name, value in self.options.described().items() if name != "epochs"
                },
                "binary": self.binary,
                # Added later: what was kept before has these forms.
                **{
                    name: value
                    for name, value in asdict(self.model.form).items()
                    if name in ("projector", "affinity") and value != getattr(Form(), name)
                },
                "seed": self.seed,
                "products": [backbone.device.type, str(backbone.dtype)],
                "arrays": [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays],
            }
        )

    def _train(self) -> float:
        """Go through all positions once and return the mean loss of a target."""
        options, count = self.options, len(self.train.targets)
        batches = max(1, round(count / options.batch_size))
        total = 0.0
        for rows in np.array_split(self.generator.permutation(count), batches):
            self.steps += 1
            # Adam's first steps are as large as later ones on estimates of a few batches.
            warm = min(1.0, self.steps / options.warm_up_steps) if options.warm_up_steps else 1.0
            for group in self.optimiser.param_groups:
                group["lr"] = options.learning_rate * self.factor * warm
            rows.sort()  # reads the disk in order
            loss = self._loss(rows)
            self.optimiser.zero_grad()
            (loss / len(rows)).backward()
            self.optimiser.step()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise DivergedError("the loss is not finite: lower the learning rate")
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
            users = model.project_standardised(states, heads=self.heads)
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
            projected = self.model.project_items(items, heads=self.heads)
        return projected.float()

    def _binary(self, users: Tensor, targets: np.ndarray) -> Tensor:
        shape = (len(targets), len(self.heads))
        drawn = self.generator.integers(self.model.n_items - 1, size=shape)
        drawn += drawn >= targets[:, None]  # any item but the target
        pairs = torch.from_numpy(np.concatenate([np.broadcast_to(targets[:, None], shape), drawn]))
        items, at = torch.unique(pairs.to(users.device), return_inverse=True)
        return binary_loss(users, self._items(items), at)

    @torch.inference_mode()
    def _scores(self) -> np.ndarray:
        """Return affinities of validation users with their candidates, float32 [users, 1 + n], the target first."""
        model, valid, heads = self.model, self.valid, self.heads
        found = []
        whole = model.catalogue(heads=heads) if model.n_items <= EXACT_ITEMS else None
        chunk = max(1, _SCORED // (self.candidates.shape[1] * model.shared * len(heads)))
        chunk = chunk if whole is None else max(1, _SCORED // model.n_items)
        for start in range(0, len(self.candidates), chunk):
            part = self.candidates[start : start + chunk]
            states = valid.values[start : start + chunk].to(model.rec.device).float()
            users = model.project_standardised(states, heads=heads).flatten(1)
            if whole is None:
                items, at = np.unique(part, return_inverse=True)
                rows = torch.from_numpy(items).to(users.device)
                projected = model.project_items(rows, heads=heads).flatten(1)
            else:
                projected, at = whole, part
            scores = (users @ projected.T).cpu().numpy()
            found.append(np.take_along_axis(scores, at.reshape(part.shape), axis=1))
        return np.concatenate(found)
