"""The gallery: the outcome of a store in a folder of its own, small and without pictures or texts of the data."""

from __future__ import annotations

import json
import math
import shlex
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.frames.costs import assumed_powers, spent
from bench.frames.pricing import NO_PRICE, Pricing
from bench.store.cell import Record
from bench.store.published import CELLS, MANIFEST, RANKS
from bench.store.store import Store
from illmrec.errors import InputError
from reports.build import DEFAULT_OUT, PAGE, TABLE_FILES, Report, read_report, write_report
from reports.exhibits.exhibit import Exhibit
from reports.page.output import Output
from reports.page.page import Shelf
from reports.rank_file import rank_file
from reports.sections.commands import portable_command
from reports.sections.results import read_sections, read_store
from reports.sections.section import llm_label

FORMATS = ("png", "svg")


def build_gallery(out: Path, folder: Path, pricing: Pricing = NO_PRICE) -> Path:
    """Write figures, tables, ranks, results, page and manifest of a store for others, and return the page's path.

    Exhibits that show pictures or descriptions of items are left out, since the data's licence may not allow to pass
    them on; of folders in commands only the last part stays.

    Args:
        out: The output folder with the store in it.
        folder: Where the gallery goes, such as ``reports/gallery/ml1m``.
        pricing: What an hour of the machine costs.

    Raises:
        InputError: If the folder is the output folder, the store has nothing to show, a cell cannot be read or the
            folder cannot be written.
    """
    if folder.resolve() == out.resolve():
        raise InputError(f"--gallery {folder} is the folder of the store; name another one")
    store = Store(out)
    records = [replace(record, command=portable_command(record.command)) for record in read_store(store)]
    store_option = () if out == DEFAULT_OUT else ("--out", str(out))
    command = portable_command(
        shlex.join(["python", "-m", "reports", *store_option, "--gallery", str(folder), *pricing.options()])
    )
    report = read_report(store, records, command, pricing)
    output = Output(folder, MANIFEST, seals=False)
    write_report(
        _without_items(report),
        output,
        formats=FORMATS,
        table_files={ending: label for ending, label in TABLE_FILES.items() if ending != "tex"},
    )
    tables = {Path(name).stem for name in output.written}
    ranks = rank_file(store, records, read_sections(records, store), tables)
    if ranks.content is not None and ranks.cells is not None:
        output.write(RANKS, ranks.content)
        output.write(CELLS, ranks.cells)
    output.finish(**manifest(records, command, pricing), ranks=ranks.facts)
    return folder / PAGE


def manifest(records: Sequence[Record], command: str, pricing: Pricing = NO_PRICE) -> dict[str, Any]:
    """Return where a gallery comes from: data, commands, commits, machines, versions, seeds and costs of its cells.

    Args:
        records: The cells.
        command: The command that made the gallery.
        pricing: What an hour of the machine costs.

    Returns:
        JSON values. What differs between cells is a list, that of most cells first, each with its number of cells.
    """
    experiments: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        experiments[record.experiment].append(record)
    taken = spent(records, pricing)
    return {
        "command": command,
        "costs": {
            "energy": "estimated from time and an assumed power",
            "assumed_watts": assumed_powers(records, pricing),
            "price": pricing.described(),
            **_costs(taken.sum(numeric_only=True, skipna=False).to_dict()),
            "experiments": {row["experiment"]: _costs(row) for row in taken.to_dict("records")},
        },
        "cells": len(records),
        "seconds": round(sum(record.seconds for record in records), 1),
        "created": [min(record.created for record in records), max(record.created for record in records)],
        "datasets": _distinct(records, _dataset),
        "llms": _distinct(
            [record for record in records if llm_label(record.config)],
            lambda record: {"llm": llm_label(record.config)},
        ),
        "experiments": {
            name: {
                "versions": sorted({record.version for record in members}),
                "cells": len(members),
                "methods": sorted({record.method for record in members}),
                "seeds": sorted({record.seed for record in members}),
            }
            for name, members in sorted(experiments.items())
        },
        "commands": _distinct(records, lambda record: {"command": record.command}),
        "commits": _distinct(records, lambda record: {"commit": record.git_commit}),
        "machines": _distinct(records, lambda record: {"machine": record.machine}),
        "versions": _distinct(records, lambda record: {"versions": record.versions}),
    }


def _costs(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return hours, energy in Wh and money of a row of ``spent``, None for what is not known."""
    values = {name: float(row[name]) for name in ("hours", "wh", "cost")}
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}


def _without_items(report: Report) -> Report:
    """Return a report without the exhibits that show pictures or descriptions of items."""

    def kept(shelf: Shelf) -> Shelf:
        shown = [item for item in shelf.shown if not (isinstance(item, Exhibit) and item.shows_items)]
        return replace(shelf, shown=shown)

    return replace(report, shelves=map(kept, report.shelves))


def _dataset(record: Record) -> dict[str, Any]:
    """Return name, fingerprint, what was changed and statistics of a cell's data; generated vectors have no print."""
    config = record.config.get("dataset") or {}
    name = config.get("name") or record.dataset.get("dataset") or record.dataset.get("name")
    found = {"name": name, "fingerprint": config.get("fingerprint"), "variant": config.get("variant")}
    statistics = {key: value for key, value in record.dataset.items() if key not in ("name", "dataset")}
    return {**{key: value for key, value in found.items() if value}, "statistics": statistics}


def _distinct(
    records: Sequence[Record], describe: Callable[[Record], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return distinct descriptions of cells with their numbers of cells, the most frequent first."""
    counts: dict[str, int] = {}
    for record in records:
        text = json.dumps(describe(record), ensure_ascii=False)
        counts[text] = counts.get(text, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [{**json.loads(text), "cells": count} for text, count in ordered]
