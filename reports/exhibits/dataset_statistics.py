"""Table 4: the data sets."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.sections.section import Section
from reports.wording.tables import MISSING, Column, Table, display

_KEYS = (
    "users", "items", "interactions", "avg_length", "images", "descriptions", "same_day", "same_time",
)  # fmt: skip
_TITLES = (
    "# Users", "# Items", "# Interactions", "Avg. Len", "With image", "With description", "Target on same day",
    "Target at same time",
)  # fmt: skip


def table4(sections: Sequence[Section]) -> Table:
    """Return the statistics of the data sets in the form of the paper's Table 4.

    The last two columns are shares of the tested users: whose target came on the same day (UTC), and at the same time,
    as the item before it; missing where the data hold no times, or none whose unit can be told.

    Args:
        sections: Sections of the store; each data set is listed once.
    """
    once = {section.fingerprint: section for section in sections}
    data = pd.DataFrame(
        [
            {"dataset": section.dataset, "fingerprint": section.fingerprint}
            | {key: section.statistics.get(key) for key in _KEYS}
            for section in once.values()
        ]
    )
    rows = []
    for record in data.to_dict("records"):
        counts = [display(record[key]) for key in _KEYS[:3]]
        length = MISSING if pd.isna(record["avg_length"]) else f"{record['avg_length']:.2f}"
        shares = [MISSING if pd.isna(record[key]) else f"{record[key]:.0%}" for key in _KEYS[4:]]
        rows.append([record["dataset"], *counts, length, *shares])
    return Table(
        name="table4",
        caption="Statistics of the data sets",
        columns=[Column(title="Dataset", align="l"), *(Column(title=title) for title in _TITLES)],
        rows=rows,
        data=data,
    )
