"""Patches of an image encoder, averaged over the cells of a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from illmrec.errors import UnsupportedError

_REMEDY = "take one image token, or an encoder with patches (--vision), such as a CLIP or SigLIP model"


def patch_maps(states: Tensor | None, pixels: tuple[int, ...], *, patch_size: Any, subject: str) -> Tensor:
    """Return the states of an encoder's patches as maps, [batch, width, rows of patches, columns of patches].

    Args:
        states: The last layer's, [batch, patches or patches and a class token before them, width].
        pixels: Height and width of the pictures.
        patch_size: Edge of a patch in pixels, as the encoder's configuration has it.
        subject: The beginning of the message.

    Raises:
        UnsupportedError: If these are not the patches of a grid.
    """
    if isinstance(patch_size, int) and states is not None and states.ndim == 3:
        rows, columns = (edge // patch_size for edge in pixels)
        before = states.shape[1] - rows * columns
        if before in (0, 1):
            return states[:, before:].transpose(1, 2).unflatten(2, (rows, columns))
    raise UnsupportedError(
        f"{subject} gives one vector of a picture and no patches that lie in a grid; {_REMEDY}"
    )


def cell_means(maps: Tensor, *, rows: int, columns: int, subject: str) -> np.ndarray:
    """Return means over the cells of a grid, float32 [batch, rows * columns, width].

    Cells go from left to right, then down. Where places do not divide evenly, neighbouring cells share one.

    Args:
        maps: [batch, width, height, width of the map].
        rows: Of cells.
        columns: Of cells.
        subject: The beginning of the message.

    Raises:
        UnsupportedError: If there are fewer places than cells in a direction.
    """
    height, width = maps.shape[2:]
    if rows > height or columns > width:
        raise UnsupportedError(
            f"{subject} has {height} by {width} patches, too few for {rows} by {columns} cells; take fewer image tokens"
        )
    means = torch.nn.functional.adaptive_avg_pool2d(maps.float(), (rows, columns))
    return np.asarray(means.flatten(2).transpose(1, 2).cpu().numpy())
