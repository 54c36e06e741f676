"""Generation by a local LLM is its plain greedy decoding of one prompt at a time, whatever its settings ask for."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    AutoTokenizer,
    FalconConfig,
    FalconForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)  # fmt: skip

from baselines.summarizer import SummaryOptions, options
from baselines.summarizer.local import LocalWriter
from baselines.summarizer.text import trim
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone, load_backbone

OPTIONS = SummaryOptions(max_words=6, max_new_tokens=6)
ITEMS = [f"Title: Mug {row}\nDescription: {'red plain mug ' * (row * 3 + 1)}" for row in range(5)]


@pytest.fixture(scope="module")
def llm(tiny_llm: Path) -> Backbone:
    return load_backbone(str(tiny_llm), dtype="float32")


def greedy(llm: Backbone, writer: LocalWriter) -> list[tuple[str, bool]]:
    """Each prompt alone, the whole of it read anew for every token."""
    expected = []
    for item in ITEMS:
        prompt = writer.prompt(item).content
        ids = torch.tensor([prompt])
        for _ in range(OPTIONS.new_tokens):
            with torch.no_grad():
                best = llm.model(ids, use_cache=False).logits[0, -1].argmax()
            ids = torch.cat([ids, best[None, None]], dim=1)
            if int(best) in writer._ends:
                break
        new = ids[0, len(prompt) :].tolist()
        finished = new[-1] in writer._ends
        text = llm.tokenizer.decode(new, skip_special_tokens=True)
        expected.append(trim(text, words=OPTIONS.max_words, finished=finished))
    return expected


def written(writer: LocalWriter) -> list[tuple[str, bool]]:
    return writer.answers([writer.prompt(item).content for item in ITEMS])


def random_model(kind: Any, config: Any, llm: Backbone) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind(config).eval()
    for (
        parameter
    ) in model.parameters():  # larger than a fresh model's: logits that padding would change visibly
        parameter.data.mul_(3.0)
    layers = config.num_hidden_layers
    return Backbone(name="tiny", model=model, tokenizer=llm.tokenizer, layers=layers, fingerprint="0" * 16)


SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "bos_token_id": 0, "eos_token_id": 1}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
MODELS = {
    "learned positions": (
        GPT2LMHeadModel,
        GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=512, bos_token_id=0, eos_token_id=1),
        "shared beginning",
    ),
    "window": (MistralForCausalLM, MistralConfig(**SIZES, **HEADS, sliding_window=8), "padded"),
    "ALiBi": (
        FalconForCausalLM,
        FalconConfig(**SIZES, num_attention_heads=4, alibi=True, new_decoder_architecture=False, multi_query=False),
        None,
    ),
    "recurrence": (MambaForCausalLM, MambaConfig(**SIZES, state_size=4), "alone"),
    "convolution": (
        Lfm2ForCausalLM,
        Lfm2Config(**SIZES, **HEADS, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
        "alone",
    ),
}  # fmt: skip


def test_generation_equals_one_prompt_at_a_time(llm: Backbone) -> None:
    writer = LocalWriter(backbone=llm, options=OPTIONS)
    expected = greedy(llm, writer)
    assert len({len(writer.prompt(item).content) for item in ITEMS}) == len(ITEMS)
    assert written(writer) == expected and writer._way == "shared beginning"
    prompts = [writer.prompt(item).content for item in ITEMS]
    assert writer.answers(prompts[::-1]) == expected[::-1]


@pytest.mark.parametrize("name", MODELS)
def test_models_of_other_kinds(llm: Backbone, name: str) -> None:
    kind, config, way = MODELS[name]
    other = random_model(kind, config, llm)
    writer = LocalWriter(backbone=other, options=OPTIONS)
    assert written(writer) == greedy(other, writer)
    assert way is None or writer._way == way


def test_padding_that_a_model_takes_for_text_is_found(llm: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose forward pass does not look at the mask: the ways with padding disagree with it alone."""
    other = random_model(MODELS["learned positions"][0], copy.deepcopy(MODELS["learned positions"][1]), llm)
    forward = other.model.forward

    def blind(*arguments: Any, attention_mask: Any = None, position_ids: Any = None, **options: Any) -> Any:
        return forward(*arguments, **options)

    monkeypatch.setattr(other.model, "forward", blind)
    writer = LocalWriter(backbone=other, options=OPTIONS)
    assert written(writer) == greedy(other, writer) and writer._way == "alone"


@pytest.mark.parametrize(
    "asked",
    [
        {"do_sample": True, "temperature": 5.0, "top_k": 3},
        {"repetition_penalty": 50.0},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 6},
        {"forced_bos_token_id": 7},
        {"forced_eos_token_id": 1},
        {"suppress_tokens": list(range(5, 390))},
        {"num_beams": 3},
        {"max_length": 5},
        {"bad_words_ids": [[token] for token in range(5, 390)]},
        {"use_cache": False},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_the_models_own_settings_ask_in_vain(
    llm: Backbone, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    expected = greedy(llm, LocalWriter(backbone=llm, options=OPTIONS))
    own = GenerationConfig(eos_token_id=[1, 399], pad_token_id=2, **asked)
    monkeypatch.setattr(llm.model, "generation_config", own)
    writer = LocalWriter(backbone=llm, options=OPTIONS)
    assert writer._ends == [1, 399]
    assert written(writer) == expected
    assert llm.model.generation_config is own


def test_the_model_is_left_as_it_was_whatever_happens(llm: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    before, settings = llm.model.config._attn_implementation, llm.model.generation_config
    assert before == "sdpa"
    written(LocalWriter(backbone=llm, options=OPTIONS))
    assert llm.model.config._attn_implementation == before and not llm.head._forward_pre_hooks
    writer = LocalWriter(backbone=llm, options=OPTIONS)
    written(writer)

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(llm.model), "generate", fails)
    with pytest.raises(RuntimeError):
        written(writer)
    assert llm.model.config._attn_implementation == before and not llm.head._forward_pre_hooks
    assert llm.model.generation_config is settings


def test_the_key_says_who_writes_and_how(
    llm: Backbone, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = SummaryOptions().described()

    def key(backbone: Backbone, **limits: int) -> str:
        return LocalWriter(backbone=backbone, options=SummaryOptions(**{"max_words": 6, **limits})).key

    assert key(llm) == key(load_backbone(str(tiny_llm), dtype="float32"))
    other = Backbone(
        name=llm.name, model=llm.model, tokenizer=llm.tokenizer, layers=llm.layers, fingerprint="1" * 16
    )
    keys = {key(llm), key(other), key(llm, max_words=7), key(llm, max_new_tokens=20), key(llm, context=500)}
    assert len(keys) == 5
    monkeypatch.setattr(llm.model, "generation_config", GenerationConfig(eos_token_id=[1, 399]))
    assert key(llm) not in keys  # answers end elsewhere
    monkeypatch.setattr(options, "INSTRUCTION", "In {words} words.")
    assert SummaryOptions().described() != described


def thinker(tiny_llm: Path, llm: Backbone, template: str) -> Backbone:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    # In place of letters that nobody uses, so that the table has rows for them.
    tokenizer.add_tokens(
        [AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")]
    )
    tokenizer.chat_template = template
    return Backbone(
        name="tiny", model=llm.model, tokenizer=tokenizer, layers=llm.layers, fingerprint="2" * 16
    )


def test_a_thought_is_cut_off_or_refused(
    llm: Backbone, tiny_llm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
    backbone = thinker(tiny_llm, llm, template)
    tokenizer = backbone.tokenizer
    writer = LocalWriter(backbone=backbone, options=OPTIONS)

    def says(text: str) -> list[tuple[str, bool]]:
        ids = tokenizer(text)["input_ids"]
        monkeypatch.setattr(
            LocalWriter, "_generate", lambda self, prompts, **_: ([[*ids, 1]], torch.empty(0))
        )
        monkeypatch.setattr(LocalWriter, "_agreeing_way", lambda self: "alone")
        return writer.answers([[0]])

    assert says("A mug.") == [("A mug.", False)]
    assert says("<think>\nIt says mug.\n</think>\n\nA mug.") == [("A mug.", False)]
    with pytest.raises(InputError, match="--llm tiny thinks before it answers"):
        says("<think>\nIt says mug. It")
    # A template that opens the thought: what comes without any mark is one.
    writer = LocalWriter(
        backbone=thinker(tiny_llm, llm, template.replace("Answer:", "<think>")), options=OPTIONS
    )
    with pytest.raises(InputError, match="--llm tiny thinks before it answers"):
        says("It says mug. It")
    assert says("It says mug.</think>A mug.") == [("A mug.", False)]
