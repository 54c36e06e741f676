"""Tiny random vision-language models on disk, in the manner of SmolVLM and of LLaVA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

TOKENS = {"smolvlm": 7, "llava": 16}
"""Tokens of a picture: of the first four of its own and three around them."""
_SPECIAL = ["<image>", "<fake_token_around_image>", "<global-img>"]


def save_vision_language_model(folder: Path, kind: str, llm: Path, *, text_type: str = "llama") -> Path:
    """Write a tiny random vision-language model with the tokenizer of a tiny LLM.

    Args:
        folder: Where.
        kind: ``smolvlm`` (an Idefics3 model, as SmolVLM-256M is) or ``llava``.
        llm: Folder of the LLM whose tokenizer it has.
        text_type: Type of its language model.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(llm)
    tokenizer.add_special_tokens({"additional_special_tokens": _SPECIAL})
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text: dict[str, Any] = {
        "model_type": text_type, "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    vision = size | {"image_size": 32, "patch_size": 8}
    image = tokenizer.convert_tokens_to_ids("<image>")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "smolvlm":
            model: Any = transformers.Idefics3ForConditionalGeneration(
                transformers.Idefics3Config(
                    text_config=text, vision_config=vision, scale_factor=2, image_token_id=image
                )
            )
            edge = {"longest_edge": 32}
            # As the released models are: pictures are cut into tiles unless one asks for the whole.
            processor: Any = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size=edge)
        else:
            vision |= {"model_type": "clip_vision_model", "projection_dim": 12}
            model = transformers.LlavaForConditionalGeneration(
                transformers.LlavaConfig(
                    text_config=text, vision_config=vision, image_token_index=image, image_seq_length=16
                )
            )
            square = {"height": 32, "width": 32}
            processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=square)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
