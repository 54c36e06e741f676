"""How sequential models are built and trained: options, their usual values, and RecBole's names for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from illmrec.errors import InputError, nearest

ModelName = Literal["sasrec", "gru4rec", "bert4rec", "esasrec"]

RECBOLE_NAMES: Mapping[str, str] = {
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
    "bert4rec": "BERT4Rec",
    "esasrec": "SASRec",
}
"""The class of RecBole whose file of defaults a model starts from."""

_LOSSES = ("ce", "bce", "sampled")
_MASKING = ("mask_ratio", "last_ratio")
_OPTIONAL = (*_MASKING, "negatives")
"""Options that only some models have: None, and not part of a description, elsewhere."""
_COUNTS = ("epochs", "patience", "hidden_size", "layers", "heads", "max_length", "batch_size", "negatives")


@dataclass(frozen=True, kw_only=True)
class RecBoleOptions:
    """How a sequential model is built and trained; part of a cell's key.

    Attributes:
        model: ``sasrec``, ``gru4rec``, ``bert4rec`` or ``esasrec``.
        targets: ``one`` learns the item after each prefix, one prefix per row (RecBole's augmentation);
            ``all`` reads every position of a window from one forward pass. Both see each training target
            once per epoch. BERT4Rec learns masked items instead, in windows (``all``).
        loss: ``ce``, softmax over the catalogue; ``bce``, one sampled negative (the original SASRec with
            ``targets="all"``); ``sampled``, softmax over the targets of the batch and ``negatives``. ``one`` with
            ``ce`` is RecBole's default, run by RecBole's own code.
        epochs: Most epochs; ``None`` runs as many as show about 10 million targets, between 10 and 200, so that
            a small data set gets enough steps and a large one ends.
        patience: Epochs without a better validation NDCG@10 after which training stops.
        learning_rate: Adam's.
        hidden_size: Width of the item embeddings. The feed-forward of transformers is 4 times, GRU4Rec's state 2
            times as wide, the ratios of RecBole's defaults.
        layers: Transformer blocks or stacked GRUs.
        heads: Attention heads (transformers only).
        dropout: For embeddings, attention and feed-forward.
        max_length: Longest history the model reads; the window in training.
        batch_size: Rows per step: windows with ``targets="all"``, prefixes with ``targets="one"``.
        mask_ratio: Share of a window's items that are masked (BERT4Rec only, and ``None`` elsewhere).
        last_ratio: Share of rows in which the last item alone is masked, as when scoring (BERT4Rec only).
        negatives: Uniformly drawn items of a batch (``sampled`` only, and ``None`` elsewhere).
    """

    model: ModelName = "sasrec"
    targets: Literal["one", "all"] = "all"
    loss: Literal["ce", "bce", "sampled"] = "ce"
    epochs: int | None = None
    patience: int = 10
    learning_rate: float = 1e-3
    hidden_size: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    max_length: int = 50
    batch_size: int = 64
    mask_ratio: float | None = None
    last_ratio: float | None = None
    negatives: int | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If one is out of range or a name is unknown.
        """
        if self.model not in RECBOLE_NAMES:
            raise InputError(f"model '{self.model}': unknown; {nearest(self.model, RECBOLE_NAMES)}")
        if self.targets not in ("one", "all"):
            raise InputError(f"targets '{self.targets}': unknown; {nearest(self.targets, ('one', 'all'))}")
        if self.loss not in _LOSSES:
            raise InputError(f"loss '{self.loss}': unknown; {nearest(self.loss, _LOSSES)}")
        if (self.loss == "sampled") != (self.negatives is not None):
            raise InputError(f"{self.model}: give negatives with loss 'sampled', and only with it")
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{self.model}: {name} is {value}; give 1 or more")
        if not 0 <= self.dropout < 1:
            raise InputError(f"{self.model}: dropout is {self.dropout}; give 0 to below 1")
        if not self.learning_rate > 0:
            raise InputError(f"{self.model}: learning_rate is {self.learning_rate}; give more than 0")
        if self.model != "gru4rec" and self.hidden_size % self.heads:
            raise InputError(
                f"{self.model}: hidden_size {self.hidden_size} does not divide into {self.heads} heads; change one"
            )
        if self.model == "esasrec" and self.targets == "one":
            raise InputError("esasrec: it learns the next item at every position; leave targets 'all'")
        self._check_masking()

    def _check_masking(self) -> None:
        if self.model != "bert4rec":
            for name in _MASKING:
                if getattr(self, name) is not None:
                    raise InputError(
                        f"{self.model}: {name} is of bert4rec alone, which masks items; leave it out"
                    )
            return
        if self.targets != "all" or self.loss != "ce":
            raise InputError(
                "bert4rec: it learns masked items of windows by cross-entropy; leave targets 'all' and loss 'ce'"
            )
        if self.mask_ratio is None or not 0 < self.mask_ratio < 1:
            raise InputError(f"bert4rec: mask_ratio is {self.mask_ratio}; give more than 0 and less than 1")
        if self.last_ratio is None or not 0 <= self.last_ratio <= 1:
            raise InputError(f"bert4rec: last_ratio is {self.last_ratio}; give 0 to 1")

    def described(self) -> dict[str, Any]:
        """Return the options as JSON values, without those that the model does not have."""
        return {
            name: value for name, value in asdict(self).items() if not (name in _OPTIONAL and value is None)
        }


def default_options(model: ModelName, **changes: Any) -> RecBoleOptions:
    """Return the toolkit's CPU-affordable options of a model, some of them changed.

    Raises:
        InputError: If the model is unknown.
    """
    usual: dict[str, Any] = {"layers": 1 if model == "gru4rec" else 2}
    if changes.get("targets") == "one":
        usual["batch_size"] = 2048  # RecBole's default, in prefixes
    if model == "bert4rec":
        usual |= {"mask_ratio": 0.2, "last_ratio": 0.5}  # RecBole's defaults
    if model == "esasrec":
        usual |= {"loss": "sampled", "negatives": 256}  # the number of the paper
    return RecBoleOptions(**{"model": model, **usual, **changes})


def network_settings(options: RecBoleOptions) -> dict[str, Any]:
    """Return what RecBole's configuration says of a network."""
    if options.model == "gru4rec":
        return {
            "num_layers": options.layers,
            "embedding_size": options.hidden_size,
            "hidden_size": 2 * options.hidden_size,
            "dropout_prob": options.dropout,
        }
    settings: dict[str, Any] = {
        "n_layers": options.layers,
        "n_heads": options.heads,
        "hidden_size": options.hidden_size,
        "inner_size": 4 * options.hidden_size,
        "hidden_dropout_prob": options.dropout,
        "attn_dropout_prob": options.dropout,
    }
    if options.model == "bert4rec":  # [MASK] takes a position after the history
        settings |= {"mask_ratio": options.mask_ratio, "MAX_ITEM_LIST_LENGTH": options.max_length + 1}
    return settings
