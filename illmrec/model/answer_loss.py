"""The loss of RISA answers without keeping logits: cross-entropy over the vocabulary, a chunk of tokens at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNK = 256
"""Answer tokens whose logits exist at a time: 50 MB in float32 for 49,152 words."""


@dataclass(frozen=True, kw_only=True)
class Logits:
    """What an LLM does with the output of its head before it is a logit.

    Attributes:
        scale: It is multiplied by this (Cohere, Granite).
        cap: It is squashed to this size by tanh (Gemma 2); ``None`` leaves it.
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, outputs: Tensor) -> Tensor:
        """Return the logits of the head's outputs."""
        if self.scale != 1.0:
            outputs = outputs * self.scale
        return outputs if self.cap is None else torch.tanh(outputs / self.cap) * self.cap

    def backward_(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """Turn the logits' gradient, in place, into that of the head's outputs."""
        if self.cap is not None:
            gradient.mul_(1 - (logits / self.cap).square())
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


def answer_loss(
    head: nn.Module,
    states: Tensor,
    answer_ids: Tensor,
    *,
    logits: Logits | None = None,
    chunk: int = CHUNK,
    plain: bool = False,
) -> Tensor:
    """Return the cross-entropy of answer tokens, summed (L_RISA, section 3.2).

    A frozen head's gradient is computed together with the loss, so that no logits outlive their chunk; the logits of a
    head that learns are kept for its backward pass.

    Args:
        head: The LM head, a linear map from hidden states.
        states: Float32 [tokens, width], the states that predict them.
        answer_ids: Int64 [tokens].
        logits: What the LLM makes of the head's outputs; ``None`` takes them as they are.
        chunk: Tokens whose logits exist at a time.
        plain: Keep the logits of all tokens, and let autograd find the gradient.
    """
    logits = Logits() if logits is None else logits
    if plain:
        outputs = head(states.to(next(head.parameters()).dtype)).float()
        return functional.cross_entropy(logits(outputs), answer_ids, reduction="sum")
    frozen = not any(parameter.requires_grad for parameter in head.parameters())
    if frozen and isinstance(head, nn.Linear):
        loss: Tensor = _FrozenHeadLoss.apply(states, answer_ids, head, logits, chunk)
        return loss
    dtype = next(head.parameters()).dtype
    losses = [
        functional.cross_entropy(logits(head(part.to(dtype)).float()), ids, reduction="sum")
        for part, ids in zip(states.split(chunk), answer_ids.split(chunk), strict=True)
    ]
    return torch.stack(losses).sum()


class _FrozenHeadLoss(torch.autograd.Function):
    """Cross-entropy behind a frozen linear head; softmax less one-hot, times its weights, is the states' gradient."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, answer_ids: Tensor, head: nn.Linear, transform: Logits, chunk: int
    ) -> Tensor:
        gradient = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        loss = states.new_zeros(())
        start = 0
        for part, ids in zip(states.split(chunk), answer_ids.split(chunk), strict=True):
            logits = transform(head(part.to(head.weight.dtype)).float())
            normaliser = logits.logsumexp(dim=1, keepdim=True)
            loss += (normaliser - logits.gather(1, ids[:, None])).sum()
            if gradient is not None:
                excess = (logits - normaliser).exp_() if transform.cap else logits.sub_(normaliser).exp_()
                excess.scatter_add_(1, ids[:, None], -torch.ones_like(normaliser))
                transform.backward_(excess, logits)
                gradient[start : start + len(ids)] = excess.to(head.weight.dtype) @ head.weight
            start += len(ids)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradients[0] * gradient, None, None, None, None
