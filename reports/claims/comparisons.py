"""Comparisons that claims on several experiments ask for."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.groups import TARGET_POPULARITY
from bench.frames.selection import ACCURACY, LIMITS, OURS
from bench.frames.training_strategy import STRATEGY_OPTIONS
from bench.store.cell import Record
from reports.claims.claim import Found
from reports.claims.evidence import Judge
from reports.sections.section import FEATURES, Section

_ROW_FEATURES = {"b": "image", "c": "CF"}

Test = Callable[[Section, Judge], Found]
Variant = Mapping[str, Any]
"""What was changed of a cell's data or training."""


def headline_records(section: Section, method: str) -> tuple[Record, ...]:
    """Return the cells of a method as it stands in the comparison, one per seed."""
    return section.headline[method].records if method in section.headline else ()


def row_records(section: Section, row: str) -> tuple[Record, ...]:
    """Return the cells of I-LLMRec in a row of the ablation, one per seed."""
    rows = section.ablation()
    return rows[row].records if row in rows else ()


def methods(first: str, second: str) -> Test:
    """Compare the accuracy of two methods as they stand in the comparison."""

    def test(section: Section, judge: Judge) -> Found:
        cells = [headline_records(section, name) for name in (first, second)]
        if not all(cells):
            return [None]
        names = (section.styles[first].label, section.styles[second].label)
        return [judge.compare(cells[0], cells[1], names)]

    return test


def rows(*pairs: tuple[str, str]) -> Test:
    """Compare rows of the ablation; ``("b", "a")`` asks whether row (b) is more accurate than (a)."""

    def test(section: Section, judge: Judge) -> Found:
        return [
            judge.compare(
                row_records(section, first),
                row_records(section, second),
                (f"({first})", f"({second})"),
            )
            for first, second in pairs
        ]

    return test


def rows_for_users(first: str, second: str, kept: Callable[[pd.DataFrame], pd.Series]) -> Test:
    """Compare two rows of the ablation, such as image features (b) and CF features (c), on some users.

    Args:
        first: The row that is claimed to be more accurate.
        second: The other.
        kept: Takes user_id, target_frequency and item_group of each user's test item; tells whom to keep.
    """

    def test(section: Section, judge: Judge) -> Found:
        popularity = section.cells(TARGET_POPULARITY)
        if not popularity:
            return [None]
        newest = max(popularity, key=lambda record: record.created)
        targets = section.store.read_frame(newest, "targets")
        cells = (row_records(section, first), row_records(section, second))
        names = (f"{_ROW_FEATURES[first]} ({first})", f"{_ROW_FEATURES[second]} ({second})")
        users = targets.loc[kept(targets), "user_id"]
        return [judge.compare(*cells, names, users=users)]

    return test


def variant_of(record: Record) -> Variant:
    """Return what was changed of a cell's data or training; nothing where nothing was."""
    return record.config["dataset"].get("variant") or {}


def changed_pairs(
    section: Section,
    matches: Callable[[Variant], bool],
    *,
    method: str = OURS,
    features: Sequence[str] = FEATURES,
) -> tuple[list[Record], list[Record]]:
    """Return the cells of a variant, the newest of each seed, and those that differ from them in nothing else.

    Args:
        section: The section.
        matches: Takes a cell's variant; tells whether it is the one.
        method: Name of the method.
        features: Feature types that score items.
    """
    changed = [
        record
        for record in section.sweeps
        if reads_all(record, method, features) and matches(variant_of(record))
    ]
    plain = [
        record
        for record in section.cells(ACCURACY)
        if not variant_of(record) and reads_all(record, method, features)
    ]
    return twins(changed, plain, ignored=("dataset",))


def twins(
    cells: Sequence[Record], among: Sequence[Record], *, ignored: Collection[str]
) -> tuple[list[Record], list[Record]]:
    """Return the newest cell of each seed, and beside it the newest other that differs in nothing but some options.

    Args:
        cells: Accuracy cells; those without a twin are left out.
        among: Cells to choose from.
        ignored: Options that may differ. A training strategy and its own options always may.
    """
    pairs = []
    for record in newest_by_seed(cells):
        wanted = _options(record, ignored)
        found = [other for other in among if other.seed == record.seed and _options(other, ignored) == wanted]
        if found:
            pairs.append((record, max(found, key=lambda other: other.created)))
    return [record for record, _ in pairs], [other for _, other in pairs]


def newest_by_seed(cells: Sequence[Record]) -> list[Record]:
    """Return the newest cell of each seed."""
    ordered = sorted(cells, key=lambda record: record.created)
    return list({record.seed: record for record in ordered}.values())


def reads_all(record: Record, method: str, features: Sequence[str]) -> bool:
    """Tell whether a cell is of a method with RISA and some feature types, evaluated without a limit."""
    return (
        record.method == method
        and bool(record.config.get("risa"))
        and record.config.get("features") == list(features)
        and not set(LIMITS) & (record.config.get("evaluation") or {}).keys()
    )


def _options(record: Record, ignored: Collection[str]) -> str:
    """Return a cell's options as text, without seeds, those that are ignored and its training strategy."""
    options = {name: value for name, value in record.config.items() if name not in (*ignored, "seed")}
    training = dict(options.get("training") or {})
    options["training"] = {name: value for name, value in training.items() if name not in STRATEGY_OPTIONS}
    return json.dumps(options, sort_keys=True)
