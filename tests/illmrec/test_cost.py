"""FLOPs of LLMs of many architectures against PyTorch's own counter, and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from illmrec.model.backbone import Backbone
from illmrec.model.cost import forward_flops, pass_flops, training_flops
from illmrec.prompts.packing import Packed

WIDTH, HEADS, MLP, EXPERT, SHARED, BLOCKS, WORDS = 32, 4, 48, 24, 40, 3, 100
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS,
    "intermediate_size": MLP,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
ROUTED = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": EXPERT}
GPT = {"vocab_size": WORDS, "n_embd": WIDTH, "n_layer": BLOCKS, "n_head": HEADS, "n_positions": 256}
MLA = {
    **SIZES, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "moe_intermediate_size": EXPERT, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 6, "qk_nope_head_dim": 8, "first_k_dense_replace": 1,
}  # fmt: skip
CONFIGS = {
    "Llama": GROUPED,
    "Qwen2": {**GROUPED, "tie_word_embeddings": True},
    "Qwen3": {**GROUPED, "head_dim": 16},
    "GPT2": {**GPT, "bos_token_id": 0, "eos_token_id": 1},
    "GPTNeoX": SIZES,
    "OPT": {**SIZES, "ffn_dim": MLP, "word_embed_proj_dim": 16},
    "Mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen2Moe": {**ROUTED, "shared_expert_intermediate_size": SHARED, "decoder_sparse_step": 2},
    "Qwen3Moe": {**ROUTED, "head_dim": 8},
    "Olmoe": ROUTED,
    "GptOss": {
        **GROUPED,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "head_dim": 8,
        "sliding_window": 4096,
    },
    "DeepseekV3": MLA,
    "Bloom": {"vocab_size": WORDS, "hidden_size": WIDTH, "n_layer": BLOCKS, "n_head": HEADS},
}
TOKENS = 40


def build(name: str, **changes) -> Backbone:
    config = getattr(transformers, f"{name}Config")(**{**CONFIGS[name], **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return Backbone(name=name, model=model, tokenizer=None, layers=BLOCKS, fingerprint=name)


def row(tokens: int = TOKENS, *, prefix: int = 0) -> Packed:
    """Return the prompt of one user, which is read at its end."""
    none = np.zeros(0, dtype=np.int64)
    return Packed(
        prefix=np.zeros(prefix, dtype=np.int64),
        ids=np.arange(tokens),
        position_ids=prefix + np.arange(tokens),
        lengths=np.array([tokens]),
        branch=np.zeros(tokens, dtype=np.int64),
        visible=1 + np.arange(tokens),
        slot_positions={},
        slot_items={},
        rec_positions=np.array([tokens - 1]),
        answer_positions=none,
        answer_ids=none,
        straight=True,
    )


def counted(backbone: Backbone) -> tuple[int, int, int]:
    """Count a plain forward pass: attention, all else, and the last block's MLP if it has one."""
    model = backbone.model
    model.set_attn_implementation("eager")
    if model.config._experts_implementation is not None:
        model.set_experts_implementation("eager")
    counter = FlopCounterMode(display=False)
    inputs = backbone.embeddings(torch.arange(TOKENS))[None]
    with torch.no_grad(), counter:
        backbone.trunk(inputs_embeds=inputs, use_cache=False)
    by_operation = counter.get_flop_counts()["Global"]
    attention = sum(n for operation, n in by_operation.items() if "bmm" in str(operation))
    (last_mlp,) = {
        sum(operations.values())
        for module, operations in counter.get_flop_counts().items()
        if module.endswith(f"{BLOCKS - 1}.mlp")
    } or {0}
    return attention, sum(by_operation.values()) - attention, last_mlp


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_flops_are_those_of_the_models_own_pass(name):
    backbone = build(name)
    attention, others, last_mlp = counted(backbone)
    # Plain attention multiplies all pairs, of which half may attend, in the last block those of the one that is read:
    # only its MLP's output is read, too. Bloom's attention is its own, and runs for all tokens.
    half, one = (TOKENS + 1) / (2 * TOKENS), 1 / TOKENS
    attended = half if name == "Bloom" else ((BLOCKS - 1) * half + one) / BLOCKS
    expected = others - last_mlp * (TOKENS - 1) / TOKENS + attention * attended
    assert attention > 0
    # Some releases rotate positions by a matrix product, 0.02 % of all, which stands among attention's here.
    assert forward_flops(backbone, row()) == pytest.approx(expected, rel=5e-4)
    assert forward_flops(backbone, row(), row()) == 2 * forward_flops(backbone, row())


def test_experts_count_as_many_times_as_they_run():
    flops = pass_flops(build("Mixtral"))
    projections = WIDTH * WIDTH * 2 + WIDTH * (WIDTH // 2) * 2
    block = projections + 4 * WIDTH + 2 * 3 * WIDTH * MLP
    assert flops.token == pytest.approx(2 * BLOCKS * block, rel=5e-4) and flops.last_block == 2 * block
    assert flops.last_mlp == 2 * (block - projections)
    assert flops.head == 2 * WIDTH * WORDS

    shared = pass_flops(build("Qwen2Moe", decoder_sparse_step=1))
    sparse = 4 * WIDTH + 2 * 3 * WIDTH * EXPERT + 3 * WIDTH * SHARED + WIDTH
    assert shared.last_mlp == 2 * sparse


def test_tables_that_are_looked_up_cost_nothing():
    per_block = 3 * WIDTH * WIDTH + WIDTH * WIDTH + 2 * 4 * WIDTH * WIDTH
    for positions in (64, 1024):
        assert pass_flops(build("GPT2", n_positions=positions)).token == 2 * BLOCKS * per_block


def test_heads_cost_the_same_tied_or_not():
    tied, untied = (pass_flops(build("Llama", tie_word_embeddings=tie)) for tie in (True, False))
    assert tied == untied


def test_windows_count_no_pair_beyond_them():
    whole, windowed = build("Mixtral"), build("Mixtral", sliding_window=8)
    pair = 2 * HEADS * 2 * (WIDTH // HEADS)
    seen = sum(min(8, 3 + position + 1) for position in range(TOKENS))
    every = sum(3 + position + 1 for position in range(TOKENS))
    packed = row(prefix=3)
    last = 3 + TOKENS - 8  # of the one token that is read after the last block
    saved = pair * ((BLOCKS - 1) * (every - seen) + last)
    assert forward_flops(whole, packed) - forward_flops(windowed, packed) == saved


def test_the_model_is_left_as_it_was():
    model = build("Mixtral").model
    model.set_attn_implementation("sdpa")
    before = model.config._attn_implementation, model.config._experts_implementation
    ids = torch.arange(9)[None]
    logits = model(ids).logits
    pass_flops(Backbone(name="m", model=model, tokenizer=None, layers=BLOCKS, fingerprint="m"))
    assert (model.config._attn_implementation, model.config._experts_implementation) == before
    assert torch.equal(model(ids).logits, logits)


def test_no_number_where_flops_are_not_a_sum_over_tokens_and_pairs(monkeypatch, caplog):
    backbone = build("Llama")
    mlp = backbone.blocks[1].mlp
    forward = mlp.forward
    # A layer that works on blocks of 64 tokens costs the same for 1 as for 64.
    monkeypatch.setattr(
        mlp,
        "forward",
        lambda x: forward(torch.nn.functional.pad(x, (0, 0, 0, -x.shape[1] % 64)))[:, : x.shape[1]],
    )
    with caplog.at_level("WARNING"):
        assert forward_flops(backbone, row()) is None and training_flops(backbone, row()) is None
    assert sum("FLOPs and utilisation are not reported" in message for message in caplog.messages) == 1
