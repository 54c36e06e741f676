"""``python -m reports``: figures, tables and one HTML page from stored results."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Literal

from bench.frames.pricing import NO_PRICE, Pricing
from illmrec.command_line import run
from illmrec.errors import InputError
from reports.build import DEFAULT_OUT, build_report
from reports.gallery import build_gallery

INTERRUPTED = "files that are written are whole, the same command writes them all"


def main(
    *,
    out: Path = DEFAULT_OUT,
    format: tuple[Literal["png", "pdf", "svg"], ...] = ("png", "pdf", "svg"),
    gallery: Path | None = None,
    pricing: Pricing = NO_PRICE,
) -> int:
    """Draw every figure and write every table and the HTML page from the results in the store.

    Args:
        out: Folder with the store; figures/, tables/ and index.html are written there.
        format: Formats of the figures, joined by commas.
        gallery: Write to this folder instead what can be passed on: figures (PNG, SVG), tables (CSV, Markdown), the
            page, ranks.parquet, from which reports.recompute computes the tables again, and manifest.json, which names
            commands, commits, data, machines, versions and seeds.
        pricing: What an hour of the machine costs, and what power it draws.
    """
    if gallery is not None:
        page = build_gallery(out, gallery, pricing)
        print(f"wrote {page}")
        return 0
    if not format:
        raise InputError("--format names no format; give one or more of png, pdf, svg")
    page = build_report(out, format, pricing=pricing)
    print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    # Figures are cyclic: by default a tenth of the time goes into looking for garbage, in modules that stay, again and
    # again. The processes that draw inherit this.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    sys.exit(run(main, prog="python -m reports", interrupted=INTERRUPTED))
