"""Losses of RERI: which item of the catalogue comes next (section 3.3), without keeping a logit of it.

Affinities of all users and items are ``[heads, users, items]``. They exist for some users at a time, and their gradient
is computed together with the loss: memory is bounded by ``LOGITS`` numbers besides the projections and their gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LOGITS = 1 << 25
"""Affinities that exist at a time, 128 MB in float32; their gradient takes as much again."""


def softmax_loss(users: Tensor, items: Tensor, targets: Tensor, *, together: bool = False) -> Tensor:
    """Return the cross-entropy over the catalogue, a softmax for each feature type, summed over types and users.

    Args:
        users: Float32 [users, heads, shared].
        items: Float32 [items, heads, shared], all items.
        targets: Int64 [users], rows of ``items``.
        together: Add the cross-entropy of the sum of affinities, by which items are ranked (section 3.4).
    """
    loss: Tensor = _Softmax.apply(users, items, targets, None, together)
    return loss


def sampled_softmax_loss(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    *,
    sampled: Tensor,
    expected: Tensor,
    together: bool = False,
) -> Tensor:
    """Return an estimate of :func:`softmax_loss` from some items of the catalogue.

    A user's own target counts as it is; every other sampled item stands for as many as it was unlikely to be drawn: its
    affinity is lowered by the logarithm of how often it was expected in the sample (the logQ correction). So the sum
    inside the softmax is right on average. Draws of the target itself are left out.

    Args:
        users: Float32 [users, heads, shared].
        items: Float32 [distinct items, heads, shared]: projections of the items that are targets or sampled.
        targets: Int64 [users], rows of ``items``.
        sampled: Int64 [distinct items], how often each was drawn as a negative.
        expected: Float32 [distinct items], how often each was expected to be; above 0.
        together: As for :func:`softmax_loss`.
    """
    weight = torch.log(sampled.to(expected.dtype) / expected)  # -inf where nothing was drawn
    loss: Tensor = _Softmax.apply(users, items, targets, weight, together)
    return loss


def binary_loss(users: Tensor, items: Tensor, at: Tensor) -> Tensor:
    """Return L_RERI of equation 1, binary cross-entropy summed over feature types and users.

    Args:
        users: Float32 [users, heads, shared].
        items: Float32 [distinct items, heads, shared].
        at: Int64 [2 * users, heads], rows of ``items``: the next items, then a sampled one for each.
    """
    heads = torch.arange(users.shape[1], device=at.device).expand_as(at)
    affinities = (torch.cat([users, users]) * items[at, heads]).sum(-1)
    positive, negative = affinities.split(len(users))
    return (functional.softplus(-positive) + functional.softplus(negative)).sum()


def plain_retrieval_loss(users: Tensor, items: Tensor, targets: Tensor, negatives: Tensor | None) -> Tensor:
    """Return what :func:`softmax_loss`, or with negatives :func:`binary_loss`, does, by PyTorch's own losses.

    Args:
        users: Float32 [users, heads, shared].
        items: Float32 [items, heads, shared], all items.
        targets: Int64 [users], rows of ``items``.
        negatives: Int64 [users, heads], a sampled item for each; ``None``: cross-entropy over the catalogue.
    """
    loss = users.new_zeros(())
    for head in range(users.shape[1]):
        affinities = users[:, head] @ items[:, head].T
        if negatives is None:
            loss = loss + functional.cross_entropy(affinities, targets, reduction="sum")
            continue
        for rows, label in ((targets, 1.0), (negatives[:, head], 0.0)):
            one = affinities.gather(1, rows[:, None])[:, 0]
            loss = loss + functional.binary_cross_entropy_with_logits(
                one, torch.full_like(one, label), reduction="sum"
            )
    return loss


class Sampler:
    """Draws the negatives of a sampled softmax: the targets of the batch, and as many uniform ones as are wanted.

    Args:
        frequency: Float64 [n_items], how often each item is a target; in a batch it is expected in proportion.
        uniform: Uniformly drawn items in a batch.
    """

    def __init__(self, frequency: np.ndarray, *, uniform: int) -> None:
        self._share = frequency / frequency.sum()
        self._uniform = uniform

    def draw(
        self, targets: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return a batch's distinct items, the targets' rows among them, and what was drawn.

        Args:
            targets: Int64 [users].
            generator: Source of randomness.

        Returns:
            Int64 [distinct items]; int64 [users]; int64 and float32 [distinct items], how often each was drawn and
            was expected to be.
        """
        n_items = len(self._share)
        drawn = np.concatenate([targets, generator.integers(n_items, size=self._uniform)])
        items, at, counts = np.unique(drawn, return_inverse=True, return_counts=True)
        expected = len(targets) * self._share[items] + self._uniform / n_items
        return items, at[: len(targets)], counts, expected.astype(np.float32)


class _Softmax(torch.autograd.Function):
    """Cross-entropy of affinities plus a weight for each item; gradients by users and items come with the loss."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        targets: Tensor,
        weight: Tensor | None,
        together: bool,
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:2])
        of_users, of_items = torch.zeros_like(users), torch.zeros_like(items)
        loss = users.new_zeros((), dtype=torch.float64)
        chunk = max(1, LOGITS // (len(items) * users.shape[1]))
        for start in range(0, len(users), chunk):
            part, own = users[start : start + chunk], targets[start : start + chunk]
            affinities = torch.einsum("uhd,ihd->hui", part, items)
            gradient = None
            for logits in (affinities, affinities.sum(0, keepdim=True)) if together else (affinities,):
                value, excess = _cross_entropy(logits, own, weight)
                loss += value.double()
                gradient = excess if gradient is None else gradient.add_(excess)
            if wanted and gradient is not None:
                of_users[start : start + chunk] = torch.einsum("hui,ihd->uhd", gradient, items)
                of_items += torch.einsum("hui,uhd->ihd", gradient, part)
        ctx.save_for_backward(of_users, of_items)
        return loss.to(users.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        of_users, of_items = ctx.saved_tensors
        return gradients[0] * of_users, gradients[0] * of_items, None, None, None


def _cross_entropy(logits: Tensor, targets: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the summed loss and its gradient by the logits, [heads, users, items], in their place."""
    at = targets.expand(len(logits), -1)[..., None]
    own = logits.gather(2, at)
    if weight is not None:
        logits.add_(weight).scatter_(2, at, own)
    normaliser = logits.logsumexp(dim=2, keepdim=True)
    excess = logits.sub_(normaliser).exp_()
    return (normaliser - own).sum(), excess.scatter_add_(2, at, -torch.ones_like(own))
