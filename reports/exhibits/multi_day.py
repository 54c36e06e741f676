"""Accuracy for users whose target came on a later day than the item before it, and for those with both on one day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.frames.multi_day import TARGETS, frame, groups, later_users
from bench.frames.selection import CANDIDATES
from bench.protocol.statistics import paired_interval
from bench.store.cell import Record
from reports.exhibits.exhibit import Exhibit, Shown, in_order
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.tables import MISSING, Column, Table
from reports.wording.wording import signed

_WHY = (
    "A target on the same day as the item before it is often part of the same purchase: what such targets reward may be"
    " to know what is bought together. Days are those of the calendar (UTC)."
)
_INTERVALS = (
    "Intervals are 95 %, by a bootstrap over training runs and users; those of one run are over users alone. “Less No"
    " LLM” is the difference to a model without an LLM over the same features, for the same users."
)
_CONTROL = "no-llm"
_CANDIDATES = {"sampled": "sampled", "full": "all candidates"}
_KEYS = ["method", "target", "candidates"]


def exhibits(section: Section) -> list[Shown]:
    """Return NDCG@10 by when the target came, one row for each method; nothing where all targets are of one kind."""
    records = [record for entry in section.headline.values() for record in entry.records]
    found = frame(records, section.store)
    if found.empty:
        return []
    data = found.groupby(_KEYS, sort=False)[["users"]].mean()
    data["seeds"] = found.groupby(_KEYS, sort=False)["seed"].nunique()
    data = in_order(data.join(_intervals(section)).reset_index(), section)
    lacking = [name for name in section.headline if name not in set(data["method"])]
    missing = ", ".join(section.styles[name].label for name in lacking)
    return [
        Exhibit(
            name=f"multi_day{section.suffix}",
            title="Users whose target came on a later day",
            reading=_reading(data),
            notes=(
                _WHY,
                _INTERVALS,
                *([f"Not shown, since stored ranks do not tell both: {missing}."] if lacking else []),
            ),
            commands=commands(records),
            tables=(_table(data, section),),
        )
    ]


def _intervals(section: Section) -> pd.DataFrame:
    """Return means and differences to the control with their intervals, a row for each method, group and candidates."""
    told: dict[str, dict[str, pd.Series]] = {}
    for name, entry in section.headline.items():
        later = {record.key: later_users(record, section.store) for record in entry.records}
        told[name] = {key: users for key, users in later.items() if users is not None}

    def cells(method: str) -> list[Record]:
        return [record for record in section.headline[method].records if record.key in told[method]]

    rows: list[dict[str, Any]] = []
    for method in section.headline:
        own = cells(method)
        if not own:
            continue
        control = cells(_CONTROL) if _CONTROL in section.headline and method != _CONTROL else []
        together = pd.concat(told[method].values())
        later = together[~together.index.duplicated()]
        for target, of in groups(later).items():
            users = later.index[of].tolist()
            for kind in CANDIDATES:
                rows.append(
                    {"method": method, "target": target, "candidates": kind}
                    | _interval(section, own, None, kind, users, name="ndcg@10")
                    | _interval(section, own, control, kind, users, name="less_no_llm")
                )
    return pd.DataFrame(rows).set_index(_KEYS)


def _interval(
    section: Section,
    own: Sequence[Record],
    control: Sequence[Record] | None,
    candidates: str,
    users: list[Any],
    *,
    name: str,
) -> dict[str, float]:
    """Return the mean of cells, or of their differences to a control's, and the ends of its interval, NaN without."""
    columns = (name, f"{name}_low", f"{name}_high")
    both = section.ranks.paired(own, own if control is None else control, candidates, users)
    if both is None:
        return dict.fromkeys(columns, math.nan)
    found = paired_interval(both.assign(second=0.0) if control is None else both)
    # Nothing is known of the spread between users from one.
    ends = (found.low, found.high) if found.users > 1 else (math.nan, math.nan)
    return dict(zip(columns, (found.mean, *ends), strict=True))


def _reading(data: pd.DataFrame) -> str:
    users = data[data["candidates"] == "full"].groupby("target")["users"].max()
    same, later = users["same day"], users["later day"]
    return (
        f"The target of {same / users['any day']:.0%} of the users came on the same day as the item before it;"
        f" {later:,.0f} users have one on a later day, by which methods are told apart less finely."
    )


def _table(data: pd.DataFrame, section: Section) -> Table:
    """Return a row for each group of users and method; numbers of users are means over seeds."""
    columns = [
        Column(title="Target came", align="l"),
        Column(title="Method", align="l"),
        Column(title="Runs"),
        Column(title="Users"),
    ]
    columns += [Column(title=title, group="NDCG@10") for title in _CANDIDATES.values()]
    columns += [Column(title=title, group="Less No LLM") for title in _CANDIDATES.values()]
    at = data.set_index(["target", "method", "candidates"])
    rows = []
    for target in TARGETS:
        for method in data["method"].unique():
            first = at.loc[(target, method, CANDIDATES[0])]
            cells = [_printed(at.loc[(target, method, kind)], "ndcg@10") for kind in _CANDIDATES]
            cells += [
                _printed(at.loc[(target, method, kind)], "less_no_llm", sign=True) for kind in _CANDIDATES
            ]
            label = section.styles[str(method)].label
            rows.append([target, label, f"{first['seeds']:.0f}", f"{first['users']:,.0f}", *cells])
    return Table(
        name=f"multi_day{section.suffix}",
        caption=f"NDCG@10 by the day of the target, {section.title}",
        columns=columns,
        rows=rows,
        data=data,
    )


def _printed(row: pd.Series, name: str, *, sign: bool = False) -> str:
    values = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    shown = [MISSING if math.isnan(v) else signed(v, 4) if sign else f"{v:.4f}" for v in values]
    return MISSING if math.isnan(values[0]) else f"{shown[0]} [{shown[1]}, {shown[2]}]"
