"""The trainable parts around the frozen LLM: adaptor and projectors (paper sections 3.1 and 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from illmrec.errors import InputError

AdaptorForm = Literal["relu", "norm-gelu", "linear"]
ProjectorForm = Literal["norm-first", "norm-inside"]
Inputs = Literal["standardised", "raw"]
Affinity = Literal["scaled", "dot"]

ITEM_TOKEN = "item-token"
"""In place of feature types: items are scored by a token of their own (:class:`ItemTokens`)."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """The form of what stands around the LLM; the second value of each is that of the authors' released code.

    Attributes:
        adaptor: ``relu`` is the paper's 2-layer MLP; ``norm-gelu`` has a layer norm and GELU in place of ReLU;
            ``linear`` is one layer (E4SRec).
        projector: Where layer norms stand: before the first layer (``norm-first``), or after each hidden layer, before
            its ReLU (``norm-inside``).
        inputs: What adaptors and projectors read: features centred and scaled, ``[REC]`` states standardised over
            users; or both as encoders and LLM give them (``raw``).
        affinity: The dot product of two projections, divided by the square root of their width (``scaled``) or as it
            is (``dot``).

    Raises:
        InputError: If there is no such form.
    """

    adaptor: AdaptorForm = "relu"
    projector: ProjectorForm = "norm-first"
    inputs: Inputs = "standardised"
    affinity: Affinity = "scaled"

    def __post_init__(self) -> None:
        for name, forms in _FORMS.items():
            if (value := getattr(self, name)) not in get_args(forms):
                raise InputError(f"--{name} {value}: unknown; valid: {', '.join(get_args(forms))}")


_FORMS = {"adaptor": AdaptorForm, "projector": ProjectorForm, "inputs": Inputs, "affinity": Affinity}


class Adaptor(nn.Sequential):
    """Maps an item's feature to one token embedding of the LLM: a 2-layer MLP with ReLU (paper E.2).

    In the form ``norm-gelu`` all layers start as PyTorch initialises them, as in the authors' code, and so the outputs
    start at a scale that is not the LLM's.

    Args:
        feature_width: Width of the feature.
        width: Width of the LLM's token embeddings.
        scale: Root mean square of the LLM's token embeddings; the outputs start at that scale, so that a slot
            neither drowns in nor drowns out the words around it.
        hidden: Width of the hidden layer (512 in the paper).
        form: ``relu``, ``norm-gelu`` or ``linear``.
    """

    def __init__(
        self,
        *,
        feature_width: int,
        width: int,
        scale: float,
        hidden: int = 512,
        form: AdaptorForm = "relu",
    ) -> None:
        out = nn.Linear(hidden, width)
        if form == "norm-gelu":
            super().__init__(nn.Linear(feature_width, hidden), nn.LayerNorm(hidden), nn.GELU(), out)
            return
        if form == "linear":
            out = nn.Linear(feature_width, width)
            nn.init.normal_(out.weight, std=scale * feature_width**-0.5)
            nn.init.zeros_(out.bias)
            super().__init__(out)
            return
        # Inputs have unit mean square, so hidden units have about 1/6 after default initialisation and ReLU.
        nn.init.normal_(out.weight, std=scale * (6.0 / hidden) ** 0.5)
        nn.init.zeros_(out.bias)
        super().__init__(nn.Linear(feature_width, hidden), nn.ReLU(), out)


class Projector(nn.Sequential):
    """Maps a user's or an item's vector to the shared recommendation space: F_u or F_i of section 3.3.

    The paper does not give its form. A layer norm comes first because the inputs' scales differ by orders of
    magnitude between feature types and LLMs; in the authors' code one follows the hidden layer.

    Args:
        width: Width of the input.
        hidden: Width of the hidden layers.
        depth: How many there are.
        shared: Width d of the recommendation space.
        form: ``norm-first`` or ``norm-inside``.
    """

    def __init__(
        self,
        *,
        width: int,
        hidden: int = 512,
        depth: int = 1,
        shared: int = 256,
        form: ProjectorForm = "norm-first",
    ) -> None:
        widths = (width, *([hidden] * depth))
        if form == "norm-inside":
            parts: list[nn.Module] = []
            for pair in pairwise(widths):
                parts += [nn.Linear(*pair), nn.LayerNorm(hidden), nn.ReLU()]
            super().__init__(*parts, nn.Linear(widths[-1], shared))
            return
        layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        super().__init__(nn.LayerNorm(width), *layers, nn.Linear(widths[-1], shared))


def projectors(
    widths: Mapping[str, int], *, hidden: int, depth: int, shared: int, form: ProjectorForm
) -> nn.ModuleDict:
    """Return a projector for each feature type, by the width of its input; see :class:`Projector`."""
    sizes = {"hidden": hidden, "depth": depth, "shared": shared}
    return nn.ModuleDict({name: Projector(width=width, form=form, **sizes) for name, width in widths.items()})


def unit_mean_square(values: Tensor, mean: Tensor, *, vectors: int = 1) -> Tensor:
    """Centre features and scale each row to unit mean square; a row equal to the mean stays zero.

    Args:
        values: [n, width].
        mean: [width], the catalogue's mean.
        vectors: Vectors side by side in a row, each of which is scaled by itself.
    """
    centred = (values - mean).view(len(values) * vectors, -1)
    scaled = nn.functional.normalize(centred, dim=1) * centred.shape[1] ** 0.5
    return scaled.view(len(values), -1)


class ItemTokens(nn.Embedding):
    """A learned vector for each item: the output embedding of an out-of-vocabulary token that stands for it.

    It takes the place of a projection of the item's content, of which it knows nothing. The vector of an item that is
    no target in training is moved as a negative alone.
    """

    def reset_parameters(self) -> None:
        """Draw vectors about as long as projections are at first."""
        nn.init.normal_(self.weight, std=0.2)
