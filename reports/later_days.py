"""The table by the day of the target, computed again from a gallery's ranks; nothing of the toolkit is used."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from reports.from_ranks import Sample, difference, sample

COLUMN = "later_day"
"""Of ranks: whether the target came on a later day than the item before it; missing where that is not known."""


class Checked(Protocol):
    """What notes how values of a file compare with the ranks: ``reports.recompute.Check``."""

    notes: list[str]

    def holds(self, holds: bool, *, where: str, otherwise: str) -> None:
        """Count one value, and note it if it does not hold."""

    def number(self, found: Any, expected: float, *, where: str) -> None:
        """Compare one number."""

    def ends(self, row: Mapping[str, Any], values: Sample, *, columns: Sequence[str], where: str) -> None:
        """Compare the ends of an interval."""


class Ranked(Protocol):
    """The ranks of a gallery: ``reports.recompute.Gallery``."""

    @property
    def cells(self) -> dict[str, pd.DataFrame]:
        """The rows of each cell, indexed by user."""

    def runs(self, cells: Sequence[str], candidates: str) -> dict[int, pd.Series]:
        """Return NDCG@10 of each user by seed."""

    def sample(self, candidates: str, *methods: Sequence[str]) -> Sample | None:
        """Return the values of all users of a method, or the difference of two, resampled once for all tables."""


def compare_days(
    check: Checked,
    table: Sequence[Mapping[str, Any]],
    gallery: Ranked,
    methods: Mapping[str, Sequence[str]],
    *,
    control: str,
    candidates: Sequence[str],
) -> None:
    """Compare means of NDCG@10 by the day of the target, and differences to a control, with their intervals.

    Args:
        check: Notes what differs.
        table: The rows of the file.
        gallery: The ranks.
        methods: The cells of each method.
        control: The method of which differences are taken.
        candidates: The kinds of candidates.
    """
    if not any(COLUMN in rows for rows in gallery.cells.values()):
        if table:
            check.notes.append("left out: made before ranks said whether targets came on a later day")
        return
    rows = {(row["method"], row["target"], row["candidates"]): row for row in table}
    told = {name: _told(gallery, cells) for name, cells in methods.items()}
    against = list(told.get(control, {}))
    for method, later in told.items():
        if not later:
            continue
        together = pd.concat(later.values())
        days = together[~together.index.duplicated()]
        groups = {"any day": days.index, "later day": days.index[days], "same day": days.index[~days]}
        for target, users in groups.items():
            counts = [int(own.index.isin(users).sum()) for own in later.values()]
            for kind in candidates:
                row, where = rows.pop((method, target, kind), {}), f"{method}, {target}, {kind}"
                check.number(row.get("users"), float(np.mean(counts)), where=f"{where}, users")
                check.number(row.get("seeds"), len(later), where=f"{where}, seeds")
                of = None if target == "any day" else users
                values = {"ndcg@10": _sample(gallery, kind, of, list(later))}
                if against and method != control:
                    values["less_no_llm"] = _sample(gallery, kind, of, list(later), against)
                for column, found in values.items():
                    if found is not None:
                        check.number(row.get(column), found.mean, where=f"{where}, {column}")
                        ends = (f"{column}_low", f"{column}_high")
                        check.ends(row, found, columns=ends, where=where)
                    elif column == "less_no_llm":
                        # Too few users, or none, in common: no interval may be claimed.
                        low = float(row.get(f"{column}_low", math.nan))
                        check.holds(math.isnan(low), where=where, otherwise=f"an interval of {column}")
    for method, target, kind in rows:
        check.holds(False, where=f"{method}, {target}, {kind}", otherwise="no ranks tell of such users")


def _told(gallery: Ranked, cells: Sequence[str]) -> dict[str, pd.Series]:
    """Return of each cell whose users are of both kinds which of them have a later day, bool by user."""
    found = {}
    for cell in cells:
        rows = gallery.cells.get(cell)
        if rows is None or COLUMN not in rows or rows[COLUMN].isna().any():
            continue
        later = rows[COLUMN].astype(bool).groupby(level="user", sort=False).first()
        if later.any() and not later.all():
            found[cell] = later
    return found


def _sample(
    gallery: Ranked, candidates: str, users: pd.Index | None, *methods: Sequence[str]
) -> Sample | None:
    """Return the values of a method, or the difference of two, for these users, or for all of them."""
    if users is None:
        return gallery.sample(candidates, *methods)
    runs = [
        {seed: values[values.index.isin(users)] for seed, values in gallery.runs(cells, candidates).items()}
        for cells in methods
    ]
    return sample(*runs) if len(runs) == 1 else difference(*runs)
