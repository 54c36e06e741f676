"""What fills an item's slot: its feature, or a control that tells what the feature is worth there."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

SlotContent = Literal["features", "shuffled", "zero", "noise"]


def changed_slots(features: Tensor, content: SlotContent, *, seed: int) -> Tensor:
    """Return the table that fills slots; what scores items is not touched.

    ``shuffled`` gives each item the feature of another: what a picture of this kind is worth, whatever it shows.
    ``noise`` has normal numbers of the same scale, the same for an item each time: an item can be told from others, and
    that is all. ``zero`` has nothing but the slot.

    Args:
        features: Float32 [n_items, width], unit mean square per row.
        content: Which.
        seed: Of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    if content == "shuffled":
        order = torch.randperm(len(features), generator=generator)
        # Along one cycle, so that no item keeps its own.
        given = torch.empty_like(order)
        given[order] = order.roll(1)
        return features[given.to(features.device)]
    if content == "noise":
        return torch.randn(features.shape, generator=generator).to(features)
    return torch.zeros_like(features) if content == "zero" else features


def slot_rows(table: Tensor, items: Tensor, *, vectors: int = 1) -> Tensor:
    """Return the feature that stands in each slot, [slots, width of a vector].

    Args:
        table: [n_items, vectors * width of a vector].
        items: Int64 [slots], whose feature it is; an item's slots follow one another and take its vectors in turn.
        vectors: Vectors of an item.
    """
    if vectors == 1:
        return table[items]
    parts = torch.arange(len(items), device=items.device) % vectors
    return table.view(len(table) * vectors, -1)[items * vectors + parts]


def embedded_rows(table: np.ndarray, items: np.ndarray, *, vectors: int) -> Tensor:
    """Return the same as :func:`slot_rows` of a table on disk, of which it reads no other rows."""
    parts = np.arange(len(items)) % vectors
    return torch.from_numpy(table.reshape(len(table) * vectors, -1)[items * vectors + parts])
