"""Affinities of users and items: what is read of histories and what is known of items, projected into one space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from illmrec.model.heads import Form
from illmrec.model.retrieval_loss import binary_loss, plain_retrieval_loss, softmax_loss


class Affinities(nn.Module, ABC):
    """RERI's side of a model (paper sections 3.3 and 3.4), whatever reads the histories.

    Attributes:
        heads: Feature types that score items.
        form: The form of projectors, their inputs and affinities.
        shared: Width d of the recommendation space.
        user_projectors: For each head, of what is read out.
        item_projectors: For each head, of an item's features.
        rec_mean: Float32 [width of the readout], the mean over users of what is read out.
        rec_scale: Float32 [width of the readout], its deviation.
    """

    heads: tuple[str, ...]
    form: Form
    shared: int
    user_projectors: nn.ModuleDict
    item_projectors: nn.ModuleDict
    rec_mean: Tensor
    rec_scale: Tensor

    @property
    @abstractmethod
    def plain(self) -> bool:
        """Whether every fast path is off."""

    @abstractmethod
    def features(self, name: str) -> Tensor:
        """Return what the projector of a head reads of every item."""

    @torch.inference_mode()
    def standardise_by(self, states: Tensor) -> None:
        """Set it by what was read out after some histories, float32 [histories, width], as :meth:`calibrate` does.

        Raw inputs are left as they are.
        """
        if self.form.inputs == "raw":
            return
        self.rec_mean.copy_(states.mean(dim=0))
        self.rec_scale.copy_(states.std(dim=0).clamp_min(1e-6))

    def standardised(self, states: Tensor) -> Tensor:
        """Return what was read out, float32 [users, width of the readout], as :meth:`calibrate` said."""
        return (states - self.rec_mean) / self.rec_scale

    def project_users(self, states: Tensor) -> Tensor:
        """Return float32 [users, heads, shared] of what was read out; a dot product with an item's is an affinity."""
        return self.project_standardised(self.standardised(states))

    def project_standardised(self, states: Tensor, *, heads: Sequence[str] | None = None) -> Tensor:
        """Return float32 [users, heads, shared], as :meth:`project_users`, of states that are standardised already.

        Args:
            states: Float32 [users, width of the readout].
            heads: Some feature types; ``None`` for all.
        """
        chosen = self.heads if heads is None else heads
        users = torch.stack([self.user_projectors[head](states) for head in chosen], dim=1)
        return users if self.form.affinity == "dot" else users * self.shared**-0.5

    def project_items(self, items: Tensor | None = None, *, heads: Sequence[str] | None = None) -> Tensor:
        """Return float32 [items, heads, shared] of some items, or of the whole catalogue.

        Args:
            items: Int64 [items], row numbers; ``None`` for all.
            heads: Some feature types; ``None`` for all.
        """
        chosen = self.heads if heads is None else heads
        tables = [self.features(head) if items is None else self.features(head)[items] for head in chosen]
        return torch.stack(
            [self.item_projectors[head](table) for head, table in zip(chosen, tables, strict=True)], dim=1
        )

    def retrieval_loss(
        self,
        states: Tensor,
        targets: Tensor,
        *,
        negatives: Tensor | None = None,
        reduction: Literal["sum", "mean"] = "sum",
    ) -> Tensor:
        """Return the sum over feature types of L_RERI, summed over users (equations 1 and 2).

        Args:
            states: Float32 [users, width of the readout].
            targets: Int64 [users], the next items.
            negatives: Int64 [users, heads], one sampled item for each user and feature type: binary cross-entropy
                as in the paper. ``None``: cross-entropy over the catalogue.
            reduction: ``mean`` takes the mean over feature types in place of their sum.
        """
        users = self.project_users(states)
        share = 1 / len(self.heads) if reduction == "mean" else 1.0
        if self.plain:
            return share * plain_retrieval_loss(users, self.project_items(), targets, negatives)
        if negatives is None:
            return share * softmax_loss(users, self.project_items(), targets)
        # Each item is projected once per step however often it was drawn.
        pairs = torch.cat([targets[:, None].expand_as(negatives), negatives])
        unique, at = torch.unique(pairs, return_inverse=True)
        return share * binary_loss(users, self.project_items(unique), at)

    @torch.inference_mode()
    def catalogue(self, *, heads: Sequence[str] | None = None) -> Tensor:
        """Return the catalogue's projections side by side, float32 [n_items, heads * shared].

        A user's projections side by side times these is the sum of affinities: one matrix product. They hold for
        one set of parameters; who serves many requests computes them once and hands them to :meth:`score`.

        Args:
            heads: Some feature types; ``None`` for all.
        """
        return self.project_items(heads=heads).flatten(1)
