"""TRSR's summary column: each item's attributes and description condensed by a language model, once per item.

The paper (Appendix A) does not print its summary prompt; the one here asks for the same thing: title, brand, category
and description in a few dozen words. What comes back is as good as the model: the embedded one, with 135 M
parameters, names the theme but is no reliable witness of details.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from baselines.summarizer.report import Summaries, SummaryReport
from illmrec.data.dataset import Dataset
from illmrec.files import atomic_write_text, cache_dir, hash_json
from illmrec.model.backbone import Backbone, load_backbone

logger = logging.getLogger(__name__)

_VERSION = 1  # changes when the same options would give other summaries
_INSTRUCTION = (
    "Give a concise, objective summary of the input text, in up to three sentences of at most {words} words "
    "together, with its key details."
)
_ITEM = (
    "\x1e"  # stands for the item in the chat template; never in a user's text, whose control characters go
)


@dataclass(frozen=True, kw_only=True)
class SummaryOptions:
    """How summaries are written; part of their cache's key.

    Attributes:
        max_words: What the prompt asks for and where a summary is cut.
        max_new_tokens: Longest generation; an unfinished last sentence is dropped where a whole one precedes it.
        max_item_tokens: Longest item text; of a longer one the beginning is kept.
    """

    max_words: int = 50
    max_new_tokens: int = 48
    max_item_tokens: int = 96


def summaries(
    dataset: Dataset,
    llm: Backbone | str,
    *,
    cache: Path | None = None,
    options: SummaryOptions | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    progress: bool = True,
) -> Summaries:
    """Return a summary of every item; what is already written is kept.

    An item that has a ``summary`` keeps it. One without a description gets its title and attributes, without
    generation. The rest is generated greedily and appended to ``cache/summaries/<key>.jsonl``, one JSON object per
    line (``item``: key of its prompt, ``title``, ``summary``), batch by batch: an interrupted run loses one batch.
    Batches are made of items of similar length, the same ones whatever is cached already.

    Args:
        dataset: The data set.
        llm: A loaded backbone, or the name of one; loaded only if something has to be generated.
        cache: By default the user's cache.
        options: Lengths.
        batch_size: Items generated together.
        device: Where a named model is loaded.
        progress: Show a progress bar.

    Raises:
        InputError: If the model cannot be loaded or the cache cannot be written.
    """
    options = options or SummaryOptions()
    items = dataset.items.to_dict("records")
    written = [_clean(item["summary"]) for item in items]
    given = np.array([bool(summary) for summary in written])
    described = np.array([bool(_clean(item["description"])) for item in items])
    for row in np.flatnonzero(~given & ~described).tolist():
        written[row] = _attributes(items[row])
    wanted = np.flatnonzero(~given & described)
    if len(wanted):
        backbone = load_backbone(llm, device=device) if isinstance(llm, str) else llm
        writer = _Writer(backbone=backbone, options=options)
        store = _Store((cache or cache_dir()) / "summaries" / f"{writer.key}.jsonl")
        prompts = {row: writer.prompt(items[row]) for row in wanted.tolist()}
        keys = {row: hash_json(prompt) for row, prompt in prompts.items()}
        order = sorted(prompts, key=lambda row: (len(prompts[row]), row))
        with tqdm(total=len(order), desc="writing summaries", unit="item", disable=not progress) as bar:
            for begin in range(0, len(order), batch_size):
                rows = order[begin : begin + batch_size]
                missing = [row for row in rows if keys[row] not in store]
                if missing:
                    texts = dict(zip(rows, writer.write([prompts[row] for row in rows]), strict=True))
                    # A model that says nothing leaves what is known without it.
                    store.add(
                        [
                            {
                                "item": keys[row],
                                "title": str(items[row]["title"]),
                                "summary": texts[row] or _attributes(items[row]),
                            }
                            for row in missing
                        ]
                    )
                bar.update(len(rows))
        for row in prompts:
            written[row] = store[keys[row]]
    report = SummaryReport(
        items=len(items),
        given=int(given.sum()),
        kept=0,
        generated=len(wanted),
        attributes_only=int((~given & ~described).sum()),
        cut=0,
        chunked=0,
        mean_words=float(np.mean([len(text.split()) for text in written])),
        mean_tokens=None,
        seconds=0.0,
        summarizer=(llm if isinstance(llm, str) else llm.name) if len(wanted) else "",
    )
    report.log()
    return Summaries(texts=written, report=report)


class _Writer:
    """Prompts and generation with one model."""

    def __init__(self, *, backbone: Backbone, options: SummaryOptions) -> None:
        self._backbone = backbone
        self._options = options
        instruction = _INSTRUCTION.format(words=options.max_words)
        tokenizer = backbone.tokenizer
        if tokenizer.chat_template:
            if "system" in tokenizer.chat_template:
                messages = [{"role": "system", "content": instruction}, {"role": "user", "content": _ITEM}]
            else:
                messages = [{"role": "user", "content": f"{instruction}\n\n{_ITEM}"}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        else:
            text = f"{tokenizer.bos_token or ''}{instruction}\n\n{_ITEM}\n\nSummary:"
        head, _, tail = text.partition(_ITEM)
        self._head = tokenizer(head, add_special_tokens=False)["input_ids"]
        self._tail = tokenizer(tail, add_special_tokens=False)["input_ids"]
        self._head_cache: Any = None
        self._special = [token for token in tokenizer.all_special_tokens if token]
        end = backbone.model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(end if isinstance(end, list) else [end])}
        self._ends = sorted(token for token in ends if token is not None)
        pad = tokenizer.pad_token_id
        self._pad = pad if pad is not None else (self._ends[0] if self._ends else 0)
        self.key = hash_json(
            {
                "version": _VERSION,
                "llm": backbone.describe(),
                "parameters": _parameter_fingerprint(backbone.model),
                "template": [self._head, self._tail],
                "max_words": options.max_words,
                "max_new_tokens": options.max_new_tokens,
            }
        )

    def prompt(self, item: Mapping[str, Any]) -> list[int]:
        """Return the token ids of an item's prompt after the head; of a long item the beginning is kept."""
        texts = {name: str(item[name.lower()]) for name in ("Title", "Brand", "Category", "Description")}
        for token in self._special:  # text from users must not end the user's turn
            texts = {name: text.replace(token, " ") for name, text in texts.items()}
        text = "\n".join(f"{name}: {_clean(text)}" for name, text in texts.items() if _clean(text))
        ids = self._backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids[: self._options.max_item_tokens], *self._tail]

    @torch.inference_mode()
    def write(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        """Generate greedily for a batch of prompts: the head, then padding up to the longest, then the item.

        The head is the same for all, a third of a typical prompt: its keys and values are computed once.
        """
        head = len(self._head)
        length = head + max(map(len, prompts))
        ids = torch.full((len(prompts), length), self._pad)
        attend = torch.zeros_like(ids)
        ids[:, :head] = torch.tensor(self._head)
        attend[:, :head] = 1
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = torch.tensor(prompt)
            attend[row, length - len(prompt) :] = 1
        device = self._backbone.device
        with _quick_generation(self._backbone):
            if self._head_cache is None:
                once = self._backbone.model(ids[:1, :head].to(device), use_cache=True, logits_to_keep=1)
                self._head_cache = once.past_key_values
            cache = copy.deepcopy(self._head_cache)
            cache.batch_repeat_interleave(len(prompts))
            out = self._backbone.model.generate(
                input_ids=ids.to(device),
                attention_mask=attend.to(device),
                past_key_values=cache,
                do_sample=False,
                num_beams=1,
                max_new_tokens=self._options.max_new_tokens,
                eos_token_id=self._ends or None,
                pad_token_id=self._pad,
            )
        new = out[:, length:].tolist()
        texts = []
        for row in new:
            finished = any(token in self._ends for token in row)
            text = self._backbone.tokenizer.decode(row, skip_special_tokens=True)
            texts.append(_trim(text, words=self._options.max_words, finished=finished))
        return texts


class _Store:
    """Summaries on disk, one JSON object per line, only ever appended to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._summaries: dict[str, str] = {}
        self._ends_in_newline = True
        if not path.exists():
            atomic_write_text(
                path, ""
            )  # says at once, before hours of generation, if the folder cannot be written
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        self._ends_in_newline = not text or text.endswith("\n")
        unreadable = 0
        for line in text.split("\n"):
            if not line:
                continue
            try:
                entry = json.loads(line)
                self._summaries[str(entry["item"])] = str(entry["summary"])
            except (ValueError, KeyError, TypeError):
                unreadable += (
                    1  # a run killed while it wrote leaves half a line; that item is generated again
                )
        if unreadable:
            logger.warning("%s: skipped %d lines that are not whole", path, unreadable)

    def __contains__(self, key: str) -> bool:
        return key in self._summaries

    def __getitem__(self, key: str) -> str:
        return self._summaries[key]

    def add(self, entries: Sequence[Mapping[str, str]]) -> None:
        """Append whole lines in one write and wait until they are on disk."""
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        with self._path.open("ab") as file:
            file.write(
                ("" if self._ends_in_newline else "\n").encode() + lines.encode("utf-8", errors="replace")
            )
            file.flush()
            os.fsync(file.fileno())
        self._ends_in_newline = True
        self._summaries.update({entry["item"]: entry["summary"] for entry in entries})


@contextlib.contextmanager
def _quick_generation(backbone: Backbone) -> Iterator[None]:
    """Avoid two slow paths of PyTorch on the CPU while a model generates; the model is put back as it was.

    ``generate`` hands the LM head a strided slice, for which a linear layer first copies its matrix once per row
    (2 GB for 32 rows and 49,152 words: half of the time of a prompt). And fused attention with one query is a
    third slower than attention written out.
    """
    if backbone.device.type != "cpu":
        yield
        return
    model = backbone.model
    attention = model.config._attn_implementation
    hook = backbone.head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        hook.remove()
        model.set_attn_implementation(attention)


def _parameter_fingerprint(model: Any) -> str:
    """Identify a model's parameters by a few values of each, so that retraining a local folder changes the key."""
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        digest.update(name.encode())
        digest.update(value.detach().flatten()[:8].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _clean(text: object) -> str:
    """Return a text on one line, without control characters."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f]", " ", str(text)).split())


def _attributes(item: Mapping[str, Any]) -> str:
    """Return title, brand and category as a sentence: all there is to say without a description."""
    details = ", ".join(filter(None, (_clean(item["brand"]), _clean(item["category"]))))
    title = _clean(item["title"])
    return f"{title} ({details})." if details else f"{title}."


def _trim(text: str, *, words: int, finished: bool) -> str:
    """Cut a generated text to whole sentences of at most so many words; an unfinished one only if it is the first."""
    kept = _clean(text).split()
    cut = len(kept) > words or not finished
    text = " ".join(kept[:words])
    if cut:
        sentences = list(re.finditer(r"[.!?](?=\s|$)", text))
        if sentences:
            text = text[: sentences[-1].end()]
    return text
