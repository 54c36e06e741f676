"""The check of the engine against the LLM: what it finds, where its verdict is kept, and what it relies on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from illmrec.errors import InputError
from illmrec.model import attention, check, engine
from illmrec.model.answer_loss import Logits, answer_loss
from illmrec.model.backbone import load_backbone
from illmrec.model.check import checked_execution
from illmrec.model.engine import Engine, Execution
from illmrec.model.tuning import tuned_backbone
from illmrec.prompts.packing import Packed, PromptBuilder
from illmrec.prompts.tokens import TokenisedItems


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(check, "_known", {})


def folder_of(tmp_path, tiny_llm, kind: str, **settings):
    """Save a tiny random LLM of some kind with the tiny tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    usual = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    config = AutoConfig.for_model(kind, **{**usual, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name:
                parameter.data.mul_(4)
    folder = tmp_path / kind
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


GEMMA2 = {
    "intermediate_size": 64,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 8,
    "attn_logit_softcapping": 1.0,
    "final_logit_softcapping": 1.0,
    "query_pre_attn_scalar": 1,
}


def drop_keyword(monkeypatch, keyword: str) -> None:
    """Have attention lose a keyword, as it once did."""
    whole = attention.attend_packed

    def losing(*arguments, **options):
        return whole(*arguments, **{**options, keyword: None})

    monkeypatch.setattr(engine, "attend_packed", losing)


def blur_branches(monkeypatch) -> None:
    """Have branches see each other."""
    whole = Packed.mask
    monkeypatch.setattr(
        Packed,
        "mask",
        lambda self, user, **options: whole(
            replace(self, branch=np.minimum(self.branch, 1)), user, **options
        ),
    )


def shift_positions(monkeypatch) -> None:
    """Have positions run on through the branches."""
    run = Engine._run

    def shifted(self, inputs, position_ids, layout):
        return run(self, inputs, torch.arange(len(position_ids)) + position_ids[0], layout)

    monkeypatch.setattr(Engine, "_run", shifted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("fault", "rows"),
    [
        (lambda patch: None, "packed"),
        (lambda patch: drop_keyword(patch, "sliding_window"), "separate"),
        (lambda patch: drop_keyword(patch, "softcap"), "separate"),
        (blur_branches, "separate"),
        (shift_positions, "separate"),
    ],
    ids=["none", "window", "softcap", "branches", "positions"],
)
def test_a_fault_of_the_engine_is_found_and_a_slower_way_taken(
    tmp_path, tiny_llm, monkeypatch, caplog, fault, rows, dtype
):
    backbone = load_backbone(str(folder_of(tmp_path, tiny_llm, "gemma2", **GEMMA2)), dtype=dtype)
    fault(monkeypatch)
    assert checked_execution(backbone).rows == rows
    assert ("slower, same results" in caplog.text) is (rows != "packed")


def test_an_mlp_that_cannot_be_cut_short_is_run_whole(tmp_path, tiny_llm, monkeypatch):
    backbone = load_backbone(str(tiny_llm), dtype="float32")
    mlp = type(backbone.last_mlp)
    whole = mlp.forward
    # It mixes tokens, so that it must see them all.
    monkeypatch.setattr(
        mlp, "forward", lambda self, x: whole(self, x) + x.cumsum(1)[:, -1:] * 0 + x.roll(1, 1) * 0
    )
    assert checked_execution(backbone).short_mlp
    check._known.clear()
    monkeypatch.setattr(mlp, "forward", lambda self, x: whole(self, x + x.cumsum(1) / 10))
    assert checked_execution(replace(backbone, fingerprint="mixing")).rows == "separate"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_verdict_is_kept_under_what_the_llm_is(tiny_llm, monkeypatch, dtype):
    backbone = load_backbone(str(tiny_llm), dtype=dtype)
    found = checked_execution(backbone)
    assert found == Execution(flex=False)
    monkeypatch.setattr(check, "_known", {})
    monkeypatch.setattr(check, "_verdict", lambda backbone: pytest.fail("checked again"))
    assert checked_execution(replace(backbone, name="elsewhere")) == found
    for other in (
        replace(backbone, fingerprint="trained on"),
        replace(backbone, layers=2),
        replace(backbone, model=backbone.model.to(torch.float64)),
    ):
        with pytest.raises(pytest.fail.Exception, match="checked again"):
            checked_execution(other)


@pytest.mark.parametrize("strategy", ["end-to-end", "lora"])
def test_an_llm_that_is_trained_is_checked_as_it_is(tiny_llm, strategy):
    backbone = tuned_backbone(load_backbone(str(tiny_llm), dtype="float32"), strategy=strategy)
    assert checked_execution(backbone) == Execution(flex=False)
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_a_refusal_is_kept_too(tiny_llm, monkeypatch):
    loaded = load_backbone(str(tiny_llm), dtype="float32")
    config = AutoConfig.for_model(
        "bert", vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    backbone = replace(loaded, model=model, layers=2, fingerprint="sees both ways")
    with pytest.raises(InputError, match="not a causal language model"):
        checked_execution(backbone)
    monkeypatch.setattr(check, "_verdict", lambda backbone: pytest.fail("checked again"))
    with pytest.raises(InputError, match="not a causal language model"):
        checked_execution(backbone)


def test_the_check_leaves_the_llm_as_it_was(tmp_path, tiny_llm):
    backbone = load_backbone(str(folder_of(tmp_path, tiny_llm, "gemma2", **GEMMA2)), dtype="bfloat16")
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    checked_execution(backbone)
    for name, value in backbone.model.state_dict().items():
        assert value.dtype == torch.bfloat16 and torch.equal(value, before[name])
    windows = {getattr(module, "sliding_window", None) for module in backbone.model.modules()}
    assert windows - {None} == {8} and backbone.model.config.sliding_window == 8
    assert len(backbone.blocks) == backbone.model.config.num_hidden_layers == 2


@pytest.mark.parametrize("kind", ["gemma", "gemma3_text", "llama"])
def test_slots_enter_at_the_scale_of_words(tmp_path, tiny_llm, kind):
    settings = {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8}
    backbone = load_backbone(str(folder_of(tmp_path, tiny_llm, kind, **settings)), dtype="float32")
    words = backbone.embeddings(torch.arange(len(backbone.embeddings.weight)))
    assert backbone.embedding_scale == pytest.approx(float(words.square().mean().sqrt()), rel=1e-5)
    if kind != "llama":
        assert backbone.embedding_scale > 5 * float(backbone.embeddings.weight.square().mean().sqrt())


@pytest.mark.parametrize(
    "logits", [Logits(), Logits(scale=0.0625), Logits(cap=1.5), Logits(scale=3.0, cap=2.0)]
)
def test_the_loss_of_a_frozen_head_has_the_gradient_of_a_plain_one(logits):
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(8, 50).requires_grad_(False)
    states, ids = torch.randn(11, 8, generator=generator), torch.randint(50, (11,), generator=generator)
    results = []
    for learns in (False, True):  # A head that learns goes by PyTorch's own gradients.
        given = states.clone().requires_grad_()
        loss = answer_loss(head.requires_grad_(learns), given, ids, logits=logits, chunk=4)
        (3 * loss).backward()
        results.append((loss.detach(), given.grad))
    outputs = head(states) * logits.scale
    if logits.cap is not None:
        outputs = logits.cap * torch.tanh(outputs / logits.cap)
    torch.testing.assert_close(
        results[0][0], torch.nn.functional.cross_entropy(outputs.detach(), ids, reduction="sum")
    )
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "lost", [{"position_bias": torch.zeros(1)}, {"dropout": 0.1}, {"indices": torch.zeros(1)}]
)
def test_attention_loses_no_keyword(lost):
    query = torch.zeros(1, 1, 2, 4)
    layout = attention.prefix_layout(2, {})
    module = torch.nn.Module()
    module.layer_idx = 0
    attention.attend_packed(module, query, query, query, None, layout=layout, dropout=0.0, position_ids=query)
    with pytest.raises(RuntimeError, match=f"with {next(iter(lost))}"):
        attention.attend_packed(module, query, query, query, None, layout=layout, **lost)
    with pytest.raises(RuntimeError, match="masks of its own"):
        attention.attend_packed(module, query, query, query, query, layout=layout)


def builder(tokenizer, *, limit: int | None, context: int | None = None) -> PromptBuilder:
    return PromptBuilder(
        items=TokenisedItems(ids=np.arange(300, dtype=np.int32), offsets=np.arange(0, 301, 10), slots=()),
        tokenizer=tokenizer,
        context=context,
        limit=limit,
    )


def test_a_question_ends_before_the_last_position(tiny_llm):
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    question, answer = np.arange(20), np.arange(45)
    branch = len(question) + len(answer) - 1
    prompts = builder(tokenizer, limit=128, context=128)
    fitted = prompts.fit(np.arange(30), branch=branch)
    packed = prompts.pack([fitted], questions=[(question, answer)])
    assert 128 - 10 <= packed.position_ids.max() + 1 <= 128
    # Without a question, and far from the limit, nothing changes.
    assert len(prompts.fit(np.arange(30)).items) > len(fitted.items)
    for far in (builder(tokenizer, limit=4096, context=100), builder(tokenizer, limit=None, context=100)):
        assert far.fit(np.arange(30), branch=branch).items.tolist() == far.fit(np.arange(30)).items.tolist()
    with pytest.raises(InputError, match="leaves none for the history"):
        builder(tokenizer, limit=branch + 10).fit(np.arange(3), branch=branch)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_embedded_llm_takes_packed_rows(dtype, tmp_path, monkeypatch):
    backbone = load_backbone(dtype=dtype)
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path))
    assert checked_execution(backbone) == Execution(flex=False)
