"""Whether methods come in the same order however they are trained: pairs of methods under each training strategy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from bench.frames.selection import CANDIDATES
from bench.frames.training_strategy import FROZEN, by_strategy
from bench.protocol.statistics import Difference, paired_interval
from bench.store.cell import Record
from reports.exhibits.exhibit import Exhibit, Shown
from reports.exhibits.training_strategy import STRATEGY_LOOKS
from reports.sections.section import Section
from reports.wording.tables import Column, Table
from reports.wording.wording import signed, words

_CANDIDATES = {"sampled": "sampled", "full": "all"}
_SAME, _OPPOSITE, _UNKNOWN = "the same", "opposite", "cannot be told"

Cells = Mapping[str, Mapping[str, Sequence[Record]]]
"""By method and strategy, one cell a seed."""


def exhibits(section: Section) -> list[Shown]:
    """Return the differences of each pair of methods under joint training and another strategy, if any."""
    cells: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record, strategy in by_strategy(section.records):
        cells[record.method][strategy].append(record)
    rows = [
        row
        for first, second in combinations(sorted(cells, key=list(section.styles).index), 2)
        for strategy in STRATEGY_LOOKS
        for candidates in CANDIDATES
        if (row := _pair(section, cells, first, second, strategy, candidates)) is not None
    ]
    if not rows:
        return []
    frame = pd.DataFrame(rows)
    return [
        Exhibit(
            name=f"strategy_orders{section.suffix}",
            title="Orders of methods by training strategy",
            reading=_reading(frame, section),
            notes=(
                "A pair of methods has an order under a strategy where the interval of its difference in NDCG@10,"
                " paired over training runs and users, does not hold 0. Orders are the same or opposite where both"
                " strategies have one. The change is the difference under the strategy less that under joint training"
                " (LLM frozen), on the runs and users of both: where its interval does not hold 0, the strategies do"
                " not favour the methods alike. Intervals cover 95 % each and are not corrected for their number.",
            ),
            commands=section.made_by("training_strategy"),
            tables=(_table(frame, section),),
        )
    ]


def _pair(
    section: Section, cells: Cells, first: str, second: str, strategy: str, candidates: str
) -> dict[str, Any] | None:
    """Return the row of a pair of methods under joint training and a strategy, or None where runs are lacking."""
    if strategy == FROZEN or not all({FROZEN, strategy} <= set(cells[name]) for name in (first, second)):
        return None
    seeds = set.intersection(
        *(
            {record.seed for record in cells[name][how]}
            for name in (first, second)
            for how in (FROZEN, strategy)
        )
    )
    pairs = {
        how: section.ranks.paired(
            [record for record in cells[first][how] if record.seed in seeds],
            [record for record in cells[second][how] if record.seed in seeds],
            candidates,
        )
        for how in (FROZEN, strategy)
    }
    joint, other = pairs[FROZEN], pairs[strategy]
    if joint is None or other is None:
        return None
    gaps = {how: both["first"] - both["second"] for how, both in ((FROZEN, joint), (strategy, other))}
    changed = pd.concat({"first": gaps[strategy], "second": gaps[FROZEN]}, axis="columns", join="inner")
    found = {
        "joint": paired_interval(joint),
        "other": paired_interval(other),
        "change": paired_interval(changed),
    }
    row: dict[str, Any] = {"first": first, "second": second, "strategy": strategy, "candidates": candidates}
    row |= {"seeds": found["change"].seeds, "users": found["change"].users}
    for name, interval in found.items():
        row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row | {"order": _order(found["joint"], found["other"])}


def _order(joint: Difference, other: Difference) -> str:
    signs = [1 if found.low > 0 else -1 if found.high < 0 else 0 for found in (joint, other)]
    return _UNKNOWN if 0 in signs else _SAME if signs[0] == signs[1] else _OPPOSITE


def _reading(frame: pd.DataFrame, section: Section) -> str:
    said = []
    for strategy, rows in frame.groupby("strategy", sort=False):
        counts = rows["order"].value_counts()
        found = words(
            [f"{kind} in {counts[kind]}" for kind in (_SAME, _OPPOSITE, _UNKNOWN) if kind in counts]
        )
        uneven = rows[(rows["change_low"] > 0) | (rows["change_high"] < 0)]
        name = STRATEGY_LOOKS[str(strategy)].label
        sentence = f"{name} against joint training: of {len(rows)} comparisons the order is {found}"
        if len(uneven):
            favoured = [
                f"{section.styles[row['first']].label} against {section.styles[row['second']].label}"
                f" ({_CANDIDATES[row['candidates']]} candidates) by {signed(row['change'], 4)}"
                for _, row in uneven.iterrows()
            ]
            sentence += f"; it moves {words(favoured)}"
        said.append(f"{sentence}.")
    return " ".join(said)


def _table(frame: pd.DataFrame, section: Section) -> Table:
    columns = [Column(title=title, align="l") for title in ("Methods", "Strategy", "Candidates")]
    columns += [Column(title=title) for title in ("Runs", "Joint training", "Strategy's", "Change")]
    rows = [
        [
            f"{section.styles[row['first']].label} less {section.styles[row['second']].label}",
            STRATEGY_LOOKS[row["strategy"]].label,
            _CANDIDATES[row["candidates"]],
            str(row["seeds"]),
            *(_interval(row, name) for name in ("joint", "other", "change")),
            row["order"],
        ]
        for _, row in frame.iterrows()
    ]
    return Table(
        name=f"strategy_orders{section.suffix}",
        caption=f"Differences in NDCG@10 between methods by training strategy, {section.title}",
        columns=[*columns, Column(title="Order", align="l")],
        rows=rows,
        data=frame,
    )


def _interval(row: pd.Series, name: str) -> str:
    return f"{signed(row[name], 4)} [{signed(row[f'{name}_low'], 4)}, {signed(row[f'{name}_high'], 4)}]"
