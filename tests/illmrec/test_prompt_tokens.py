"""Prompts are made of parts that were tokenised one by one: the tokens are those of the whole text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from baselines.text_prompts import TRSR, FullDescription, TALLRec, TitleOnly
from illmrec.model.backbone import load_backbone
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.templates import INSTRUCTION, TASK
from illmrec.prompts.tokens import tokenise_items

ITEMS = pd.DataFrame(
    {
        "title": ["Red mug", "2-in-1 lamp (small)", "Café"],
        "brand": ["Acme", "", "B&B"],
        "category": ["kitchen | mugs", "lighting", ""],
        "description": ["A plain red mug.", "It folds; 30 cm.", "Naïve"],
        "summary": ["Mug.", "A lamp", "A place?"],
    }
)


def like_llama() -> Any:
    """A tokenizer that writes blanks as a letter and puts one in front of every text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    text = " ".join(
        [TASK, INSTRUCTION, *ITEMS.to_numpy().ravel(), "{Title:, Description: }, Brand: Category:"]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
    )
    # Word by word: merges stop at blanks, as they do where there is more to learn from.
    tokenizer.train_from_iterator(text.split(" "), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module", params=["like llama", pytest.param("smollm2-135m", marks=pytest.mark.slow)])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return like_llama() if request.param == "like llama" else load_backbone(layers=1).tokenizer


@pytest.mark.parametrize("representation", [TitleOnly(), TALLRec(), TRSR(), FullDescription()])
@pytest.mark.parametrize("instruction", ["after", "before"])
def test_a_prompt_has_the_tokens_of_its_text(tokenizer, representation, instruction) -> None:
    items = tokenise_items(ITEMS, representation, tokenizer, present={})
    prompts = PromptBuilder(items=items, tokenizer=tokenizer, instruction=instruction)
    history = np.array([2, 0, 1])
    packed = prompts.pack([prompts.fit(history)])
    shown = "".join(
        representation.render(row, frozenset())[0].text for row in ITEMS.iloc[history].to_dict("records")
    )
    text = f"{TASK}{shown} {INSTRUCTION}" if instruction == "after" else f"{INSTRUCTION} {TASK}{shown}"
    # The last position is [REC].
    assert [*packed.prefix, *packed.ids[:-1]] == tokenizer(text)["input_ids"]
