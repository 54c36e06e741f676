"""Tiny random sentence-transformers models on disk, for several tests."""

from __future__ import annotations

import json
from pathlib import Path

import sentence_transformers
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers.sentence_transformer import modules as parts
from tokenizers import Tokenizer, models, pre_tokenizers
from vision_models import save_model

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "mug", "bag", "a", "only", "prose", "acme", "kitchen")


def word_tokenizer() -> Tokenizer:
    """Return a tokenizer of whole words."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return words


def save_bert(folder: Path) -> Path:
    """Write a tiny BERT with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer(), pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    ).save_pretrained(folder)
    return folder


def save_sentence_model(folder: Path, kind: str, work: Path) -> Path:
    """Write a sentence-transformers model.

    Args:
        folder: Where.
        kind: ``mean`` (BERT and mean pooling), ``dense`` (a dense layer more), ``static`` (a table of word vectors) or
            ``clip``; the last two in a subfolder, as models of the hub are.
        work: A folder for what goes into it.
    """
    torch.manual_seed(1)
    if kind == "static":
        static = parts.StaticEmbedding(word_tokenizer(), embedding_weights=torch.randn(len(WORDS), 8).numpy())
        modules = [static]
    elif kind == "clip":
        tokenizer = transformers.AutoTokenizer.from_pretrained(save_model(work / "clip", "clip"))
        tokenizer.model_max_length = 8
        tokenizer.save_pretrained(work / "clip")
        modules = [parts.Transformer(str(work / "clip"))]
    else:
        modules = [parts.Transformer(str(save_bert(work / "bert"))), parts.Pooling(16)]
        modules += [parts.Dense(16, 8)] if kind == "dense" else []
    sentence_transformers.SentenceTransformer(modules=modules, device="cpu").save(str(folder))
    if kind in ("static", "clip"):
        _move_into_subfolder(folder, {"static": "StaticEmbedding", "clip": "CLIPModel"}[kind])
    return folder


def as_pickle(weights: Path) -> None:
    """Replace a part's safetensors by the same weights in PyTorch's format."""
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()


def _move_into_subfolder(folder: Path, kind: str) -> None:
    """Lay the only module out as models of earlier releases are on the hub."""
    inside = folder / f"0_{kind}"
    inside.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in (
            "modules.json",
            "config_sentence_transformers.json",
            "README.md",
        ):
            path.rename(inside / path.name)
    module = {"idx": 0, "name": "0", "path": inside.name, "type": f"sentence_transformers.models.{kind}"}
    (folder / "modules.json").write_text(json.dumps([module]))
