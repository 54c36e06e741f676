"""An LLM that is trained: a private copy of a frozen one, whole, its word embeddings alone, or with low-rank matrices
beside its weights (LoRA).

The frozen LLM is shared by many models and is never touched.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from illmrec.errors import InputError
from illmrec.model.backbone import Backbone

Strategy = Literal["frozen", "lora", "embeddings", "end-to-end", "two-stage", "cached"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

LORA_RANK, LORA_ALPHA = 8, 16


def tuned_backbone(
    backbone: Backbone,
    *,
    strategy: Strategy,
    lora_rank: int = LORA_RANK,
    lora_alpha: int = LORA_ALPHA,
    seed: int = 0,
) -> Backbone:
    """Return the LLM that a model of this strategy reads with; what is trained in it requires a gradient.

    Args:
        backbone: The frozen LLM.
        strategy: ``end-to-end`` gives a copy of which every weight is trained, in the LLM's data type; ``lora`` one
            that shares the frozen weights and has trained float32 matrices beside every linear layer of its blocks
            (paper D.2); ``embeddings`` one that shares all weights but the token embedding table, which is trained in
            the LLM's data type (a head that was tied to it keeps the frozen one); ``frozen``, ``two-stage`` and
            ``cached`` the LLM itself.
        lora_rank: Rank of those matrices.
        lora_alpha: Their product is scaled by this over the rank.
        seed: Of their initial values; their product is zero, so that a new copy computes what the LLM does.

    Raises:
        InputError: If LoRA is wanted and peft is not installed, or weights in float16 are to be trained.
    """
    if strategy in ("end-to-end", "embeddings") and backbone.dtype == torch.float16:
        raise InputError(
            f"strategy {strategy}: gradients underflow in float16; use --dtype bfloat16 or float32"
        )
    if strategy == "embeddings":
        return replace(backbone, model=_with_own_embeddings(backbone))
    if strategy == "end-to-end":
        return replace(backbone, model=copy.deepcopy(backbone.model).requires_grad_(True))
    if strategy == "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _with_lora(backbone, rank=lora_rank, alpha=lora_alpha)
        return replace(backbone, model=model)
    return backbone


class TrainedWeights(nn.Module):
    """The parameters of an LLM that require a gradient, under their own names with ``/`` for ``.``.

    As a part of a model it makes them parameters of the model: trained, counted, saved and loaded with it. Weights
    that are tied are there once.

    Args:
        llm: The LLM that holds them.
    """

    def __init__(self, llm: nn.Module) -> None:
        super().__init__()
        for name, parameter in llm.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)


def _with_own_embeddings(backbone: Backbone) -> Any:
    """Return a copy of modules with frozen weights shared, and a token embedding table of its own, which is trained."""
    model = _sharing_weights(backbone.model)
    words = model.get_input_embeddings()
    words.weight = nn.Parameter(words.weight.detach().clone())
    return model


def _sharing_weights(frozen: Any) -> Any:
    """Return a copy of an LLM's modules; their weights are not copied."""
    return copy.deepcopy(frozen, {id(tensor): tensor for tensor in (*frozen.parameters(), *frozen.buffers())})


def _with_lora(backbone: Backbone, *, rank: int, alpha: int) -> Any:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise InputError(
            "strategy lora: peft is not installed; run 'python -m pip install peft' or leave that strategy out"
        ) from None
    model = _sharing_weights(backbone.model)  # LoRA leaves weights as they are
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear")
    inject_adapter_in_model(config, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model.eval()
