"""Summaries: what is given or short is kept, the rest is generated once per item, and an interruption loses nothing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from baselines.summarizer import SummaryOptions, summaries
from baselines.summarizer.local import LocalWriter
from baselines.summarizer.text import Source, count_words, split, trim
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone, load_backbone

OPTIONS = SummaryOptions(max_words=2, max_new_tokens=6)


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


def lines(cache: Path) -> list[dict[str, Any]]:
    (path,) = (cache / "summaries").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def count_batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    answers = LocalWriter.answers

    def counted(self: Any, prompts: Any) -> list[tuple[str, bool]]:
        sizes.append(len(prompts))
        return answers(self, prompts)

    monkeypatch.setattr(LocalWriter, "answers", counted)
    return sizes


def said(monkeypatch: pytest.MonkeyPatch, llm: Backbone, answer: Any) -> list[str]:
    """Let the LLM answer by a function of its prompt's text; returns the list of those texts."""
    read: list[str] = []

    def answers(self: Any, prompts: Any) -> list[tuple[str, bool]]:
        texts = [llm.tokenizer.decode(ids) for ids in prompts]
        read.extend(texts)
        return [answer(text) for text in texts]

    monkeypatch.setattr(LocalWriter, "answers", answers)
    return read


def test_given_short_and_missing_descriptions_need_no_model(tmp_path: Path) -> None:
    rows = [
        {"title": "A", "summary": "Kept  as it is.", "description": "long " * 200},
        {"title": "B", "brand": "Acme", "category": "Toys"},
        {"title": "C"},
        {"title": "D", "brand": "Acme", "category": "Toys", "description": "word " * 120},
        {"title": "E", "description": " A plain\nmug. "},
    ]
    found = summaries(make_dataset(rows), "no such model", cache=tmp_path, progress=False)
    assert found.texts == [
        "Kept as it is.",
        "B (Acme, Toys).",
        "C.",
        "Acme, Toys. " + " ".join(["word"] * 120),
        "A plain mug.",
    ]
    report = found.report
    assert (report.items, report.given, report.kept, report.attributes_only) == (5, 1, 2, 2)
    assert (report.generated, report.cut, report.seconds, report.summarizer) == (0, 0, 0.0, "")
    assert report.mean_words == pytest.approx((4 + 3 + 1 + 122 + 3) / 5) and report.mean_tokens is None
    assert list(tmp_path.iterdir()) == []
    one_more = make_dataset([{"title": "D", "description": "word " * 121}])
    with pytest.raises(InputError, match="no such model"):
        summaries(one_more, "no such model", cache=tmp_path, progress=False)


def test_the_limits_are_the_papers_and_can_be_reached() -> None:
    """About 160 tokens (Figure 1(a)); a word of English takes about 4/3."""
    options = SummaryOptions()
    assert 150 <= options.max_words * 4 / 3 <= 170 and options.new_tokens >= options.max_words * 4 / 3
    assert "120 words" in options.instruction
    with pytest.raises(InputError, match="--summary-tokens 48: too few for --summary-words 50"):
        SummaryOptions(max_words=50, max_new_tokens=48)
    with pytest.raises(InputError, match="--summary-words 0"):
        SummaryOptions(max_words=0)
    with pytest.raises(InputError, match="--summarizer-context 0"):
        SummaryOptions(context=0)


def test_each_item_is_generated_once(llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = count_batches(monkeypatch)
    data = make_dataset([*described(5), {"title": "C"}])
    first = summaries(data, llm, cache=tmp_path, options=OPTIONS, batch_size=2, progress=False)
    assert sizes == [2, 2, 1] and all(first.texts) and len(lines(tmp_path)) == 5
    again = summaries(data, llm, cache=tmp_path, options=OPTIONS, batch_size=2, progress=False)
    assert again.texts == first.texts and sizes == [2, 2, 1]
    # Those of an earlier run count, with the time that they took.
    assert again.report == first.report
    assert first.report.generated + first.report.attributes_only == 6
    assert first.report.seconds == pytest.approx(sum(line["seconds"] for line in lines(tmp_path)))
    assert first.report.seconds > 0 and first.report.summarizer == Path(llm.name).name
    tokens = [len(llm.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in first.texts]
    assert first.report.mean_tokens == pytest.approx(np.mean(tokens))
    # A new item costs one item's generation, and nothing that was written changes.
    more = make_dataset([*described(6), {"title": "C"}])
    longer = summaries(more, llm, cache=tmp_path, options=OPTIONS, batch_size=2, progress=False)
    assert longer.texts[:5] == first.texts[:5] and sizes[3:] == [2] and len(lines(tmp_path)) == 6
    # Another model or other options have a file of their own.
    other = SummaryOptions(max_words=2, max_new_tokens=5)
    summaries(data, llm, cache=tmp_path, options=other, batch_size=2, progress=False)
    assert len(list((tmp_path / "summaries").glob("*.jsonl"))) == 2


def test_an_interrupted_run_is_resumed_with_the_same_result(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_dataset(described(6))
    whole = summaries(data, llm, cache=tmp_path / "a", options=OPTIONS, batch_size=2, progress=False)
    answers = LocalWriter.answers
    calls = 0

    def interrupted(self: Any, prompts: Any) -> list[tuple[str, bool]]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return answers(self, prompts)

    monkeypatch.setattr(LocalWriter, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        summaries(data, llm, cache=tmp_path / "b", options=OPTIONS, batch_size=2, progress=False)
    assert len(lines(tmp_path / "b")) == 2
    # As if it had been killed in the middle of a write.
    (path,) = (tmp_path / "b" / "summaries").glob("*.jsonl")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"item": "0123", "summ')
    resumed = summaries(data, llm, cache=tmp_path / "b", options=OPTIONS, batch_size=2, progress=False)
    assert resumed.texts == whole.texts
    stored = [line for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    assert len(stored) == 6


def test_the_whole_description_is_read(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every word of a description that exceeds the context is in one of the prompts, none of which exceeds it."""
    words = [f"w{number}" for number in range(300)]
    rows = [{"title": "Mug", "brand": "Acme", "description": " ".join(words)}]
    options = SummaryOptions(max_words=8, max_new_tokens=20, context=300)
    read = said(monkeypatch, llm, lambda text: ("A part." if "w0 " in text else "Other.", False))
    found = summaries(make_dataset(rows), llm, cache=tmp_path, options=options, progress=False)
    last = read.pop()
    assert len(read) >= 2
    shown = " ".join(text.partition("Description: ")[2].partition("\n")[0] for text in read)
    assert sorted(shown.split()) == sorted(words)
    assert all("Title: Mug\nBrand: Acme\n" in text for text in (*read, last))
    lengths = [len(llm.tokenizer(text)["input_ids"]) for text in read]
    assert max(lengths) <= 280
    # The summaries of the chunks are summarised in turn.
    assert "A part." in last and last.count("Other.") == len(read) - 1 and "w0" not in last
    assert found.texts == ["Other."]
    assert (found.report.generated, found.report.cut, found.report.chunked) == (1, 1, 1)
    # In the LLM's own context there is room for all of it.
    read.clear()
    summaries(
        make_dataset(rows), llm, cache=tmp_path, options=SummaryOptions(max_words=8, max_new_tokens=20), progress=False
    )  # fmt: skip
    assert len(read) == 1 and " ".join(words) in read[0]


@pytest.mark.parametrize(
    "text",
    [
        "a b c d e f g h i " + "".join(f"{n:03d}" for n in range(170)),
        "".join(chr(0x4E00 + n) for n in range(500)),
    ],
    ids=["one long word", "ideographs"],
)
def test_a_description_without_blanks_is_read_in_chunks(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    options = SummaryOptions(max_words=8, max_new_tokens=20, context=300)
    read = said(monkeypatch, llm, lambda prompt: ("A part.", True))
    rows = [{"title": "Mug", "description": text}]
    summaries(make_dataset(rows), llm, cache=tmp_path, options=options, progress=False)
    shown = [prompt.partition("Description: ")[2].partition("\n")[0] for prompt in read[:-1]]
    assert len(shown) >= 2 and all(part in text for part in shown)
    assert len("".join(shown).replace(" ", "")) == len(text.replace(" ", ""))


def test_what_leaves_no_room_is_refused(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(rows: list[dict[str, str]], options: SummaryOptions) -> str:
        with pytest.raises(InputError) as error:
            summaries(make_dataset(rows), llm, cache=tmp_path, options=options, progress=False)
        return str(error.value)

    long = "w " * 300
    assert "leave no room" in refused(
        [{"title": "Mug", "description": long}], SummaryOptions(max_words=8, context=30)
    )
    assert "item 'long long" in refused(
        [{"title": "long " * 200, "description": long}], SummaryOptions(max_words=8, context=300)
    )
    assert "at most 2048 tokens" in refused(
        [{"title": "Mug", "description": long}], SummaryOptions(max_words=8, context=4096)
    )
    # A model that repeats what it reads would never come to an end.
    said(monkeypatch, llm, lambda text: (text.partition("Description: ")[2].partition("\n")[0], True))
    assert "as long as its description" in refused(
        [{"title": "Mug", "description": long}], SummaryOptions(max_words=8, max_new_tokens=20, context=300)
    )


def test_a_model_that_says_nothing_leaves_the_attributes(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(monkeypatch, llm, lambda text: ("", True))
    found = summaries(make_dataset(described(1)), llm, cache=tmp_path, options=OPTIONS, progress=False)
    assert found.texts == ["Mug 0 (Acme, Kitchen)."]
    assert (found.report.generated, found.report.attributes_only) == (0, 1)


def test_the_report_is_said(
    llm: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said(monkeypatch, llm, lambda text: ("A mug", "Mug 1" in text))
    data = make_dataset([*described(2), {"title": "C"}, {"title": "D", "summary": "Given."}])
    with caplog.at_level(logging.INFO):
        report = summaries(data, llm, cache=tmp_path, options=OPTIONS, progress=False).report
    assert (report.generated, report.cut, report.chunked) == (2, 1, 0)
    (line,) = [record.message for record in caplog.records if "summaries of" in record.message]
    assert "4 items: 1 came with the data, 0 short descriptions kept, 2 generated (1 of them cut" in line


def test_an_unwritable_cache_is_named(llm: Backbone, tmp_path: Path) -> None:
    (tmp_path / "summaries").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        summaries(make_dataset(described(1)), llm, cache=tmp_path, options=OPTIONS, progress=False)


@pytest.mark.parametrize(
    ("text", "finished", "expected"),
    [
        ("One. Two three four.", True, ("One. Two three four.", False)),
        ("One. Two three four", False, ("One.", True)),
        ("One two three", False, ("One two three", True)),
        ("  A\n\nb\tc. ", True, ("A b c.", False)),
        ("Costs 3.50 in all. And so", False, ("Costs 3.50 in all.", True)),
        ("a b c d e f g. h i j k l m n", True, ("a b c d e f g.", True)),
        ("a b c d e f g h i j k l m n", True, ("a b c d e f g h i j", True)),
        ("一二三四五。六七八九十", True, ("一二三四五。", True)),
        ("a\ud83db", True, ("a b", False)),
        ("", True, ("", False)),
    ],
)
def test_trimming(text: str, finished: bool, expected: tuple[str, bool]) -> None:
    assert trim(text, words=10, finished=finished) == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("a red-blue mug, 3.5 l", 5), ("红色杯子", 4), ("赤いマグ mug", 5), ("빨간 머그잔", 2), ("แก้วสีแดง", 3), ("", 0)],
)  # fmt: skip
def test_words_of_any_script(text: str, number: int) -> None:
    assert count_words(text) == number


@pytest.mark.parametrize("text", ["a bc def " * 20, "x" * 50, "a " + "y" * 40 + " b", "a b"])
@pytest.mark.parametrize("parts", [1, 2, 7, 40])
def test_parts_are_the_whole(text: str, parts: int) -> None:
    found = split(text, parts)
    assert "".join(found).replace(" ", "") == text.replace(" ", "") and all(found) and len(found) <= parts


def test_a_source_has_a_line_each() -> None:
    item = {"title": " A\nmug ", "brand": "", "category": "x\x1ey", "description": "Plain."}
    source = Source.of(item)
    assert source.text() == "Title: A mug\nCategory: x y\nDescription: Plain."
    assert source.short() == "x y. Plain." and source.attributes() == "A mug (x y)."


@pytest.mark.slow
def test_the_embedded_model_writes_sentences(tmp_path: Path) -> None:
    description = (
        "A sturdy mug of red stoneware with a plain glaze. It holds a third of a litre, keeps tea warm for a while "
        "and goes into the dishwasher. The handle is wide enough for gloves. "
    )
    rows = [{"title": "Red mug", "brand": "Acme", "category": "Kitchen", "description": description * 4}]
    options = SummaryOptions(max_words=40)
    found = summaries(make_dataset(rows), "smollm2-135m", cache=tmp_path, options=options, progress=False)
    (text,) = found.texts
    assert 3 <= len(text.split()) <= 40 and "mug" in text.lower() and found.report.generated == 1
