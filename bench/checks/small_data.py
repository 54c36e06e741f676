"""What methods are checked on: a small generated shop, the same shop with other targets, and a small tokenizer."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from illmrec.data.dataset import Dataset, changed
from illmrec.data.splits import Split
from illmrec.data.toyshop import load_toyshop

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "[INST]")
"""Control tokens of the small tokenizer, as LLMs have them."""


@cache
def small_shop() -> Dataset:
    """Return 40 users and 60 items of the toyshop; nothing is painted."""
    return load_toyshop(users=40, items=60, min_interactions=1)


def with_other_targets(dataset: Dataset) -> Dataset:
    """Return a data set with the same training part, in which every user's validation and test items are others.

    They are shifted by half of the catalogue, so that other items are popular among them. Which users have a target,
    and when, stays as it is.
    """
    lengths = Split(dataset=dataset).history_lengths("valid")
    places = np.arange(dataset.n_interactions) - np.repeat(dataset.offsets[:-1], dataset.lengths)
    held_out = places >= np.repeat(lengths, dataset.lengths)
    items = dataset.sequence_items.copy()
    items[held_out] = (items[held_out] + dataset.n_items // 2) % dataset.n_items
    return changed(dataset, sequence_items=items)


@cache
def small_tokenizer() -> Any:
    """Return a byte-level tokenizer trained on the shop's texts, with the control tokens of :data:`CONTROL`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    items = small_shop().items
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # As with those of LLMs, a blank and the character after it are one token.
    blanks = [" ".join(map(chr, range(33, 127)))] * len(items)
    tokenizer.train_from_iterator([*items["title"], *items["summary"], *blanks], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
