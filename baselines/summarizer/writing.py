"""Summaries of all items: what is given or short is kept, the rest is written once per item."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from baselines.summarizer.endpoint import EndpointWriter
from baselines.summarizer.local import LocalWriter
from baselines.summarizer.options import Endpoint, SummaryOptions
from baselines.summarizer.prompt import Prompt, Writer
from baselines.summarizer.report import Summaries, SummaryReport
from baselines.summarizer.store import SummaryStore
from baselines.summarizer.text import Source, clean, count_words, split
from illmrec.data.dataset import Dataset
from illmrec.errors import InputError
from illmrec.files import cache_dir
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.loading import RANDOM


def summaries(
    dataset: Dataset,
    llm: Backbone | str,
    *,
    endpoint: Endpoint | None = None,
    cache: Path | None = None,
    options: SummaryOptions | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    progress: bool = True,
) -> Summaries:
    """Return a summary of every item; what is already written is kept.

    An item that has a ``summary`` keeps it. One without a description gets its title and attributes; one whose
    description is within the limit of words gets its attributes and the description as it is. The rest is generated
    from the whole text: where that is longer than the summariser reads at once, from summaries of its chunks. What is
    generated is appended to ``cache/summaries/<key>.jsonl`` as it comes, so that an interrupted run loses one batch.

    Args:
        dataset: The data set.
        llm: A loaded backbone, or the name of one; loaded only if it has to generate something.
        endpoint: A server that writes instead of the LLM.
        cache: By default the user's cache.
        options: Lengths.
        batch_size: Items that the LLM generates together.
        device: Where a named model is loaded.
        progress: Show a progress bar.

    Raises:
        InputError: If the summariser cannot be loaded, reached or used, or the cache cannot be written.
    """
    options = options or SummaryOptions()
    items = dataset.items.to_dict("records")
    sources = [Source.of(item) for item in items]
    texts = [clean(item["summary"]) for item in items]
    given = np.array([bool(text) for text in texts], dtype=bool)
    words = np.array([count_words(source.description) for source in sources])
    bare, kept = ~given & (words == 0), ~given & (words > 0) & (words <= options.max_words)
    for row in np.flatnonzero(bare).tolist():
        texts[row] = sources[row].attributes()
    for row in np.flatnonzero(kept).tolist():
        texts[row] = sources[row].short()
    wanted = np.flatnonzero(~given & (words > options.max_words)).tolist()
    written = _Written(answers={}, cut=set(), chunked=set(), seconds=0.0)
    name, tokenizer = "", None if isinstance(llm, str) else llm.tokenizer
    if wanted:
        writer: Writer
        if endpoint is not None:
            writer, name = EndpointWriter(endpoint=endpoint, options=options), endpoint.name
        else:
            if isinstance(llm, str) and llm.startswith(RANDOM):
                raise InputError(
                    f"--llm {llm}: weights drawn at random write no summaries; give data that have them, or leave out "
                    "the methods that show them"
                )
            backbone = load_backbone(llm, device=device) if isinstance(llm, str) else llm
            tokenizer = backbone.tokenizer
            writer = LocalWriter(backbone=backbone, options=options, batch_size=batch_size)
            name = str(backbone.describe()["name"])
        store = SummaryStore((cache or cache_dir()) / "summaries" / f"{writer.key}.jsonl")
        written = _write(
            {row: sources[row] for row in wanted}, writer, store, options=options, progress=progress
        )
    silent = [row for row, text in written.answers.items() if not text]
    for row, text in written.answers.items():
        texts[row] = text or sources[row].attributes()
    report = SummaryReport(
        items=len(items),
        given=int(given.sum()),
        kept=int(kept.sum()),
        generated=len(wanted) - len(silent),
        attributes_only=int(bare.sum()) + len(silent),
        cut=len(written.cut.difference(silent)),
        chunked=len(written.chunked.difference(silent)),
        mean_words=float(np.mean([count_words(text) for text in texts])),
        mean_tokens=None if tokenizer is None else mean_tokens(texts, tokenizer),
        seconds=written.seconds,
        summarizer=name,
    )
    report.log()
    return Summaries(texts=texts, report=report)


@dataclass(kw_only=True)
class _Written:
    """Answers by row, the rows whose source or answer was cut, those read in chunks, and the seconds of all prompts."""

    answers: dict[int, str]
    cut: set[int]
    chunked: set[int]
    seconds: float


def _write(
    sources: Mapping[int, Source],
    writer: Writer,
    store: SummaryStore,
    *,
    options: SummaryOptions,
    progress: bool,
) -> _Written:
    """Write the summaries of sources; of one that is read in chunks, of the chunks first, then of their summaries."""
    done = _Written(answers={}, cut=set(), chunked=set(), seconds=0.0)
    counted: set[str] = set()
    pending = dict(sources)
    while pending:
        chunks = {row: _chunks(source, writer, options) for row, source in pending.items()}
        titles = {prompt.key: pending[row].title for row, found in chunks.items() for prompt in found}
        prompts = {prompt.key: prompt for found in chunks.values() for prompt in found}
        with tqdm(total=len(prompts), desc="writing summaries", unit="item", disable=not progress) as bar:
            bar.update(sum(key in store for key in prompts))
            for answers in writer.write(list(prompts.values()), known=store):
                store.add(answers, titles=[titles[answer.key] for answer in answers])
                bar.update(len(answers))
        done.seconds += sum(store[key].seconds for key in prompts if key not in counted)
        counted |= prompts.keys()
        following = {}
        for row, found in chunks.items():
            answers = [store[prompt.key] for prompt in found]
            if len(answers) == 1:
                done.answers[row] = answers[0].text
                if answers[0].cut or row in done.chunked:
                    done.cut.add(row)
                continue
            done.chunked.add(row)
            joined = " ".join(answer.text for answer in answers if answer.text)
            if not joined:
                done.answers[row] = ""
                continue
            following[row] = pending[row].with_description(joined)
            if writer.prompt(following[row].text()).length >= writer.prompt(pending[row].text()).length:
                raise InputError(
                    f"item '{pending[row].title[:60]}': the summaries of its chunks are as long as its description; "
                    "raise --summarizer-context or use another summariser"
                )
        pending = following
    return done


def _chunks(source: Source, writer: Writer, options: SummaryOptions) -> list[Prompt]:
    """Return prompts for the whole text of an item: one, or as many as it takes, each with title, brand and category.

    Raises:
        InputError: If title, brand and category leave no room for chunks that are longer than their summaries.
    """
    whole = writer.prompt(source.text())
    if whole.length <= writer.room:
        return [whole]
    around = writer.prompt(source.with_description("").text()).length
    free = writer.room - around
    if free < 2 * options.new_tokens:
        raise InputError(
            f"item '{source.title[:60]}': instruction, title, brand and category leave {max(free, 0)} of {writer.room} "
            f"tokens for the description, too few for summaries of {options.new_tokens}; raise --summarizer-context or "
            "lower --summary-words"
        )
    parts = math.ceil((whole.length - around) / free)
    while True:
        texts = split(source.description, parts)
        prompts = [writer.prompt(source.with_description(text).text()) for text in texts]
        if all(prompt.length <= writer.room for prompt in prompts):
            return prompts
        parts += max(1, parts // 8)


def mean_tokens(texts: Sequence[str], tokenizer: object) -> float:
    """Return the mean tokens of texts by an LLM's tokenizer."""
    ids = tokenizer(list(texts), add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    return float(np.mean([len(row) for row in ids]))
