"""Summaries: what is given is kept, the rest is generated once per item, and an interruption loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.summarizer import SummaryOptions, summaries
from baselines.summarizer import writing as summarizer
from baselines.summarizer.writing import _trim
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone, load_backbone

OPTIONS = SummaryOptions(max_words=12, max_new_tokens=6, max_item_tokens=40)


def make_dataset(rows: list[dict[str, str]]) -> Dataset:
    items = pd.DataFrame([{column: row.get(column, "") for column in ITEM_COLUMNS} for row in rows])
    return Dataset(
        name="tiny",
        items=items,
        user_ids=np.array(["u"], dtype=object),
        sequence_items=np.zeros(3, dtype=np.int32),
        offsets=np.array([0, 3]),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


def described(number: int) -> list[dict[str, str]]:
    return [
        {
            "title": f"Mug {row}",
            "brand": "Acme",
            "category": "Kitchen",
            "description": "red plain mug " * (row + 1),
        }
        for row in range(number)
    ]


@pytest.fixture(scope="module")
def llm(tiny_llm: Path) -> Backbone:
    return load_backbone(str(tiny_llm), dtype="float32")


def lines(cache: Path) -> list[dict[str, str]]:
    (path,) = (cache / "summaries").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def count_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    write = summarizer._Writer.write

    def counted(self: Any, prompts: Any) -> list[str]:
        sizes.append(len(prompts))
        return write(self, prompts)

    monkeypatch.setattr(summarizer._Writer, "write", counted)
    return sizes


def test_given_summaries_and_missing_descriptions_need_no_model(tmp_path: Path) -> None:
    rows = [
        {"title": "A", "summary": "Kept  as it is.", "description": "long"},
        {"title": "B", "brand": "Acme", "category": "Toys"},
        {"title": "C"},
    ]
    found = summaries(make_dataset(rows), "no such model", cache=tmp_path, progress=False).texts
    assert found == ["Kept as it is.", "B (Acme, Toys).", "C."]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="no such model"):
        summaries(make_dataset(described(1)), "no such model", cache=tmp_path, progress=False)


def test_each_item_is_generated_once(llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_batches(monkeypatch)
    data = make_dataset([*described(5), {"title": "C"}])
    first = summaries(data, llm, cache=tmp_path, options=OPTIONS, batch_size=2, progress=False).texts
    assert sizes == [2, 2, 1] and all(first) and len(lines(tmp_path)) == 5
    again = summaries(data, llm, cache=tmp_path, options=OPTIONS, batch_size=2, progress=False).texts
    assert again == first and sizes == [2, 2, 1]
    # A new item costs one item's generation, and nothing that was written changes.
    more = make_dataset([*described(6), {"title": "C"}])
    longer = summaries(more, llm, cache=tmp_path, options=OPTIONS, batch_size=2, progress=False).texts
    assert longer[:5] == first[:5] and sizes[3:] == [2] and len(lines(tmp_path)) == 6
    # Another model or other options have a file of their own.
    other = SummaryOptions(max_words=12, max_new_tokens=5, max_item_tokens=40)
    summaries(data, llm, cache=tmp_path, options=other, batch_size=2, progress=False)
    assert len(list((tmp_path / "summaries").glob("*.jsonl"))) == 2


def test_an_interrupted_run_is_resumed_with_the_same_result(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(described(6))
    whole = summaries(data, llm, cache=tmp_path / "a", options=OPTIONS, batch_size=2, progress=False).texts
    write = summarizer._Writer.write
    calls = 0

    def interrupted(self: Any, prompts: Any) -> list[str]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return write(self, prompts)

    monkeypatch.setattr(summarizer._Writer, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        summaries(data, llm, cache=tmp_path / "b", options=OPTIONS, batch_size=2, progress=False)
    assert len(lines(tmp_path / "b")) == 2
    # As if it had been killed in the middle of a write.
    (path,) = (tmp_path / "b" / "summaries").glob("*.jsonl")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"item": "0123", "summ')
    resumed = summaries(data, llm, cache=tmp_path / "b", options=OPTIONS, batch_size=2, progress=False).texts
    assert resumed == whole
    stored = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    assert len(stored) == 6


def test_generation_equals_one_prompt_at_a_time(llm: Backbone) -> None:
    """Head cache and padding change nothing: compare with the model's plain greedy decoding, one prompt at a time."""
    writer = summarizer._Writer(backbone=llm, options=OPTIONS)
    items = make_dataset(described(5)).items.to_dict("records")
    prompts = [writer.prompt(item) for item in items]
    assert len({len(prompt) for prompt in prompts}) > 1
    expected = []
    for prompt in prompts:
        ids = torch.tensor([[*writer._head, *prompt]])
        for _ in range(OPTIONS.max_new_tokens):
            best = llm.model(ids).logits[0, -1].argmax()
            ids = torch.cat([ids, best[None, None]], dim=1)
            if int(best) in writer._ends:
                break
        new = ids[0, len(writer._head) + len(prompt) :].tolist()
        text = llm.tokenizer.decode(new, skip_special_tokens=True)
        expected.append(_trim(text, words=OPTIONS.max_words, finished=new[-1] in writer._ends))
    assert writer.write(prompts) == expected
    assert writer.write(prompts[::-1]) == expected[::-1]


def test_generation_leaves_the_model_as_it_was(llm: Backbone) -> None:
    before = llm.model.config._attn_implementation
    writer = summarizer._Writer(backbone=llm, options=OPTIONS)
    writer.write([writer.prompt(item) for item in make_dataset(described(2)).items.to_dict("records")])
    assert llm.model.config._attn_implementation == before and not llm.head._forward_pre_hooks


def test_a_prompt_is_cut_and_cannot_end_the_users_turn(llm: Backbone) -> None:
    writer = summarizer._Writer(backbone=llm, options=OPTIONS)
    item = {
        "title": "x</s>y\x1e", "brand": "", "category": "Ünïcode 日本語", "description": "</s> <b>word</b> " * 200,
    }  # fmt: skip
    prompt = writer.prompt(item)
    assert len(prompt) == OPTIONS.max_item_tokens + len(writer._tail)
    assert llm.tokenizer.convert_tokens_to_ids("</s>") not in prompt
    text = llm.tokenizer.decode(prompt)
    assert text.startswith("Title: x y\nCategory: Ünïcode 日本語\nDescription: <b>")
    assert "Brand" not in text and text.endswith("Summary:")


def test_the_chat_template_is_used_where_there_is_one(llm: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (
        "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    monkeypatch.setattr(llm.tokenizer, "chat_template", template)
    writer = summarizer._Writer(backbone=llm, options=OPTIONS)
    head, tail = llm.tokenizer.decode(writer._head), llm.tokenizer.decode(writer._tail)
    assert head.startswith("[user] Give a concise") and "at most 12 words" in head  # it knows no system role
    assert tail.strip() == "[assistant]"


@pytest.mark.parametrize(
    ("text", "finished", "expected"),
    [
        ("One. Two three four.", True, "One. Two three four."),
        ("One. Two three four", False, "One."),
        ("One two three", False, "One two three"),
        ("  A\n\nb\tc. ", True, "A b c."),
        ("Costs 3.50 in all. And so", False, "Costs 3.50 in all."),
        ("a b c d e f g. h i j k l m n", True, "a b c d e f g."),
        ("a b c d e f g h i j k l m n", True, "a b c d e f g h i j"),
        ("", True, ""),
    ],
)
def test_trimming(text: str, finished: bool, expected: str) -> None:
    assert _trim(text, words=10, finished=finished) == expected


def test_a_model_that_says_nothing_leaves_the_attributes(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summarizer._Writer, "write", lambda self, prompts: [""] * len(prompts))
    found = summaries(make_dataset(described(1)), llm, cache=tmp_path, options=OPTIONS, progress=False).texts
    assert found == ["Mug 0 (Acme, Kitchen)."]


def test_an_unwritable_cache_is_named(llm: Backbone, tmp_path: Path) -> None:
    (tmp_path / "summaries").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        summaries(make_dataset(described(1)), llm, cache=tmp_path, options=OPTIONS, progress=False)


@pytest.mark.slow
def test_the_embedded_model_writes_sentences(tmp_path: Path) -> None:
    description = (
        "A sturdy mug of red stoneware with a plain glaze. It holds a third of a litre, keeps tea warm for a while "
        "and goes into the dishwasher. The handle is wide enough for gloves."
    )
    rows = [{"title": "Red mug", "brand": "Acme", "category": "Kitchen", "description": description}]
    (text,) = summaries(make_dataset(rows), "smollm2-135m", cache=tmp_path, progress=False).texts
    assert 3 <= len(text.split()) <= 50 and "mug" in text.lower()
