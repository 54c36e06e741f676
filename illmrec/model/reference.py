"""What an LLM itself computes: its own forward pass over one prompt, with its own attention, no cache and no padding.

The engine is compared with it when an LLM is first used (:mod:`illmrec.model.check`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from illmrec.model.backbone import Backbone
from illmrec.model.separate import forget_stretching


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the LLM gives for one prompt.

    Attributes:
        states: Float32 [tokens, width], what its transformer hands to what comes after it.
        logits: Float32 [tokens, vocabulary].
    """

    states: Tensor
    logits: Tensor


def plain_outputs(
    backbone: Backbone, *, ids: Tensor | None = None, embeddings: Tensor | None = None
) -> Outputs:
    """Run the whole LLM over one prompt.

    Args:
        backbone: The LLM.
        ids: Int64 [tokens], or
        embeddings: [tokens, width].
    """
    kept: list[Tensor] = []

    def keep(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        kept.append(output[0])

    forget_stretching(backbone.model)
    backbone.model.set_attn_implementation("eager")
    handle = backbone.trunk.register_forward_hook(keep)
    try:
        if embeddings is not None:
            output = backbone.model(inputs_embeds=embeddings[None], use_cache=False)
        else:
            output = backbone.model(input_ids=None if ids is None else ids[None], use_cache=False)
    finally:
        handle.remove()
    return Outputs(states=kept[-1][0].float(), logits=output.logits[0].float())


@contextmanager
def windows_of(backbone: Backbone, size: int) -> Iterator[bool]:
    """Make sliding windows short, in the LLM's configuration and in its blocks, so that short prompts exceed them.

    Yields:
        Whether there are any.
    """
    places: dict[int, Any] = {}
    for module in backbone.model.modules():
        for place in (module, getattr(module, "config", None)):
            if place is not None:
                places[id(place)] = place
    text_config = backbone.model.config.get_text_config()
    places[id(text_config)] = text_config
    changed = []
    for place in places.values():
        window = getattr(place, "sliding_window", None)
        if isinstance(window, int) and not isinstance(window, bool) and window > size:
            changed.append((place, window))
    try:
        for place, _ in changed:
            place.sliding_window = size
        yield bool(changed)
    finally:
        for place, window in changed:
            place.sliding_window = window
