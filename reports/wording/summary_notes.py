"""What readers must know of summaries before they compare methods that show them: whose they are, and how many are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.sections.methods import MethodStyle
from reports.sections.results import Accuracy


def summary_notes(entries: Sequence[Accuracy], styles: Mapping[str, MethodStyle]) -> tuple[str, ...]:
    """Return a sentence on the summaries of each method that shows some; on those of several methods, once."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        # Cells of before say nothing of their summaries.
        report = entry.records[-1].results.get("summaries")
        if report:
            found.setdefault(_sentence(report), []).append(styles[entry.method].label)
    return tuple(f"Summaries of {' and '.join(labels)}: {sentence}" for sentence, labels in found.items())


def _sentence(report: Mapping[str, Any]) -> str:
    written = f"{report['generated']:,} were written by {report['summarizer']}" if report["generated"] else ""
    if written:
        written += (
            f" in {report['seconds']:,.0f} s ({report['cut']:,} of them cut at a limit or read in chunks)"
        )
    parts = (
        f"{report['given']:,} came with the data" if report["given"] else "",
        f"{report['kept']:,} are short descriptions, kept as they are" if report["kept"] else "",
        written,
        f"{report['attributes_only']:,} are title and attributes alone" if report["attributes_only"] else "",
    )
    length = f"{report['mean_words']:.0f} words"
    if report["mean_tokens"] is not None:
        length += f" or {report['mean_tokens']:.0f} tokens"
    return f"of {report['items']:,}, {', '.join(filter(None, parts))}; {length} on average."
