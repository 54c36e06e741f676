"""A-LLMRec: title and one token of what an item's CF embedding and its text have in common (Kim et al., KDD 2024).

Its first stage aligns the two: an autoencoder of the item's embedding in SASRec and one of its text embedding whose
latent vectors are drawn together, and what the first restores has to recommend as SASRec's embedding did. The latent
vector fills the item's slot. Losses and their weights are those of the paper and of the authors' code.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from baselines.unseen_items import UnseenItems
from illmrec.data.splits import Split
from illmrec.errors import InputError, nearest
from illmrec.features.table import FeatureTable
from illmrec.files import cache_dir, hash_json
from illmrec.locks import exclusive
from illmrec.prompts.segments import Segment, Slot, Text

logger = logging.getLogger(__name__)

_VERSION = 1  # changes when the same options would give another alignment
_USERS_SHOWN = 300_000
_MATCHED = 2000
WIDTH = 128
"""Width of latent vectors, that of the authors' code."""


class ALLMRec:
    """Title and the aligned embedding as one token. Without alignment the slot has SASRec's: :class:`CFToken`."""

    name = "a-llmrec"
    columns: tuple[str, ...] = ("title",)
    slots = ("aligned",)

    def render(self, item: Mapping[str, str], available: frozenset[str]) -> Sequence[Segment]:
        """Return title and slot, in the words of ``cf-token``."""
        return [
            Text(f" {{Title: {item['title']}, Collaborative representation:"),
            Slot("aligned"),
            Text("},"),
        ]


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """The first stage; part of a cell's key.

    Attributes:
        matching: Weight of the squared distance of an item's two latent vectors.
        item_reconstruction: Weight of what is lost of its CF embedding.
        text_reconstruction: Weight of what is lost of its text embedding.
        recommendation: Weight of the cross-entropy between a user's next item and a sampled one.
        width: Width of latent vectors.
        epochs: Passes over the users; ``None`` runs as many as show about 300,000, between 10 and 200.
        batch_size: Users in a step.
        learning_rate: Adam's.
    """

    matching: float = 1.0
    item_reconstruction: float = 0.5
    text_reconstruction: float = 0.2
    recommendation: float = 1.0
    width: int = WIDTH
    epochs: int | None = None
    batch_size: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is out of range, or no loss is left.
        """
        for name in ("width", "epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"alignment: {name} is {value}; give 1 or more")
        weights = [getattr(self, name) for name in LOSSES]
        if not 0 < self.learning_rate < float("inf") or not all(0 <= w < float("inf") for w in weights):
            raise InputError(
                "alignment: the learning rate has to be above 0, and weights of losses 0 or more"
            )
        if not any(weights):
            raise InputError("alignment: no loss has a weight, so that nothing is learnt")

    def epochs_of(self, users: int) -> int:
        """Return the number of epochs for so many users."""
        return self.epochs or min(200, max(10, _USERS_SHOWN // users))


LOSSES = ("matching", "item_reconstruction", "text_reconstruction", "recommendation")
_FULL = AlignmentOptions()
ALIGNMENTS: dict[str, AlignmentOptions | None] = {
    "full": _FULL,
    "no-matching": replace(_FULL, matching=0.0),
    "no-reconstruction": replace(_FULL, item_reconstruction=0.0, text_reconstruction=0.0),
    "no-recommendation": replace(_FULL, recommendation=0.0),
    "none": None,
}
"""Alignments by name: with all losses, without one kind, and SASRec's embedding as it is."""


def alignment_options(name: str) -> AlignmentOptions | None:
    """Return an alignment of ``ALIGNMENTS``.

    Raises:
        InputError: If there is none of that name, with the nearest.
    """
    if name not in ALIGNMENTS:
        raise InputError(f"--alignment {name}: {nearest(name, ALIGNMENTS)}")
    return ALIGNMENTS[name]


def described_alignment(name: str) -> dict[str, Any]:
    """Return an alignment for a cell's configuration."""
    options = alignment_options(name)
    return {"name": name} | ({} if options is None else {"version": _VERSION, **asdict(options)})


class Autoencoder(nn.Module):
    """One layer to a latent vector in (0, 1) and one back, over embeddings that are centred and scaled as a whole.

    Args:
        values: Float32 [items, width], the embeddings whose mean and scale are taken.
        width: Width of latent vectors.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, values: Tensor, *, width: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(values.shape[1], width)
        self.decoder = nn.Linear(width, values.shape[1])
        self.register_buffer("mean", values.mean(0))
        self.register_buffer("scale", (values - values.mean(0)).square().mean().sqrt().clamp_min(1e-6))

    def standardised(self, values: Tensor) -> Tensor:
        """Return embeddings [..., width] centred, and with a mean square of about 1."""
        return (values - self.mean) / self.scale

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return latent vectors [..., latent width] and what is restored of standardised embeddings [..., width]."""
        latent = torch.sigmoid(self.encoder(self.standardised(values)))
        return latent, self.decoder(latent)


def alignment_losses(
    items: Autoencoder, texts: Autoencoder, *, users: Tensor, cf: Tensor, text: Tensor
) -> dict[str, Tensor]:
    """Return the losses of a batch by name, unweighted; each is that of next items plus that of sampled ones.

    Args:
        items: Of CF embeddings.
        texts: Of text embeddings.
        users: Float32 [users, CF width], SASRec's states before the next item.
        cf: Float32 [2, users, CF width], CF embeddings of the next items, then of a sampled one for each.
        text: Float32 [2, users, text width], their text embeddings.
    """
    latent, restored = items(cf)
    text_latent, text_restored = texts(text)
    logits = (users * (restored * items.scale + items.mean)).mean(-1)
    wanted = torch.zeros_like(logits)
    wanted[0] = 1.0
    # Means over both halves at once: twice that is the sum of the two.
    return {
        "matching": 2 * functional.mse_loss(latent, text_latent),
        "item_reconstruction": 2 * functional.mse_loss(restored, items.standardised(cf)),
        "text_reconstruction": 2 * functional.mse_loss(text_restored, texts.standardised(text)),
        "recommendation": 2 * functional.binary_cross_entropy_with_logits(logits, wanted),
    }


class SequentialModel(Protocol):
    """What gives users' states: SASRec."""

    def states(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, width], whose products with item embeddings are scores."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """What the first stage learnt.

    Attributes:
        values: Float32 [n_items, width]: the latent vector of the CF embedding, or of the text alone where no user has
            the item in training.
        losses: By name, mean of each epoch.
        matched: Share of items, of up to 2,000 in training, whose CF latent vector has its own text as nearest.
        seconds: Wall-clock time.
    """

    values: np.ndarray
    losses: dict[str, list[float]] = field(default_factory=dict)
    matched: float
    seconds: float


def aligned_features(
    split: Split,
    *,
    cf: FeatureTable,
    texts: FeatureTable,
    sasrec: Callable[[], SequentialModel],
    alignment: str = "full",
    seed: int,
    cache: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> FeatureTable:
    """Return the items' aligned embeddings, trained once per CF and text table, seed and alignment.

    Args:
        split: Only its training part is read: a user's last training item is the next item of those before it.
        cf: CF features.
        texts: Text features.
        sasrec: Returns the model that the CF features are of; asked only where the alignment is to be trained.
        alignment: Of ``ALIGNMENTS``; for ``none`` there is nothing to train, and the CF features are returned.
        seed: Of initial parameters, order and sampled items.
        cache: Folder that holds ``features/<key>/``; by default the user's cache.
        device: Where to train; not part of the key.
        progress: Show a progress bar.

    Raises:
        InputError: If there is no such alignment, nothing can be learnt or the cache cannot be written.
    """
    options = alignment_options(alignment)
    if options is None:
        return cf
    described = {
        "encoder": "a-llmrec-alignment",
        "options": described_alignment(alignment),
        "seed": seed,
        "cf": cf.key,
        "text": texts.key,
    }
    directory = (cache or cache_dir()) / "features" / hash_json(described)
    if (table := FeatureTable.found(directory)) is not None:
        return table
    with exclusive(directory, "alignment of CF and text"):
        if (
            table := FeatureTable.found(directory)
        ) is not None:  # another process finished it while this one waited
            return table
        found = align(
            split,
            cf=np.asarray(cf.values),
            texts=np.asarray(texts.values),
            sasrec=sasrec(),
            options=options,
            seed=seed,
            device=device,
            progress=progress,
        )
        epochs = {name: [values[0], values[-1]] for name, values in found.losses.items()}
        meta = {**described, "losses": epochs, "matched": found.matched, "seconds": found.seconds}
        return FeatureTable.save(directory, found.values, np.ones(len(found.values), dtype=bool), meta)


def align(
    split: Split,
    *,
    cf: np.ndarray,
    texts: np.ndarray,
    sasrec: SequentialModel,
    options: AlignmentOptions,
    seed: int,
    device: str = "cpu",
    progress: bool = True,
) -> Alignment:
    """Train the first stage; the last epoch is kept, as published. See :func:`aligned_features`."""
    begun = time.perf_counter()
    random = np.random.default_rng([seed, 5])
    learners = split.learners
    known = np.unique(split.train_items())
    unseen = UnseenItems(
        users=split.train_users(), items=split.train_items().astype(np.int64), n_items=len(cf)
    )
    histories = [split.train(int(user)) for user in learners]
    users = torch.from_numpy(sasrec.states([history[:-1] for history in histories])).to(device)
    following = np.array([history[-1] for history in histories], dtype=np.int64)
    # Copies: tables on disk are read-only.
    tables = [torch.from_numpy(np.array(table, dtype=np.float32)) for table in (cf, texts)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sides = [Autoencoder(table[torch.from_numpy(known)], width=options.width) for table in tables]
    network = nn.ModuleList(sides).to(device)
    items, text = sides
    values, meanings = (table.to(device) for table in tables)
    optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate, betas=(0.9, 0.98))
    losses: dict[str, list[float]] = {name: [] for name in LOSSES}
    steps = max(1, len(learners) // options.batch_size)
    for _ in tqdm(range(options.epochs_of(len(learners))), desc="alignment", disable=not progress):
        sums = dict.fromkeys(LOSSES, 0.0)
        sampled = unseen.draw(learners, random)
        for rows in np.array_split(random.permutation(len(learners)), steps):
            shown = torch.from_numpy(np.stack([following[rows], sampled[rows]])).to(device)
            at = torch.from_numpy(rows).to(device)
            parts = alignment_losses(items, text, users=users[at], cf=values[shown], text=meanings[shown])
            weighted = [getattr(options, name) * part for name, part in parts.items()]
            optimiser.zero_grad(set_to_none=True)
            torch.stack(weighted).sum().backward()
            optimiser.step()
            for name, part in parts.items():
                sums[name] += float(part.detach()) / steps
        for name, value in sums.items():
            losses[name].append(value)
    if not np.isfinite([part[-1] for part in losses.values()]).all():
        raise InputError(
            "alignment of CF and text: the loss is not finite; CF or text features are too large"
        )
    with torch.no_grad():
        latent, text_latent = (side(table)[0].cpu() for side, table in ((items, values), (text, meanings)))
    joint = text_latent.clone()
    joint[torch.from_numpy(known)] = latent[torch.from_numpy(known)]
    found = Alignment(
        values=joint.numpy(),
        losses=losses,
        matched=_matched(latent, text_latent, known),
        seconds=time.perf_counter() - begun,
    )
    logger.info(
        "alignment of CF and text: matching %.4f after %.4f, %.0f %% of the items nearest to their own text, %.0f s",
        losses["matching"][-1], losses["matching"][0], 100 * found.matched, found.seconds,
    )  # fmt: skip
    return found


def _matched(latent: Tensor, text_latent: Tensor, known: np.ndarray) -> float:
    """Return the share of known items whose latent vector is nearest to that of their own text among others'."""
    chosen = known if len(known) <= _MATCHED else np.random.default_rng(0).choice(known, _MATCHED, False)
    rows = torch.from_numpy(chosen)
    nearest_text = torch.cdist(latent[rows], text_latent[rows]).argmin(1)
    return float((nearest_text == torch.arange(len(rows))).float().mean())
