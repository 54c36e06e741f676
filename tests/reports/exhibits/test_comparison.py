"""Beside the accuracy of methods that show summaries stands whose summaries they are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from reports.exhibits.comparison import dropped_notes, summary_notes

REPORT = {
    "items": 2000, "given": 0, "kept": 700, "generated": 1250, "attributes_only": 50, "cut": 125, "chunked": 3,
    "mean_words": 81.4, "mean_tokens": 112.6, "seconds": 4321.0, "summarizer": "smollm2-135m",
}  # fmt: skip


def entry(method: str, **results: Any) -> Any:
    return SimpleNamespace(method=method, records=(SimpleNamespace(results=results),))


def test_summaries_of_one_kind_are_told_once() -> None:
    styles = {method: SimpleNamespace(label=method.upper()) for method in ("trsr", "illmrec+", "title")}
    entries = [entry("trsr", summaries=REPORT), entry("title"), entry("illmrec+", summaries=REPORT)]
    (note,) = summary_notes(entries, styles)  # type: ignore[arg-type]
    assert note == (
        "Summaries of TRSR and ILLMREC+: of 2,000, 700 are short descriptions, kept as they are, 1,250 were written by "
        "smollm2-135m in 4,321 s (125 of them cut at a limit or read in chunks), 50 are title and attributes alone; "
        "81 words or 113 tokens on average."
    )
    given = {**REPORT, "given": 2000, "kept": 0, "generated": 0, "attributes_only": 0, "mean_tokens": None}
    (note,) = summary_notes([entry("trsr", summaries=given)], styles)  # type: ignore[arg-type]
    assert note == "Summaries of TRSR: of 2,000, 2,000 came with the data; 81 words on average."
    assert summary_notes([entry("trsr")], styles) == ()  # type: ignore[arg-type]


def test_histories_that_positions_cut_are_told_of() -> None:
    styles = {
        method: SimpleNamespace(label=method.upper()) for method in ("trsr", "illmrec", "title", "sasrec")
    }

    def stored(method: str, context: int | None, *dropped: float) -> Any:
        records = [
            SimpleNamespace(
                results={"prompt": {"tokens": 128.0, "dropped_items": items, "dropped_tokens": 90.0}},
                config={"context": context, "history_length": 10},
            )
            for items in dropped
        ]
        return SimpleNamespace(method=method, records=tuple(records))

    entries = [stored("trsr", None, 7.0, 7.8), stored("illmrec", None, 0.0), stored("title", 128, 3.0)]
    entries.append(SimpleNamespace(method="sasrec", records=(SimpleNamespace(results={}, config={}),)))
    (note,) = dropped_notes(entries, styles)  # type: ignore[arg-type]
    assert note == (
        "Caution. Histories are cut to the LLM's positions, the oldest items first; dropped of each user's items, on "
        "average: TRSR 7.4 of 10."
    )
    assert dropped_notes(entries[1:], styles) == ()  # type: ignore[arg-type]
