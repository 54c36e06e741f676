"""Summaries that no model wrote, for tests of what reads them."""

from __future__ import annotations

from baselines.summarizer import Summaries, SummaryReport


def as_summaries(texts: list[str]) -> Summaries:
    """Return texts as if a summariser had written all of them in a tenth of a second each."""
    report = SummaryReport(
        items=len(texts), given=0, kept=0, generated=len(texts), attributes_only=0, cut=0, chunked=0,
        mean_words=1.0, mean_tokens=None, seconds=0.1 * len(texts), summarizer="made",
    )  # fmt: skip
    return Summaries(texts=texts, report=report)
