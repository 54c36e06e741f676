"""The curve of time and memory against lines, as a table and a figure in open formats."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from illmrec.files import atomic_write_text, writing
from illmrec.temporary import replacing

TABLE, FIGURE = "measure.csv", "measure.png"
COLUMNS = (
    "way", "lines", "file_mb", "parse_seconds", "filter_seconds", "lines_per_second", "cpu_seconds", "peak_gb", "left",
    "cores", "load",
)  # fmt: skip
_WAYS = {"here": ("get", "#0072b2", "o", "-"), "pandas": ("plain pandas", "#d55e00", "s", "--")}
"""What a way is called in the figure, its colour, marker and line."""


def tidy(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured of one way and one number of lines, by :data:`COLUMNS`."""
    seconds = row["parse"] + row["filter"]
    return {
        "way": row["way"],
        "lines": row["lines"],
        "file_mb": round(row["file"] / 1e6, 1),
        "parse_seconds": round(row["parse"], 3),
        "filter_seconds": round(row["filter"], 3),
        "lines_per_second": round(row["lines"] / seconds),
        "cpu_seconds": round(row["cpu"], 2),
        "peak_gb": round(row["peak"], 3),
        "left": row["left"],
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def write_curve(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write the table and its figure, whole, and return where.

    Args:
        folder: Where they go; made where it is not there.
        rows: As :func:`tidy` gives them, one or more.

    Raises:
        InputError: If the folder cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(folder / TABLE, text.getvalue())
    with writing(folder), replacing(folder / FIGURE, suffix=".png") as temporary:
        _drawn(rows).savefig(temporary, dpi=150, metadata={"Software": None})
    return [folder / TABLE, folder / FIGURE]


def _drawn(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a figure of two panels: seconds and gigabytes against lines, a line for each way."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, label in zip(figure.subplots(1, 2), ("seconds", "peak memory, GB"), strict=True):
        for way, (called, colour, marker, line) in _WAYS.items():
            own = sorted((row for row in rows if row["way"] == way), key=lambda row: row["lines"])
            if not own:
                continue
            values = [
                row["parse_seconds"] + row["filter_seconds"] if label == "seconds" else row["peak_gb"]
                for row in own
            ]
            axes.plot([row["lines"] for row in own], values, line, color=colour, marker=marker, label=called)
        axes.set_xscale("log")
        if label == "seconds":  # which grow by as much as lines do; memory hardly grows
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0, top=1.15 * max(row["peak_gb"] for row in rows))
        axes.set_xlabel("lines of reviews")
        axes.set_ylabel(label)
        axes.set_xticks(sorted({row["lines"] for row in rows}))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.tick_params(axis="x", rotation=20)
        axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axes.legend(frameon=False)
    return figure
