"""Numbers and names in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reports.sections.methods import MethodStyle
from reports.sections.section import Accuracy


def words(parts: Sequence[object]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    texts = [str(part) for part in parts]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def label(row: Mapping[str, Any] | pd.Series, styles: Mapping[str, MethodStyle]) -> str:
    """Return the name for readers of a row's method."""
    return styles[str(row["method"])].label


def listing(
    opening: str, frame: pd.DataFrame, column: str, styles: Mapping[str, MethodStyle], form: str
) -> str:
    """Return a figure's values in words: ``opening: A 1.0, B 2.0.``"""
    values = [f"{label(row, styles)} {form.format(row[column])}" for row in frame.to_dict("records")]
    return f"{opening}: {', '.join(values)}."


def candidate_words(candidates: str, entries: Iterable[Accuracy]) -> str:
    """Return what the target is ranked among, such as ``target among 100 sampled items``.

    Args:
        candidates: ``sampled`` or ``full``.
        entries: What was evaluated.
    """
    if candidates == "full":
        return "whole catalogue"
    records = [record for entry in entries for record in entry.records]
    numbers = sorted({int(record.config.get("evaluation", {}).get("negatives", 100)) for record in records})
    return f"target among {words(numbers)} sampled items"


def runs_said(runs: int) -> str:
    """Return a small number of training runs in words: ``one training run``."""
    return "one training run" if runs == 1 else f"{'two' if runs == 2 else runs} training runs"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; the minus is a real one."""
    return f"{value:+.{digits}f}".replace("-", "−")
