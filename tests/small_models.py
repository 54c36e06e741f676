"""A tiny random LLM and a small trained model over it, written to folders; nothing here is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TEXT = (
    "the a of and in is next item user title brand category description visual representation history red blue green "
    "mug lamp shoe plain dots recommendation token generate for to be consumed what which will this"
)
STORED_DATA: dict[str, Any] = {"name": "toyshop", "users": 40, "items": 60}


def save_llm(folder: Path) -> Path:
    """Write a random 3-layer LLaMA and a byte-level tokenizer, loadable as any local model."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT, TEXT.title()], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(fast),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=2048,
                bos_token_id=0,
                eos_token_id=1,
            )
        )
    model.save_pretrained(folder)
    return folder


def save_trained(folder: Path, *, llm: Path, encoders: Mapping[str, str], cache: Path) -> Path:
    """Write a small model with image and text heads, as training leaves it in a store.

    Args:
        folder: Where; it is there and empty.
        llm: What :func:`save_llm` wrote.
        encoders: Folders of encoders of images and texts.
        cache: For features.
    """
    from illmrec.assembly import ModelConfig, build_model
    from illmrec.data import load_dataset
    from illmrec.model.backbone import load_backbone
    from illmrec.recommender import content_features, save_model

    dataset = load_dataset(**STORED_DATA)
    names = ("image", "text")
    features, has_image = content_features(
        names, dataset=dataset, encoders=encoders, cache=cache, progress=False
    )
    config = ModelConfig(
        representation="illmrec.prompts.segments:ImageRepresentation",
        heads=names,
        hidden=16,
        shared=8,
        history_length=6,
    )
    described = {"name": str(llm), "layers": 2, "dtype": "float32"}
    model = build_model(
        config, dataset=dataset, backbone=load_backbone(**described), features=features, has_image=has_image
    )
    model.calibrate([dataset.sequence(user) for user in range(20)])
    save_model(
        folder,
        model=model,
        config=config,
        dataset=dataset,
        dataset_arguments=STORED_DATA,
        backbone=described,
        encoders=encoders,
        features=features,
        training={"options": {"epochs": 1}, "report": {}},
    )
    return folder
