"""Tables of results: CSV files, printing, and the call of the report."""

from __future__ import annotations

import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.store.store import Store
from illmrec.escaping import csv_text, shortened
from illmrec.files import atomic_write_text
from illmrec.model import processes

logger = logging.getLogger(__name__)

_WIDEST = 80
"""Characters of a text that a printed table shows."""


def write_table(table: pd.DataFrame, store: Store, name: str) -> Path:
    """Write a table to ``tables/NAME.csv``, whole or not at all; of several processes the main one does."""
    path = store.out / "tables" / f"{name}.csv"
    if processes.is_main():
        atomic_write_text(path, csv_text(table, float_format="%.6g"))
        logger.info("wrote %s", path)
    return path


def print_table(table: pd.DataFrame, *, title: str) -> None:
    """Print a table to standard output, long texts cut; of several processes the main one does."""
    if processes.is_main():
        shown = table.map(lambda value: shortened(value, _WIDEST) if isinstance(value, str) else value)
        text = shown.to_string(index=False, float_format=lambda value: f"{value:.4f}", na_rep="")
        print(f"\n{title}\n{text}\n", flush=True)


def published(name: str) -> pd.DataFrame:
    """Return a published table, a file of ``reports/paper``, without importing the reports."""
    return pd.read_csv(Path(__file__).resolve().parents[2] / "reports" / "paper" / f"{name}.csv")


def build_report(out: Path, options: Sequence[str] = ()) -> None:
    """Build figures, tables and page from the store: a program of its own, since it sits a floor above.

    Args:
        out: The folder with the store.
        options: Further options, such as those of the price.
    """
    arguments = ["-m", "reports", "--out", str(out), *options]
    if subprocess.run([sys.executable, *arguments], check=False).returncode:
        logger.warning(
            "the report could not be built; the results are stored: %s", shlex.join(["python", *arguments])
        )
