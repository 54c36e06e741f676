"""Figure 5 of the paper, and accuracy by noise injected into descriptions; no torch here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import (
    CANDIDATES,
    IDENTITY,
    METHOD_OPTIONS,
    METRIC_COLUMNS,
    comparable,
    identity,
    llm_cells,
    scores_in_full,
    stored_metrics,
)
from bench.frames.variants import variant_cells
from bench.store.cell import Record
from bench.store.store import Store

ABOUT = Experiment(
    name="robustness",
    paper="Figure 5",
    question="attributes, summary or description, and what noise in the text does",
    place=80,
    arguments={"smoke": ("--kinds", "html,missing", "--levels", "0,1")},
)

KIND = "noisy-descriptions"
METHODS = ("tallrec", "trsr", "full-description", "illmrec")
"""Attributes, summary, full description, and the image as the reference whose prompt has no description."""

DESCRIBED, EMPTIED = "full-description", "title"
"""Where no sentence is left of any description, the full description is the title alone."""

COLUMNS = (
    *IDENTITY, "method", "reach", "noise", "level", "summaries", "seed", "candidates", "users",
    "prompt_tokens", "dropped_items", *METRIC_COLUMNS,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where in the sweep a cell stands: the columns of the same names."""

    reach: str = ""
    noise: str = ""
    level: float = 0.0
    summaries: str = ""


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per method, reach and kind of noise, level, way to summarise, seed and kind of candidates.

    Args:
        records: Cells, of any experiment; those of the sweep, and of its methods on the data as they are, are
            picked.
        store: The store that holds them; the numbers are all in the cells.

    Returns:
        ``COLUMNS``. noise is html, boilerplate, shuffled or missing; level the share of sentences that it changes, 0
        to 1; at 0 stands the method on the data as they are. reach is prompt (descriptions that the LLM reads of the
        history) or everything (RISA's answers and text features as well). summaries, of methods that show one, is clean
        (as they come with the data or were written from the clean descriptions) or rewritten (by the LLM from the
        noisy ones), else empty. Rows with an empty noise and reach are the data as they are, Figure 5 itself: there a
        method that the noise does not reach has its only row, and rewritten are summaries that the LLM wrote in place
        of those that came with the data. The full description at level 1 of missing is the method ``title``.
        prompt_tokens and dropped_items are means over users. Data sets without any noise are listed where the full
        description and another of the methods were evaluated.
    """
    changed = {
        key: found
        for key, found in variant_cells(records, KIND).items()
        if scores_in_full(found[0]) and found[0].config["risa"]
    }
    swept = [record for record, _ in changed.values()]
    names = {*METHODS, EMPTIED, *(record.method for record in swept)}
    plain = [record for record in llm_cells(records) if record.method in names and scores_in_full(record)]
    listed = {_data(record) for record in (*swept, *(r for r in plain if r.method == DESCRIBED))}
    beside = [record for record in plain if _data(record) in listed]

    def point(record: Record) -> Point:
        if record.key not in changed:
            return Point()
        variant = changed[record.key][1]
        return Point(
            reach=variant["reach"],
            noise=variant["noise"],
            level=float(variant["level"]),
            summaries=variant["summaries"],
        )

    chosen = comparable([*beside, *swept], ignored=METHOD_OPTIONS, point=point)
    groups: dict[tuple[str, ...], list[tuple[Record, Point]]] = defaultdict(list)
    for record in chosen:
        groups[_data(record)].append((record, point(record)))
    rows = [row for members in groups.values() for row in _group_rows(members)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    order = [*IDENTITY, "method", "reach", "noise", "summaries", "seed", "candidates", "level"]
    return table.sort_values(order, kind="stable", ignore_index=True)


def _data(record: Record) -> tuple[str, ...]:
    """Return the data set and the LLM of a cell."""
    return tuple(identity(record).values())


def _group_rows(members: list[tuple[Record, Point]]) -> list[dict[str, Any]]:
    """Return the rows of one data set and LLM."""
    plain = {(record.method, record.seed): record for record, at in members if at == Point()}
    evaluated = {method for method, _ in plain}
    if len(plain) == len(members) and not (DESCRIBED in evaluated and len(evaluated) > 1):
        return []
    rows: list[dict[str, Any]] = []
    for (method, _), record in plain.items():
        rows += _rows(record, method, Point(summaries=_written(record)))
    lines: dict[tuple[str, int, str, str, str], set[float]] = {}
    rewritten: dict[tuple[str, int], Record] = {
        # Where the LLM writes all summaries anyway, those on the data as they are need no cell of their own.
        key: record
        for key, record in plain.items()
        if record.config.get("summarizer") is not None
    }
    for record, at in members:
        if at.noise:
            methods = [record.method]
            if record.method == EMPTIED and (at.noise, at.level) == ("missing", 1.0):
                methods.append(DESCRIBED)
            for method in methods:
                rows += _rows(record, method, at)
                line = (method, record.seed, at.reach, at.noise, at.summaries)
                lines.setdefault(line, set()).add(at.level)
        elif at.summaries:
            rows += _rows(record, record.method, at)
            rewritten[record.method, record.seed] = record
    for method, seed in plain:
        if method == EMPTIED and (DESCRIBED, seed) in plain and lines:
            # Where the noise is in the prompt alone, emptied descriptions leave the title on the data as they are.
            line = (DESCRIBED, seed, "prompt", "missing", "")
            if 1.0 not in lines.setdefault(line, set()):
                at = Point(reach="prompt", noise="missing", level=1.0)
                rows += _rows(plain[EMPTIED, seed], DESCRIBED, at)
    for method, seed, reach, noise, summaries in lines:
        start = (rewritten if summaries == "rewritten" else plain).get((method, seed))
        if start is not None:
            rows += _rows(start, method, Point(reach=reach, noise=noise, summaries=summaries))
    return rows


def _written(record: Record) -> str:
    """Return what the column summaries says of a method on the data as they are."""
    return "clean" if "summarizer" in record.config else ""


def _rows(record: Record, method: str, at: Point) -> list[dict[str, Any]]:
    prompt = record.results["prompt"]
    labels = {
        **identity(record),
        "method": method,
        "reach": at.reach,
        "noise": at.noise,
        "level": at.level,
        "summaries": at.summaries,
        "seed": record.seed,
        "users": record.results["users"],
        "prompt_tokens": prompt["tokens"],
        "dropped_items": prompt["dropped_items"],
    }
    return [
        {**labels, "candidates": candidates, **stored_metrics(record.results[candidates])}
        for candidates in CANDIDATES
    ]
