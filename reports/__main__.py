"""``python -m reports``: figures, tables and one HTML page from stored results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from bench.command_line import run
from illmrec.errors import InputError
from reports.build import DEFAULT_OUT, build_report


def main(
    *, out: Path = DEFAULT_OUT, format: tuple[Literal["png", "pdf", "svg"], ...] = ("png", "pdf", "svg")
) -> int:
    """Draw every figure and write every table and the HTML page from the results in the store.

    Args:
        out: Folder with the store; figures/, tables/ and index.html are written there.
        format: Formats of the figures, joined by commas.
    """
    if not format:
        raise InputError("--format names no format; give one or more of png, pdf, svg")
    page = build_report(out, format)
    print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m reports"))
