"""The embedded model's tokenizer is what its GGUF file says, whichever release of transformers is installed."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from illmrec.model.embedded import embedded_folder

pytestmark = pytest.mark.slow


def test_a_generated_text_ends_at_the_token_that_ends_a_message() -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    assert tokenizer.special_tokens_map == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|im_end|>",
    }
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Which mug?"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nWhich mug?<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer(chat, add_special_tokens=False)["input_ids"].count(tokenizer.eos_token_id) == 2


def test_text_comes_back_from_its_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    text = "  Mug (2nd), naïve café: 1,234.50 items\n\n漢字 🙂 don't ."
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer(" the")["input_ids"]) == ["Ġthe"]
