"""The HTML page: one file that opens from disk, every figure embedded, every text from users escaped."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import markupsafe
import pandas as pd

from bench.frames.costs import assumed_powers, spent
from bench.frames.pricing import Pricing
from bench.store.cell import Record
from illmrec.escaping import visible
from reports.exhibits.exhibit import Exhibit, Gap, Shown
from reports.paper.published import TABLES, printed
from reports.wording.cautions import machine_words
from reports.wording.tables import Table, frame_table


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as the page needs it: the PNG, its width and height in pixels, and links to its files."""

    png: bytes
    width: int
    height: int
    files: Mapping[str, str]

    @property
    def source(self) -> str:
        """The picture as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


def picture(png: bytes, files: Mapping[str, str]) -> Picture:
    """Return a figure for the page, with the width and height that stand at fixed places of a PNG's header.

    Args:
        png: The figure.
        files: Its files by format, lower-case.
    """
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    links = {form.upper(): path for form, path in files.items()}
    return Picture(png=png, width=width, height=height, files=links)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A section of the page with its exhibits and gaps.

    Attributes:
        anchor: Its place in the page.
        title: What the list of contents says.
        heading: What stands above it.
        shown: Exhibits and gaps.
        llm: The LLM, or nothing.
        fingerprint: Fingerprint of the data, or nothing.
    """

    anchor: str
    title: str
    heading: str
    shown: Sequence[Shown]
    llm: str = ""
    fingerprint: str = ""

    @property
    def exhibits(self) -> list[Exhibit]:
        """What could be shown."""
        return [item for item in self.shown if isinstance(item, Exhibit)]

    @property
    def gaps(self) -> list[Gap]:
        """What the store lacks; what the same command fills in is named together."""
        together: dict[str, list[Gap]] = {}
        for item in self.shown:
            if isinstance(item, Gap):
                together.setdefault(item.command, []).append(item)
        return [
            Gap(
                title="; ".join(gap.title for gap in gaps),
                reason="; ".join(dict.fromkeys(gap.reason for gap in gaps)),
                command=command,
            )
            for command, gaps in together.items()
        ]


def render_page(
    *,
    summary: Table,
    shelves: Sequence[Shelf],
    pictures: Mapping[str, Picture],
    datasets: Table,
    records: Sequence[Record],
    command: str,
    pricing: Pricing,
    table_files: Mapping[str, str],
) -> str:
    """Return the page's HTML.

    Args:
        summary: One row for each data set and LLM.
        shelves: The sections with their exhibits.
        pictures: Pictures by name of the exhibit.
        datasets: Statistics of the data sets.
        records: All cells of the store, for the run information.
        command: The command that builds the report.
        pricing: What an hour of the machine costs.
        table_files: Endings of a table's files and what links to them say.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The page's policy admits this one script by its hash: what slipped past escaping would still not run.
    script = (resources.files("reports") / "templates" / "page.js").read_text(encoding="utf-8")
    return environment.get_template("index.html.j2").render(
        summary=summary,
        shelves=shelves,
        pictures=pictures,
        datasets=datasets,
        published=[frame_table(f"paper-{name}", caption, printed(name)) for name, caption in TABLES.items()],
        run=run_information(records, pricing),
        experiments=experiments_table(records, pricing),
        command=command,
        table_files=table_files,
        script=markupsafe.Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def run_information(records: Sequence[Record], pricing: Pricing) -> list[tuple[str, list[str]]]:
    """Return what was run, where and with what: names with their distinct values, most cells first.

    Args:
        records: All cells of the store.
        pricing: What an hour of the machine costs.
    """
    seconds = sum(record.seconds for record in records)
    days = sorted(record.created[:10] for record in records)
    return [
        ("Cells", [f"{len(records):,}, computed in {_duration(seconds)}"]),
        ("Energy and money", [costs_in_words(records, pricing)]),
        ("Dates (UTC)", [days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"]),
        ("Machine", _counted(machine_words(record.machine) for record in records)),
        ("Commit", _counted(record.git_commit or "not recorded" for record in records)),
        ("Versions", _counted(_versions(record.versions) for record in records)),
    ]


def costs_in_words(records: Sequence[Record], pricing: Pricing) -> str:
    """Return what computing all cells has taken in energy, an estimate, and money, with the price."""
    total = spent(records, pricing).sum(numeric_only=True, skipna=False)
    known = "not known" if math.isnan(total["wh"]) else f"about {total['wh'] / 1e3:.3g} kWh"
    powers = " or ".join(f"{watts:g} W" for watts in assumed_powers(records, pricing))
    energy = f"{known}, estimated from time and an assumed {powers or 'power that cannot be told (--watts)'}"
    if pricing.hourly is None:
        return f"{energy}; no price was given (--instance or --price-per-hour)"
    return f"{energy}; {total['cost']:.3g} {pricing.code} at {pricing.words()}"


def experiments_table(records: Sequence[Record], pricing: Pricing) -> Table:
    """Return the number of cells, methods and seeds of each experiment in the store, and what they have taken.

    Args:
        records: All cells of the store.
        pricing: What an hour of the machine costs.
    """
    costs = spent(records, pricing).set_index("experiment")
    priced = [] if pricing.hourly is None else [("cost", pricing.code)]
    rows = []
    for name in dict.fromkeys(record.experiment for record in records):
        cells = [record for record in records if record.experiment == name]
        rows.append(
            {
                "experiment": name,
                "cells": len(cells),
                "methods": len({record.method for record in cells}),
                "seeds": len({record.seed for record in cells}),
                "first": min(record.created for record in cells)[:19].replace("T", " "),
                "last": max(record.created for record in cells)[:19].replace("T", " "),
                "minutes": sum(record.seconds for record in cells) / 60,
                "Wh": costs.loc[name, "wh"],
                **{title: costs.loc[name, column] for column, title in priced},
            }
        )
    return frame_table("experiments", "Cells in the store", pd.DataFrame(rows))


def _counted(values: Iterable[str]) -> list[str]:
    """Return distinct values, the most frequent first, with their number of cells where there are several."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [value if len(ordered) == 1 else f"{value} ({count:,} cells)" for value, count in ordered]


def _duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"
