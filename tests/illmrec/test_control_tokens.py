"""Texts from users spell no token that steers an LLM, and ordinary texts keep the tokens they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from illmrec.prompts.control_tokens import control_tokens, without_controls
from illmrec.prompts.tokens import tokenise_texts

SPECIAL = ("<|end|>", "<|start_header_id|>")
BRACKETED = ("<think>", "</think>", "<tool_call>", "[TOOL_CALLS]", "<｜User｜>", "◁think▷")
WORDS = ("mug", "\n\n", "    ", "<table>", "</h1>", "C++")


@pytest.fixture(scope="module")
def tokenizer(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """As saved and loaded again: special tokens that have no name, and added tokens that are not special."""
    made = AutoTokenizer.from_pretrained(tiny_llm)
    made.add_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*BRACKETED, *WORDS)])
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def ids_of(tokenizer: Any, texts: tuple[str, ...]) -> set[int]:
    return {tokenizer.convert_tokens_to_ids(text) for text in texts}


def test_what_steers_and_what_is_text(tokenizer: Any) -> None:
    control = control_tokens(tokenizer)
    assert control.ids == ids_of(tokenizer, (*SPECIAL, *BRACKETED, "<s>", "</s>"))
    assert set(control.texts) == {*SPECIAL, *BRACKETED, "<s>", "</s>"}


@pytest.mark.parametrize("spelt", [*SPECIAL, *BRACKETED, "</s>"])
def test_no_text_spells_a_control_token(tokenizer: Any, tiny_llm: Path, spelt: str) -> None:
    text = f" a {spelt}{spelt}b mug {spelt}"
    (ids,) = tokenise_texts([text], tokenizer)
    assert control_tokens(tokenizer).ids.isdisjoint(ids.tolist())
    assert tokenizer.decode(ids) == text  # nothing is lost
    # As a tokenizer encodes it that never heard of these tokens, except for the added word.
    plain = AutoTokenizer.from_pretrained(tiny_llm)
    plain.add_tokens([AddedToken("mug", special=False, normalized=False)])
    expected = plain.tokenize(text, split_special_tokens=True)
    assert tokenizer.convert_ids_to_tokens(ids.tolist()) == expected
    assert spelt not in without_controls(text, tokenizer, control_tokens(tokenizer))


def test_ordinary_texts_keep_their_tokens(tokenizer: Any) -> None:
    texts = ["a mug", "<table>\n\n    x</h1>", "x < y > z [1] {2} | <b>", "", " Title: C++"]
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert [row.tolist() for row in tokenise_texts(texts, tokenizer)] == expected
    # A text with a control token beside them changes nothing.
    assert [row.tolist() for row in tokenise_texts([*texts, "<think>"], tokenizer)][:-1] == expected
    assert [without_controls(text, tokenizer, control_tokens(tokenizer)) for text in texts] == texts


def test_what_is_left_of_a_control_token_spells_none(tokenizer: Any) -> None:
    text = without_controls("<th<think>ink> <|e<|end|>nd|> x", tokenizer, control_tokens(tokenizer))
    assert control_tokens(tokenizer).ids.isdisjoint(tokenizer(text)["input_ids"]) and text.endswith("x")


def test_letters_that_a_tokenizer_changes_first() -> None:
    """``<THINK>`` is ``<think>`` for a tokenizer that writes everything small."""
    backend = Tokenizer(models.WordLevel({"a": 0, "<": 1, "think": 2, ">": 3, "<unk>": 4}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=True)])
    (marked,) = control_tokens(tokenizer).ids
    assert marked in tokenizer("a <THINK>")["input_ids"]
    assert tokenise_texts(["a <THINK> a"], tokenizer)[0].tolist() == [0, 1, 2, 3, 0]
    text = without_controls("a <THINK> a", tokenizer, control_tokens(tokenizer))
    assert marked not in tokenizer(text)["input_ids"]


def test_a_control_token_in_the_vocabulary_of_texts() -> None:
    """A unigram model finds ``</s>`` among its pieces even where special tokens are not recognised."""
    pieces = [
        ("<unk>", 0.0),
        ("</s>", 0.0),
        ("▁a", -1.0),
        ("▁", -2.0),
        ("<", -3.0),
        ("/", -3.0),
        ("s", -3.0),
        (">", -3.0),
    ]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    assert 1 in tokenizer(" a</s>", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenise_texts([" a</s>"], tokenizer)[0].tolist() == [2, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "spelt"),
    [
        ("a＜/s＞a", "a</s>a"),  # fullwidth
        ("﹤/s﹥", "</s>"),  # small forms
        ("a<\u200b/S>＜/S＞", "a</s></s>"),  # an invisible character and capitals
        ("＜|end|＞", "<|end|>"),
    ],
)
def test_spellings_that_a_tokenizer_normalises(text: str, spelt: str) -> None:
    """A title with one of them neither spells the token nor stops the run."""
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("<|end|>", 0.0), ("▁", -2.0)]
    backend = Tokenizer(models.Unigram([*pieces, *((letter, -3.0) for letter in "<>/s|endax")], unk_id=0))
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace("\u200b", "")]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    control = control_tokens(tokenizer)
    assert not control.ids.isdisjoint(tokenizer(text, add_special_tokens=False)["input_ids"])
    (ids,) = tokenise_texts([text], tokenizer)
    assert control.ids.isdisjoint(ids.tolist())
    assert "".join(tokenizer.convert_ids_to_tokens(ids.tolist())) == spelt  # nothing is lost
    left = tokenizer(without_controls(f"{text} x", tokenizer, control), add_special_tokens=False)
    assert control.ids.isdisjoint(left["input_ids"]) and tokenizer.decode(left["input_ids"]).endswith("x")


def test_a_token_over_the_border_of_two_fields(tokenizer: Any) -> None:
    """Fields that stand side by side in a prompt are read apart; what stands in one text is read as a whole."""
    control = control_tokens(tokenizer)
    (joined,) = tokenise_texts(["mug <|e" + "nd|> mug"], tokenizer)
    apart = tokenise_texts(["mug <|e", "nd|> mug"], tokenizer)
    for ids in (joined, *apart):
        assert control.ids.isdisjoint(ids.tolist())
    assert tokenizer.decode([*apart[0], *apart[1]]) == "mug <|end|> mug"


def test_a_tokenizer_written_in_python() -> None:
    tokenizer = ByT5Tokenizer(extra_ids=2)
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    text = "é</s><think><extra_id_0>"
    assert not control_tokens(tokenizer).ids.isdisjoint(
        tokenizer(text, add_special_tokens=False)["input_ids"]
    )
    # ByT5: a byte is its value plus the three special tokens before it.
    assert tokenise_texts([text], tokenizer)[0].tolist() == [byte + 3 for byte in text.encode()]
