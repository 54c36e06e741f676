"""What sampled candidates alone say of the whole catalogue, beside what ranking the whole catalogue says."""

from __future__ import annotations

import pandas as pd

from bench.frames.comparison import estimated_frame
from reports.exhibits.exhibit import Exhibit, Shown, in_order, table
from reports.sections.commands import commands
from reports.sections.section import Section

_METRIC = "ndcg@10"
_TITLES = {
    "sampled": "NDCG@10 among sampled candidates",
    "estimated": "estimated for the whole catalogue",
    "full": "NDCG@10 in the whole catalogue",
}


def exhibits(section: Section) -> list[Shown]:
    """Return the table, means over seeds; nothing where no stored cell has estimates."""
    records = [record for entry in section.headline.values() for record in entry.records]
    found = estimated_frame(records)
    found = found[found["metric"] == _METRIC]
    if found.empty:
        return []
    means = found.groupby("method", sort=False)[list(_TITLES)].mean()
    means["seeds"] = found.groupby("method", sort=False)["seed"].nunique()
    shown = in_order(means.reset_index(), section)
    return [
        Exhibit(
            name=f"accuracy_estimated{section.suffix}",
            title="Sampled candidates and the whole catalogue",
            reading=_reading(shown),
            notes=(
                "The estimate is made from the ranks among sampled candidates alone, each of which counts as much as"
                " brings the mean over users near the NDCG@10 in the whole catalogue (Krichene and Rendle, On Sampled"
                " Metrics for Item Recommendation, KDD 2020).",
                "It is too low where many targets stand at the very top, and the more so, the fewer of the catalogue's"
                " items are sampled: a sample cannot tell the first rank from those just below. The whole catalogue was"
                " ranked here, and that is what counts.",
            ),
            commands=commands(records),
            tables=(
                table(
                    section,
                    "accuracy_estimated",
                    "NDCG@10 among sampled candidates, estimated and in the whole catalogue, means over seeds",
                    shown,
                    _TITLES,
                    {"method": section.styles},
                ),
            ),
        )
    ]


def _reading(frame: pd.DataFrame) -> str:
    """Say how far off the estimates are, and how far the sampled metrics themselves."""
    estimated, sampled = ((frame[name] - frame["full"]).abs() for name in ("estimated", "sampled"))
    if len(frame) == 1:
        return (
            f"The estimate is {estimated.iloc[0]:.4f} from NDCG@10 in the whole catalogue; NDCG@10 among sampled"
            f" candidates is {sampled.iloc[0]:.4f} from it."
        )
    return (
        f"Estimates are up to {estimated.max():.4f} from NDCG@10 in the whole catalogue ({estimated.mean():.4f} on"
        f" average over methods); NDCG@10 among sampled candidates is up to {sampled.max():.4f} from it"
        f" ({sampled.mean():.4f})."
    )
