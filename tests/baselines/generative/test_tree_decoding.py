"""What is written after shared trunks has the states of prompts written out, whatever an LLM's attention does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer

from baselines.generative.code_rows import Row, as_codes, pack_rows
from baselines.generative.lcrec import LCRec
from illmrec.model.backbone import Backbone
from illmrec.model.engine import Execution

USUAL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "sliding_window": 6,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": USUAL,
    "gemma2": {**USUAL, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 1.0},
    "gpt_oss": {
        **USUAL, "num_local_experts": 4, "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "granite": {**USUAL, "attention_multiplier": 0.5, "embedding_multiplier": 12.0},
}  # fmt: skip


def family(tiny_llm: Any, kind: str) -> Backbone:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {kind}")
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "vocab_size": len(tokenizer)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(kind, **ids, **FAMILIES[kind]), dtype=torch.float32
        ).eval()
        for name, parameter in model.named_parameters():
            if "sink" in name:
                torch.nn.init.normal_(parameter)
            elif parameter.ndim > 1 and "embed" not in name:
                parameter.data.mul_(4)  # as made, attention hardly matters
    return Backbone(
        name=kind, model=model.requires_grad_(False), tokenizer=tokenizer, layers=2, fingerprint=kind
    )


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_tree_has_the_states_of_its_ways(tiny_llm, kind):
    backbone = family(tiny_llm, kind)
    codes = np.stack(np.unravel_index(np.arange(40) * 3, (5, 5, 5)), axis=1)
    model = LCRec(backbone=backbone, codes=codes, codebook=5, history_length=4, execution=Execution())
    histories = [np.array([3]), np.array([8, 1, 30, 12]), np.array([7, 21])]
    writer = model.writer(histories)
    with torch.inference_mode():
        writer.begin()
        trunks = writer._trunks
        ways = [model.history_row(history).ids for history in histories]
        # Users write one, four and none; then one of two ways goes on twice, and a user begins no more.
        for parents, tokens in (
            ([0, 1, 1, 1, 1], [2, 0, 1, 2, 4]),
            ([0, 2, 2, 4], [7, 6, 5, 9]),
            ([1, 1, 3], [10, 14, 11]),
        ):
            at = torch.tensor(tokens)
            states = trunks.write(torch.tensor(parents), model.vectors(at))
            ways = [
                np.append(ways[parent], as_codes(token))
                for parent, token in zip(parents, tokens, strict=True)
            ]
            rows = [Row(ids=way, read=np.array([len(way) - 1])) for way in ways]
            torch.testing.assert_close(
                states, model.states(pack_rows(model.prefix, rows)), atol=1e-4, rtol=1e-4
            )
