"""The trainable parts around the frozen LLM: adaptor and projectors (paper sections 3.1 and 3.3)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class Adaptor(nn.Sequential):
    """Maps an item's feature to one token embedding of the LLM: a 2-layer MLP with ReLU (paper E.2).

    Args:
        feature_width: Width of the feature.
        width: Width of the LLM's token embeddings.
        scale: Root mean square of the LLM's token embeddings; the outputs start at that scale, so that a slot
            neither drowns in nor drowns out the words around it.
        hidden: Width of the hidden layer (512 in the paper).
    """

    def __init__(self, *, feature_width: int, width: int, scale: float, hidden: int = 512) -> None:
        out = nn.Linear(hidden, width)
        # Inputs have unit mean square, so hidden units have about 1/6 after default initialisation and ReLU.
        nn.init.normal_(out.weight, std=scale * (6.0 / hidden) ** 0.5)
        nn.init.zeros_(out.bias)
        super().__init__(nn.Linear(feature_width, hidden), nn.ReLU(), out)


class Projector(nn.Sequential):
    """Maps a user's or an item's vector to the shared recommendation space: F_u or F_i of section 3.3.

    The paper does not give its form. A layer norm comes first because the inputs' scales differ by orders of
    magnitude between feature types and LLMs.

    Args:
        width: Width of the input.
        hidden: Width of the hidden layers.
        depth: How many there are.
        shared: Width d of the recommendation space.
    """

    def __init__(self, *, width: int, hidden: int = 512, depth: int = 1, shared: int = 256) -> None:
        widths = (width, *([hidden] * depth))
        layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        super().__init__(nn.LayerNorm(width), *layers, nn.Linear(widths[-1], shared))


def unit_mean_square(values: Tensor, mean: Tensor) -> Tensor:
    """Centre features and scale each row to unit mean square; a row equal to the mean stays zero.

    Args:
        values: [n, width].
        mean: [width], the catalogue's mean.
    """
    centred = values - mean
    return nn.functional.normalize(centred, dim=1) * values.shape[1] ** 0.5
