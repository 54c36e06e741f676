"""Hostile texts through the programs, and through every place where texts become tokens."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile_texts import (
    CANARY,
    CHECKS,
    COLUMNS,
    CONTROLS,
    FORMULAS,
    LONG,
    TEXTS,
    everything,
    program,
)
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast

from baselines.generative.identifiers import keyword_identifiers
from baselines.summarizer.chat import Prompts
from baselines.summarizer.endpoint import EndpointWriter
from baselines.summarizer.options import Endpoint, SummaryOptions
from baselines.summarizer.text import Source
from bench.harness.methods import REPRESENTATIONS
from illmrec.assembly import load_representation
from illmrec.features.grids import of_pictures
from illmrec.prompts.control_tokens import control_tokens
from illmrec.prompts.questions import Questions
from illmrec.prompts.tokens import tokenise_items

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPELT = (
    "<|im_start|>",
    "<|im_end|>",
    "<|image_pad|>",
    "<|endoftext|>",
    "[REC]",
    "[IMG]",
    "[INST]",
    "<think>",
    "<image>",
)


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    """As of the data set, with every text in every column."""
    found = pd.DataFrame({"item_id": [f"i{row}" for row in range(len(TEXTS))]})
    for shift, column in enumerate(COLUMNS):
        found[column] = [TEXTS[(row + 7 * shift) % len(TEXTS)] for row in range(len(TEXTS))]
    return found


def byte_level(tiny_llm: Path) -> Any:
    """BPE over bytes, as GPT-2, LLaMA 3, Qwen and tiktoken's are."""
    made = AutoTokenizer.from_pretrained(tiny_llm)
    made.add_tokens([AddedToken(text, special=text.startswith("<|"), normalized=False) for text in SPELT])
    return made


def pieces(tiny_llm: Path) -> Any:
    """A unigram model that normalises, as SentencePiece's are, with the controls among its pieces."""
    letters = [(letter, -3.0) for letter in sorted(set("".join(TEXTS)[:5000]) - {" "})]
    controls = [(text, 0.0) for text in ("</s>", "<s>", *SPELT)]
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), *controls, ("▁", -2.0), *letters], unk_id=0))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\u200b", "")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", bos_token="<s>", pad_token="</s>"
    )
    made.add_special_tokens({"additional_special_tokens": list(SPELT)})
    return made


def bytes_alone(tiny_llm: Path) -> Any:
    """A tokenizer written in Python."""
    made = ByT5Tokenizer(extra_ids=2)
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in SPELT])
    return made


KINDS = {"byte-level": byte_level, "pieces": pieces, "bytes alone": bytes_alone}


@pytest.mark.parametrize("kind", KINDS)
def test_no_item_spells_a_control_token(kind: str, tiny_llm: Path, items: pd.DataFrame) -> None:
    tokenizer = KINDS[kind](tiny_llm)
    control = control_tokens(tokenizer)
    assert any(not control.ids.isdisjoint(tokenizer(text)["input_ids"][:-1]) for text in CONTROLS)
    cut = (
        items.assign(**{name: items[name].str[:3000] for name in COLUMNS}) if kind != "byte-level" else items
    )
    for path in REPRESENTATIONS.values():
        representation = load_representation(path)
        present = {
            slot: (np.arange(len(items)) % 2 == 0) | (not of_pictures(slot)) for slot in representation.slots
        }
        tokenised = tokenise_items(cut, representation, tokenizer, present=present)
        assert control.ids.isdisjoint(tokenised.ids.tolist()), path
    asked = Questions(items=cut, tokenizer=tokenizer, answer_tokens=100_000)
    for rows in (*asked._answers.values(), *asked._questions.values()):
        assert all(control.ids.isdisjoint(ids.tolist()) for ids in rows)


@pytest.mark.parametrize("kind", ["byte-level", "pieces"])
def test_no_item_closes_the_template_of_a_summariser(kind: str, tiny_llm: Path, items: pd.DataFrame) -> None:
    tokenizer = KINDS[kind](tiny_llm)
    tokenizer.chat_template = CHATML
    control = control_tokens(tokenizer)
    prompts = Prompts(tokenizer=tokenizer, instruction="Say what it is.", name="x")
    plain = [one for one in prompts.ids("Title: a mug") if one in control.ids]
    for row in items.to_dict("records"):
        text = Source.of(row).text()[:4000]
        assert [one for one in prompts.ids(text) if one in control.ids] == plain


def test_what_a_server_is_sent_steers_no_usual_model(items: pd.DataFrame) -> None:
    writer = EndpointWriter(
        endpoint=Endpoint(url="http://h/v1", model="m"), options=SummaryOptions(max_words=4)
    )
    for row in items.to_dict("records"):
        sent = writer.prompt(Source.of(row).text()).content[1]["content"]
        assert not re.search(
            r"<\|\w+\|>|＜\|\w+\|＞|</?s>|＜/s＞|\[/?INST\]|<image>|<think>|\[IMG\]|<extra_id_0>", sent
        )


def test_identifiers_are_bounded_words(items: pd.DataFrame) -> None:
    found = keyword_identifiers(items)
    assert len(set(found)) == len(items) and max(map(len, found)) < 400
    assert all(re.fullmatch(r"[\w ]+", text) for text in found)


def test_nothing_gets_through_the_programs(tiny_llm: Path, tiny_encoders: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert everything(folder, llm=tiny_llm, vision=tiny_encoders[1], text=tiny_encoders[3]) == []
    page = folder / "out" / "index.html"
    text = page.read_text(encoding="utf-8")
    assert (
        "&lt;img src=x onerror=" in text and "&lt;script&gt;document.title" in text
    )  # it was there to get through
    assert len(text) < 1_000_000
    tables = list((folder / "out").rglob("tables/*.csv"))
    assert any("'=cmd" in path.read_text(encoding="utf-8") for path in tables)
    assert (folder / "sheet.png").stat().st_size < 1_000_000
    if CHROMIUM is not None:
        check_in_browser(page, tmp_path)


def check_in_browser(page: Path, tmp_path: Path) -> None:
    """Open the page: its title is ours, no text ran, and a page that lets one run would be found out."""
    open_page = tmp_path / "open.html"
    open_page.write_text(f'<!doctype html><title>x</title><img src=x onerror="{CANARY}">', encoding="utf-8")
    titles = []
    for path in (page, open_page):
        done = subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
                "--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", path.as_uri(),
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        titles.append(re.search(r"<title>(.*?)</title>", done.stdout)[1])
        if path == page:
            assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert titles == ["How should an LLM recommender represent an item?", "owned"]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("x.html", "<p>&lt;b&gt;</p><script>ours</script>", 0),
        ("x.html", '<img src="x" onerror="y()"><script></script>', 2),
        ("x.html", "<a href='javascript:x'>y</a><script></script>", 1),
        ("x.html", "<script></script><script></script>", 1),
        ("x.html", "<p>\u202e</p><script></script>", 1),
        ("x.md", "a\n\n| a | b |\n| --- | --- |\n| x\\|y | \\`z\\` |\n", 0),
        ("x.md", "| a | b |\n| --- | --- |\n| x|y | z |\n", 1),
        ("x.md", "a <b> [c](d)\n", 2),
        ("x.tex", "% needs x\n\\begin{table}\na\\_b \\textless{} \\\\\n\\end{table}\n", 0),
        ("x.tex", "% needs x\n\\input{y} % z\n", 2),
        ("x.tex", "% needs x\na \\\\\n[b] \\\\\n{\n", 2),
        ("x.csv", "a,b\n-0.5,'=x\n", 0),
        ("x.csv", "a,=b\n-0.5x,1\n", 2),
        ("x.svg", "<svg xmlns='http://www.w3.org/2000/svg'><title>x</title></svg>", 0),
        ("x.svg", "<svg onload='x'><script/></svg>", 2),
    ],
)
def test_what_gets_through_is_found(name: str, text: str, found: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert len(CHECKS[path.suffix](path)) == found


def test_the_texts_are_what_they_should_be() -> None:
    assert len(LONG) == 100_000 and len(TEXTS) == len(set(TEXTS))
    assert all(text.strip()[0] in "=+-@＝" for text in FORMULAS)
    assert callable(program)
