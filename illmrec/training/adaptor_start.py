"""Where adaptors start: fitted so that an item's slot holds what its words would, in place of as drawn.

RISA teaches an adaptor to say in a slot what stands in the item's properties (paper section 3.2), by many passes of the
LLM. The table that those passes have to find their way to is known before the first: the LLM's own token embeddings of
the properties' words. So the last layer of an adaptor, behind its hidden layer as drawn, is fitted to their means in
closed form. No pass of the LLM is made: a ridge regression of n items on 512 hidden numbers, a second for 3,000 items.

This is ours; in the paper adaptors start as drawn, and that is the default.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import nn

from illmrec.data.splits import Split
from illmrec.features.ridge import fit_ridge
from illmrec.model.illmrec import ILLMRec
from illmrec.model.slot_content import slot_rows
from illmrec.prompts.templates import PROPERTIES
from illmrec.prompts.tokens import tokenise_texts

logger = logging.getLogger(__name__)

_LONGEST = 64
"""Tokens of an item's properties that are read, as of an answer of RISA."""


@torch.no_grad()
def start_from_text(model: ILLMRec, split: Split) -> dict[str, float]:
    """Fit the adaptors' last layers to the items' words, in place.

    Items of the training part that show the slot are fitted; what an item's slot then holds is centred over them and
    scaled to the LLM's token embeddings, as adaptors start, since means of many embeddings lie close together. The
    penalty is chosen by leaving items out, so that a slot says of an item what its feature can tell.

    Args:
        model: The model.
        split: Its training part and its items' properties are read.

    Returns:
        For each slot the share of the variance of the words' means that the fit explains of items left out of it. A
        slot whose features are all alike, or which fewer than two items show, stays as drawn and is not among them.
    """
    known = np.unique(split.train_items())
    items = model.prompts.items
    found: dict[str, float] = {}
    for number, slot in enumerate(items.slots):
        if slot not in model.adaptors:
            continue
        shown = np.add.reduceat(items.ids == -1 - number, items.offsets[:-1]) > 0
        rows = known[shown[known]]
        if len(rows) < 2:
            logger.info("the %s adaptor stays as drawn: no two items of the training part show one", slot)
            continue
        layers: Any = list(model.adaptors[slot].children())
        *first, last = layers
        # Of several vectors of an item each is to say its words.
        vectors = model.vectors[slot]
        which = torch.from_numpy(np.repeat(rows, vectors)).to(model.rec.device)
        hidden = nn.Sequential(*first)(slot_rows(model.slot_table(slot), which, vectors=vectors))
        words = np.repeat(word_means(model, split, rows), vectors, axis=0)
        fit = fit_ridge(hidden.float().cpu().numpy(), words)
        weights = fit.weights / fit.x_scale[:, None] * fit.y_scale
        spoken = (hidden.cpu().double().numpy() - fit.x_mean) @ weights
        spread = float(np.sqrt(np.square(spoken).mean()))
        if fit.loo_r2 is None or spread < 1e-9:
            logger.info("the %s adaptor stays as drawn: the features tell items apart by nothing", slot)
            continue
        weights *= model.engine.backbone.embedding_scale / spread
        last.weight.copy_(torch.from_numpy(weights.T))
        last.bias.copy_(torch.from_numpy(-fit.x_mean @ weights))
        found[slot] = fit.loo_r2
        logger.info(
            "the %s adaptor starts from the words of %d items: %.0f %% of their variance explained when left out",
            slot, len(rows), 100 * fit.loo_r2,
        )  # fmt: skip
    return found


def word_means(model: ILLMRec, split: Split, rows: np.ndarray) -> np.ndarray:
    """Return the mean token embedding of each item's brand, category, title and description, those that it has.

    Args:
        model: The model, for its LLM's tokenizer and token embeddings.
        split: For the items' table.
        rows: Int [n], item row numbers.

    Returns:
        Float32 [n, width]; of an item without any property the mean over the others.
    """
    backbone = model.engine.backbone
    table = split.dataset.items.iloc[rows]
    texts = [
        " " + ", ".join(value for value in properties if value)
        for properties in table[list(PROPERTIES)].itertuples(index=False, name=None)
    ]
    ids = [tokens[:_LONGEST] for tokens in tokenise_texts(texts, backbone.tokenizer)]
    empty = np.array([text == " " for text in texts])
    means = np.zeros((len(rows), backbone.width), dtype=np.float32)
    for row in np.flatnonzero(~empty):
        words = backbone.embeddings(torch.from_numpy(ids[row].astype(np.int64)).to(backbone.device))
        means[row] = words.float().mean(dim=0).cpu().numpy()
    if empty.any() and not empty.all():
        means[empty] = means[~empty].mean(axis=0)
    return means
