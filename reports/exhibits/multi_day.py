"""Accuracy for users whose target came on a later day than the item before it, and for those with both on one day."""

from __future__ import annotations

import pandas as pd

from bench.frames.multi_day import TARGETS, frame
from bench.frames.selection import CANDIDATES
from reports.exhibits.exhibit import Exhibit, Shown, in_order
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.tables import Column, Table

_WHY = (
    "A target on the same day as the item before it is often part of the same purchase: what such targets reward may be"
    " to know what is bought together. Days are those of the calendar (UTC)."
)
_CANDIDATES = {"sampled": "NDCG@10, sampled candidates", "full": "NDCG@10, whole catalogue"}


def exhibits(section: Section) -> list[Shown]:
    """Return NDCG@10 by when the target came, one row for each method; nothing where all targets are of one kind."""
    records = [record for entry in section.headline.values() for record in entry.records]
    found = frame(records, section.store)
    if found.empty:
        return []
    keys = ["method", "target", "candidates"]
    means = found.groupby(keys, sort=False)[["users", "ndcg@10"]].mean()
    means["seeds"] = found.groupby(keys, sort=False)["seed"].nunique()
    data = in_order(means.reset_index(), section)
    lacking = [name for name in section.headline if name not in set(data["method"])]
    missing = ", ".join(section.styles[name].label for name in lacking)
    return [
        Exhibit(
            name=f"multi_day{section.suffix}",
            title="Users whose target came on a later day",
            reading=_reading(data),
            notes=(
                _WHY,
                *([f"Not shown, since stored ranks do not tell both: {missing}."] if lacking else []),
            ),
            commands=commands(records),
            tables=(_table(data, section),),
        )
    ]


def _reading(data: pd.DataFrame) -> str:
    users = data[data["candidates"] == "full"].groupby("target")["users"].max()
    same, later = users["same day"], users["later day"]
    return (
        f"The target of {same / users['any day']:.0%} of the users came on the same day as the item before it;"
        f" {later:,.0f} users have one on a later day, by which methods are told apart less finely."
    )


def _table(data: pd.DataFrame, section: Section) -> Table:
    """Return a row for each method; numbers of users are means over seeds."""
    columns = [Column(title="Method", align="l"), Column(title="Seeds")]
    columns += [Column(title=target, group="Users") for target in TARGETS]
    columns += [Column(title=target, group=_CANDIDATES[of]) for of in CANDIDATES for target in TARGETS]
    rows = []
    for method, own in data.groupby("method", sort=False):
        at = own.set_index(["candidates", "target"])
        users = [f"{at.at[('sampled', target), 'users']:,.0f}" for target in TARGETS]
        values = [f"{at.at[(of, target), 'ndcg@10']:.4f}" for of in CANDIDATES for target in TARGETS]
        rows.append([section.styles[str(method)].label, str(own["seeds"].max()), *users, *values])
    return Table(
        name=f"multi_day{section.suffix}",
        caption=f"NDCG@10 by the day of the target, {section.title}",
        columns=columns,
        rows=rows,
        data=data,
    )
