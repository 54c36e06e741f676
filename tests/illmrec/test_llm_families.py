"""The engine on tiny random LLMs of many families: what the LLM computes by itself, or refused in one line."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer

from illmrec.errors import InputError
from illmrec.model.answer_loss import answer_loss
from illmrec.model.backbone import Backbone
from illmrec.model.check import checked_execution
from illmrec.model.engine import Engine, Execution
from illmrec.model.trunks import Trunks
from illmrec.prompts.packing import Packed, PromptBuilder
from illmrec.prompts.tokens import TokenisedItems

USUAL = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SHORT_FORM = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
OPT = {
    "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip
LATENT = {
    "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}  # fmt: skip
MAMBA = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
    "original_max_position_embeddings": 48,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}

# Per case: kind of configuration, its settings, and how prompts are laid out.
PACKED: dict[str, tuple[str, dict]] = {
    "llama": ("llama", USUAL),
    "qwen2": ("qwen2", USUAL),
    "qwen2 with windows": (
        "qwen2", {**USUAL, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    ),
    "qwen3": ("qwen3", USUAL),
    "qwen3_moe": (
        "qwen3_moe", {**USUAL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    ),
    "gpt2": ("gpt2", SHORT_FORM),
    "gptj": ("gptj", {**SHORT_FORM, "rotary_dim": 8}),
    "gpt_neox": ("gpt_neox", USUAL),
    "mixtral": ("mixtral", {**USUAL, **EXPERTS}),
    "mistral": ("mistral", {**USUAL, "sliding_window": 8}),
    "mistral, wide": ("mistral", {**USUAL, "sliding_window": 4096}),
    "phi3": ("phi3", {**USUAL, "sliding_window": 8, "pad_token_id": 1}),
    "gemma": ("gemma", USUAL),
    "gemma2": (
        "gemma2",
        {**USUAL, "sliding_window": 8, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 1.0},
    ),
    "gemma3": ("gemma3_text", {**USUAL, "sliding_window": 8}),
    "gemma4": ("gemma4_text", {**USUAL, "sliding_window": 8, "hidden_size_per_layer_input": 0}),
    "cohere": ("cohere", {**USUAL, "logit_scale": 0.0625}),
    "cohere2": ("cohere2", {**USUAL, "sliding_window": 8, "logit_scale": 0.0625}),
    "granite": ("granite", {**USUAL, "logits_scaling": 16.0, "embedding_multiplier": 12.0}),
    "starcoder2": ("starcoder2", {**USUAL, "sliding_window": 8}),
    "smollm3": ("smollm3", {**USUAL, "use_sliding_window": True, "sliding_window": 8, "pad_token_id": 1}),
    "olmo2": ("olmo2", USUAL),
    "opt": ("opt", {**OPT, "word_embed_proj_dim": 32}),
    "opt, projected": ("opt", {**OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "gpt_oss": (
        "gpt_oss",
        {**USUAL, **EXPERTS, "sliding_window": 8, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ),
    "minicpm3": ("minicpm3", {**USUAL, **LATENT}),
    "deepseek_v3": (
        "deepseek_v3",
        {**USUAL, **LATENT, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
         "moe_intermediate_size": 16, "first_k_dense_replace": 1},
    ),
    "phi3, long": ("phi3", {**USUAL, "rope_parameters": LONGROPE, "pad_token_id": 1}),
    "llama, dynamic": ("llama", {**USUAL, "max_position_embeddings": 48, "rope_parameters": DYNAMIC}),
}  # fmt: skip
# Before these releases of transformers the family's attention could not be replaced: its rows were separate.
PACKED_SINCE = {"gptj": "5.24"}
PADDED: dict[str, tuple[str, dict]] = {
    "stablelm": ("stablelm", USUAL),
    "falcon": ("falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}),
    "nemotron": ("nemotron", USUAL),
}
SEPARATE: dict[str, tuple[str, dict]] = {
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "falcon, alibi": (
        "falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True}
    ),
    "mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}),
    "xglm": ("xglm", {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4}),
    "gpt_neo": (
        "gpt_neo",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
         "window_size": 16},
    ),
    "mamba": ("mamba", MAMBA),
    "mamba2": ("mamba2", {**MAMBA, "num_heads": 8, "head_dim": 8, "n_groups": 1}),
    "lfm2": ("lfm2", {**USUAL, "layer_types": ["conv", "full_attention"]}),
    "granitemoehybrid": (
        "granitemoehybrid",
        {**USUAL, **EXPERTS, "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 8,
         "mamba_n_groups": 1, "mamba_d_state": 8, "shared_intermediate_size": 32},
    ),
    "llama4": (
        "llama4_text",
        {**USUAL, "num_local_experts": 2, "intermediate_size_mlp": 64, "attention_chunk_size": 16},
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[str, dict, str]] = {
    "gemma3n": (
        "gemma3n_text",
        {**USUAL, "vocab_size_per_layer_input": 400, "hidden_size_per_layer_input": 8, "laurel_rank": 4,
         "num_kv_shared_layers": 1, "layer_types": ["full_attention"] * 2, "activation_sparsity_pattern": [0.0] * 2},
        "its per-layer embeddings need token ids",
    ),
    "gemma4, per layer": (
        "gemma4_text",
        {**USUAL, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 400},
        "its per-layer embeddings need token ids",
    ),
    "bert": ("bert", USUAL, "not a causal language model"),
    "gemma3, both ways": (
        "gemma3_text", {**USUAL, "use_bidirectional_attention": True}, "not a causal language model"
    ),
    "bert, decoder": ("bert", {**USUAL, "is_decoder": True}, "its logits are not its LM head"),
    "electra": (
        "electra", {**USUAL, "is_decoder": True, "embedding_size": 16}, "its final states have 32 numbers"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny_llm):
    return AutoTokenizer.from_pretrained(tiny_llm)


def family(tokenizer, kind: str, settings: dict) -> Backbone:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {kind}")
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = AutoConfig.for_model(kind, **{"vocab_size": len(tokenizer), **ids, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        # As made, weights are so small that attention hardly matters.
        for name, parameter in model.named_parameters():
            if "sink" in name:
                torch.nn.init.normal_(parameter)
            elif parameter.ndim > 1 and "embed" not in name and "wte" not in name:
                parameter.data.mul_(4)
    return Backbone(
        name=kind,
        model=model.requires_grad_(False),
        tokenizer=tokenizer,
        layers=2,
        fingerprint=f"{kind} {settings}",
    )


def prompts_of_three_users(tokenizer) -> SimpleNamespace:
    """Return packed prompts with branches at several places, and each branch as a prompt of its own."""
    generator = np.random.default_rng(5)
    lengths = np.array([6, 9, 4, 7])
    items = [generator.integers(2, 300, size=n) for n in lengths]
    builder = PromptBuilder(
        items=TokenisedItems(
            ids=np.concatenate(items).astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            slots=(),
        ),
        tokenizer=tokenizer,
    )
    histories = [np.array([0, 1, 2, 3]), np.array([2]), np.array([3, 1])]
    boundaries = [np.array([1, 2, 4]), np.array([1]), np.array([2])]
    questions = [(generator.integers(2, 300, size=4), generator.integers(2, 300, size=n)) for n in (3, 1, 5)]
    packed = builder.pack([builder.fit(h) for h in histories], boundaries=boundaries, questions=questions)

    def whole(user: int, upto: int, tail: np.ndarray) -> np.ndarray:
        return np.concatenate([builder.task, *[items[i] for i in histories[user][:upto]], tail])

    rec = np.append(builder.instruction, 0)
    retrieval = [whole(user, end, rec) for user, ends in enumerate(boundaries) for end in ends]
    asked = [
        (whole(user, len(histories[user]), np.concatenate([question, answer])), len(answer))
        for user, (question, answer) in enumerate(questions)
    ]
    return SimpleNamespace(packed=packed, retrieval=retrieval, asked=asked)


def engine_states(backbone: Backbone, packed: Packed, execution: Execution) -> torch.Tensor:
    """Return states of [REC], which here is the word 0, and of answers."""
    rec = backbone.embeddings(torch.tensor(0))
    positions = np.concatenate([packed.rec_positions, packed.answer_positions])
    engine = Engine(backbone, execution=execution)
    return engine.hidden(packed, slots={}, rec=rec, positions=torch.from_numpy(positions))


def own_states(backbone: Backbone, ids: np.ndarray) -> torch.Tensor:
    """Return the final states of one prompt by its token ids, in a fresh copy of what frequencies have become."""
    kept: list[torch.Tensor] = []
    handle = backbone.trunk.register_forward_hook(lambda module, inputs, output: kept.append(output[0][0]))
    backbone.model.set_attn_implementation("eager")
    # A short prompt first: dynamic scaling goes back to its beginning.
    for prompt in (ids[:4], ids):
        logits = backbone.model(input_ids=torch.from_numpy(prompt)[None], use_cache=False).logits[0]
    handle.remove()
    assert logits.shape == (len(ids), len(backbone.tokenizer))
    return kept[-1]


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        (rows, name)
        for rows, cases in (("packed", PACKED), ("padded", PADDED), ("separate", SEPARATE))
        for name in cases
    ],
)
@torch.no_grad()
def test_states_and_answer_loss_are_those_of_the_llm_itself(tokenizer, rows, name):
    backbone = family(tokenizer, *{**PACKED, **PADDED, **SEPARATE}[name])
    execution = checked_execution(backbone)
    if Version(transformers.__version__) < Version(PACKED_SINCE.get(name, "0")):
        rows = "separate"
    assert execution.rows == rows
    prompts = prompts_of_three_users(tokenizer)
    states = engine_states(backbone, prompts.packed, execution)
    own = [own_states(backbone, ids)[-1:] for ids in prompts.retrieval]
    # An answer's last token is predicted and not read.
    own += [own_states(backbone, ids[:-1])[-answer:] for ids, answer in prompts.asked]
    torch.testing.assert_close(states, torch.cat(own), atol=1e-4, rtol=0)
    assert torch.cat(own).std(dim=0).mean() > 0.01, "states differ by more than the tolerance"

    answers = torch.from_numpy(prompts.packed.answer_ids)
    loss = answer_loss(backbone.head, states[-len(answers) :], answers, logits=execution.logits)
    own_losses = []
    for ids, answer in prompts.asked:
        own_states(backbone, ids[:4])
        tokens = torch.from_numpy(ids)[None]
        logits = backbone.model(input_ids=tokens[:, :-1], use_cache=False).logits[0, -answer:]
        own_losses.append(torch.nn.functional.cross_entropy(logits, tokens[0, -answer:], reduction="sum"))
    torch.testing.assert_close(loss, torch.stack(own_losses).sum(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_an_llm_that_nothing_suits_is_refused_in_one_line(tokenizer, name):
    kind, settings, reason = REFUSED[name]
    with pytest.raises(InputError, match=reason) as refusal:
        checked_execution(family(tokenizer, kind, settings))
    assert str(refusal.value).startswith(f"--llm {kind}: ") and "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gemma3", "gpt_oss", "qwen2 with windows", "minicpm3"])
@torch.no_grad()
def test_flex_attention_knows_windows_caps_and_sinks(tokenizer, name):
    backbone = family(tokenizer, *PACKED[name])
    packed = prompts_of_three_users(tokenizer).packed
    each = engine_states(backbone, packed, Execution(flex=False))
    torch.testing.assert_close(engine_states(backbone, packed, Execution(flex=True)), each, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gpt_oss", "llama"])
def test_long_prompts_have_the_states_and_gradients_of_short_ones(tokenizer, name, monkeypatch):
    from illmrec.model import attention

    backbone = family(tokenizer, *PACKED[name])
    packed = prompts_of_three_users(tokenizer).packed
    monkeypatch.setattr(attention, "_STRETCH", 5)
    results = []
    for pairs in (0, 512 * 512):
        monkeypatch.setattr(attention, "DENSE_PAIRS", pairs)
        rec = backbone.embeddings(torch.tensor(0)).clone().requires_grad_()
        positions = torch.from_numpy(np.concatenate([packed.rec_positions, packed.answer_positions]))
        states = Engine(backbone).hidden(packed, slots={}, rec=rec, positions=positions)
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
        (states * weights).sum().backward()
        results.append((states.detach(), rec.grad))
    for long, short in zip(*results, strict=True):
        torch.testing.assert_close(long, short, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", PACKED)
def test_branches_behind_trunks_that_were_read_before_have_the_same_states_and_gradients(tokenizer, name):
    backbone = family(tokenizer, *PACKED[name])
    packed = prompts_of_three_users(tokenizer).packed
    positions = torch.from_numpy(packed.read_positions)
    engine = Engine(backbone, execution=checked_execution(backbone))
    if engine.rows(packed) != "packed":
        pytest.skip(f"{name}, transformers {transformers.__version__}: no row goes on from another")

    def results(**kept) -> tuple[torch.Tensor, torch.Tensor]:
        rec = backbone.embeddings(torch.tensor(0)).clone().requires_grad_()
        states = engine.hidden(packed, slots={}, rec=rec, positions=positions, **kept)
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
        (states * weights).sum().backward()
        return states.detach(), rec.grad

    whole, trunks = results(), Trunks()
    # Read and forgotten, read and kept, found.
    for kept in (0, len(packed.lengths), len(packed.lengths)):
        for part, expected in zip(results(trunks=trunks), whole, strict=True):
            torch.testing.assert_close(part, expected, atol=1e-4, rtol=1e-3)
        assert len(trunks) == kept
