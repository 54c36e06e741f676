"""What claims are judged on: the cells of a section, and the comparisons that each kind of claim asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from bench.frames.groups import TARGET_POPULARITY
from bench.frames.selection import METHOD_OPTIONS, comparable, latest
from bench.store.cell import Record
from reports.evidence.evidence import (
    MORE,
    Evidence,
    Rule,
    compare_accuracy,
    compare_latency,
    paired_evidence,
)
from reports.evidence.paired import Ranks
from reports.sections.methods import MethodStyle
from reports.sections.results import FEATURES, Accuracy, Section

_ROW_FEATURES = {"b": "image", "c": "CF"}


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What claims are judged on: one section of the store."""

    section: Section
    records: Sequence[Record]
    ranks: Ranks
    styles: Mapping[str, MethodStyle]

    @cached_property
    def headline(self) -> dict[str, Accuracy]:
        """One variant per method."""
        return self.section.headline()

    @cached_property
    def rows(self) -> dict[str, Accuracy]:
        """Variants of I-LLMRec by row of the ablation."""
        return {entry.row: entry for entry in self.section.accuracy if entry.row}

    def method(self, name: str) -> tuple[Record, ...]:
        """Return the cells of a method as it stands in the comparison, one per seed."""
        return self.headline[name].records if name in self.headline else ()

    def row(self, name: str) -> tuple[Record, ...]:
        """Return the cells of a row of the ablation, one per seed."""
        return self.rows[name].records if name in self.rows else ()

    def timings(self, method: str) -> dict[int, Record]:
        """Return the efficiency cells of a method by length of history."""
        cells = (record for record in self.section.efficiency if record.method == method)
        return {int(record.results["history_length"]): record for record in cells}

    def label(self, method: str) -> str:
        """Return the name of a method for readers."""
        return self.styles[method].label


def latency(
    grounds: Grounds, *, slow: str, fast: str, least: float, longest: bool = False
) -> list[Evidence | None]:
    """Compare the latency of two methods over the lengths of history that both have.

    Args:
        grounds: What is stored.
        slow: The method that is claimed to take longer.
        fast: The other.
        least: The claimed ratio.
        longest: Compare at the longest length only.
    """
    sides = [grounds.timings(name) for name in (slow, fast)]
    lengths = sorted(sides[0].keys() & sides[1].keys())
    if not lengths:
        return [None]
    kept = lengths[-1:] if longest else lengths
    first, second = ({length: cells[length] for length in kept} for cells in sides)
    names = (grounds.label(slow), grounds.label(fast))
    return [compare_latency(grounds.ranks.store, first, second, names, least)]


def accuracy_of_methods(grounds: Grounds, *, first: str, second: str, rule: Rule) -> list[Evidence | None]:
    """Compare the accuracy of two methods as they stand in the comparison."""
    cells = [grounds.method(name) for name in (first, second)]
    if not all(cells):
        return [None]
    names = (grounds.label(first), grounds.label(second))
    return [compare_accuracy(grounds.ranks, cells[0], cells[1], names, rule)]


def accuracy_of_rows(grounds: Grounds, *, pairs: Sequence[tuple[str, str]]) -> list[Evidence | None]:
    """Compare rows of the ablation; ``("b", "a")`` asks whether row (b) is more accurate than (a)."""
    return [
        compare_accuracy(
            grounds.ranks, grounds.row(first), grounds.row(second), (f"({first})", f"({second})"), MORE
        )
        for first, second in pairs
    ]


def llm_over_sasrec(grounds: Grounds) -> list[Evidence | None]:
    """Compare the mean of all LLM methods with SASRec, user by user."""
    sasrec = grounds.method("sasrec")
    pairs = [
        both
        for entry in grounds.headline.values()
        if entry.records[0].config.get("llm")
        and (both := grounds.ranks.paired(entry.records, sasrec)) is not None
    ]
    if not pairs:
        return [None]
    counts = pd.concat(pairs).groupby(level=0).size()
    mean = pd.concat(pairs).groupby(level=0).mean()
    # Only users whom every method ranked: each method has the same weight for each of them.
    mean = mean[counts == len(pairs)]
    better = sum(both["first"].mean() > both["second"].mean() for both in pairs)
    names = (f"mean of {len(pairs)} LLM methods ({better} of them above SASRec)", grounds.label("sasrec"))
    return [paired_evidence(mean, names, MORE)]


def within_context(
    grounds: Grounds, *, first: tuple[str, int], second: tuple[str, int], rule: Rule
) -> list[Evidence | None]:
    """Compare models within budgets of tokens, those that a sweep over the context evaluated.

    Args:
        grounds: What is stored.
        first: Method and budget.
        second: Method and budget of the other side.
        rule: When the claim holds.
    """

    def budget(record: Record) -> int:
        return int(record.config["evaluation"]["context"])

    limited = [
        record
        for record in grounds.section.sweeps
        if record.config.get("risa")
        and record.config.get("features") == list(FEATURES)
        and not record.config["dataset"].get("variant")
        and "context" in record.config["evaluation"]
        and "history_length" not in record.config["evaluation"]
    ]
    chosen = comparable(limited, ignored=METHOD_OPTIONS, point=budget)
    sides = [
        [record for record in chosen if (record.method, budget(record)) == side] for side in (first, second)
    ]
    if not all(sides):
        return [None]
    names = [
        f"{grounds.label(method)} in {tokens}" if first[0] != second[0] else f"{tokens} tokens"
        for method, tokens in (first, second)
    ]
    return [compare_accuracy(grounds.ranks, sides[0], sides[1], (names[0], names[1]), rule)]


def missing_images(grounds: Grounds) -> list[Evidence | None]:
    """Compare I-LLMRec with half of the images removed, descriptions in their place, with TRSR."""
    halved = {
        record.seed: record
        for record in sorted(grounds.section.sweeps, key=lambda record: record.created)
        if record.method == "illmrec"
        and record.config.get("risa")
        and record.config.get("features") == list(FEATURES)
        and _half_missing(record.config["dataset"].get("variant") or {})
    }
    trsr = grounds.method("trsr")
    if not halved or not trsr:
        return [None]
    names = (f"{grounds.label('illmrec')} without half of the images", grounds.label("trsr"))
    return [compare_accuracy(grounds.ranks, list(halved.values()), trsr, names, MORE)]


def rows_for_users(
    grounds: Grounds, *, rows: tuple[str, str], kept: Callable[[pd.DataFrame], pd.Series]
) -> list[Evidence | None]:
    """Compare two rows of the ablation, such as image features (b) and CF features (c), on some users.

    Args:
        grounds: What is stored.
        rows: The row that is claimed to be more accurate, and the other.
        kept: Takes user_id, target_frequency and item_group of each user's test item; tells whom to keep.
    """
    popularity = [
        record
        for record in latest(grounds.records, TARGET_POPULARITY)
        if record.config["dataset"]["fingerprint"] == grounds.section.fingerprint
    ]
    if not popularity:
        return [None]
    newest = max(popularity, key=lambda record: record.created)
    targets = grounds.ranks.store.read_frame(newest, "targets")
    users = targets.loc[kept(targets), "user_id"]
    first, second = rows
    names = (f"{_ROW_FEATURES[first]} ({first})", f"{_ROW_FEATURES[second]} ({second})")
    return [
        compare_accuracy(grounds.ranks, grounds.row(first), grounds.row(second), names, MORE, users=users)
    ]


def _half_missing(variant: Mapping[str, object]) -> bool:
    return (
        variant.get("kind") == "missing-images"
        and variant.get("fraction") == 0.5
        and variant.get("substitutes") == "description"
    )
