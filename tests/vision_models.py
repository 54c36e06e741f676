"""Tiny random CLIP and SigLIP models on disk, for the tests of several floors."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "red", "blue", "mug", "lamp", "a", "bag", "shoe"]


def save_model(folder: Path, kind: str) -> Path:
    """Write a tiny random CLIP or SigLIP model with its image processor and a word-level tokenizer."""
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {
        "vocab_size": len(WORDS), "max_position_embeddings": 8,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    vision = size | {"image_size": 32, "patch_size": 8}
    edge = {"height": 32, "width": 32}
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
        model = transformers.CLIPModel(config)
        processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=edge)
    else:
        config = transformers.SiglipConfig(text_config=text, vision_config=vision)
        model = transformers.SiglipModel(config)
        with torch.no_grad():  # fresh models have scale 1 and bias 0; trained ones are about like this
            model.logit_scale.fill_(2.3)
            model.logit_bias.fill_(-1.5)
        processor = transformers.SiglipImageProcessorPil(size=edge)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder
