"""What models without an LLM take to train, in products of matrices; where early stopping ends is a guess."""

from __future__ import annotations

import numpy as np

from bench.harness.workspace import Workspace
from bench.store.cell import Cell

EPOCHS = 40
"""About where early stopping ends."""
_SASREC_FLOPS, _SASREC_WIDTH = 6.0e5, 64  # of a training target without its scores; width of the scores
_BESIDE_SASREC = {
    "sasrec": 1.0,
    "sasrec-short": 0.4,
    "gru4rec": 0.5,
    "bert4rec": 3.7,
    "esasrec": 1.1,
    "sasrec-bce": 0.9,
    "sasrec-recbole": 6.8,
}
"""Time of a training target over SASRec's: CPU seconds of two epochs, validation included, on 2,000 users of H&M
purchases (2,530 items) with one thread. BERT4Rec learns a fifth of a window at a time, and RecBole's own SASRec reads a
window for each prefix."""
_IMAGE_WIDTH, _TEXT_WIDTH = 1280, 384


def sequential_flops(method: str, place: Workspace) -> float:
    """Return the work of training one of RecBole's models, in FLOPs at the pace of SASRec's.

    Args:
        method: Its name.
        place: Data and settings.
    """
    dataset = place.dataset
    epochs = place.settings.cf_epochs or EPOCHS
    targets = epochs * int(np.maximum(dataset.lengths - 3, 0).sum())
    each = _SASREC_FLOPS + 6.0 * _SASREC_WIDTH * dataset.n_items
    return targets * each * _BESIDE_SASREC[method]


def multimodal_flops(cell: Cell, place: Workspace) -> float:
    """Return the work of training VBPR, BM3 or TIGER, in FLOPs, without features.

    Args:
        cell: Its accuracy cell, which has its options.
        place: Data.
    """
    return {"vbpr": _vbpr, "bm3": _bm3, "tiger": _tiger}[cell.method](cell, place)


def _pairs(place: Workspace) -> int:
    """Return the pairs of user and item of the training part, at most."""
    return int(np.maximum(place.dataset.lengths - 2, 0).sum())


def _vbpr(cell: Cell, place: Workspace) -> float:
    """Return the work of projecting the pictures of two items, forward and for the weights; it outweighs the rest."""
    options = cell.config["training"]
    each = 4.0 * _IMAGE_WIDTH * (options["visual_factors"] + 1)
    return float((options["epochs"] or EPOCHS) * _pairs(place) * each)


def _bm3(cell: Cell, place: Workspace) -> float:
    """Return the work of projecting an item's features, forward and for the weights; its graph weighs little."""
    options = cell.config["training"]
    each = 4.0 * (_IMAGE_WIDTH + _TEXT_WIDTH) * options["width"]
    return float((options["epochs"] or EPOCHS) * _pairs(place) * each)


def _tiger(cell: Cell, place: Workspace) -> float:
    options = cell.config["training"]
    lengths = place.split.history_lengths("valid")
    targets = int(np.clip(lengths - 1, 0, options["targets_per_user"]).sum())
    items = float(np.clip(lengths / 2, 1, options["max_length"]).mean())
    tokens = targets * options["levels"] * (1 + items)
    epochs = options["epochs"] or EPOCHS
    # Of 12 weights a block and width squared, forward and backward; validation takes half as long again.
    return float(1.5 * 6 * 12 * options["layers"] * options["width"] ** 2 * tokens * epochs)
