"""Parquet files: written so that an error is said once, and read only if they are not many times what they claim."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from illmrec.errors import InputError

_GROWN, _GROWN_BYTES = 100, 1 << 28
"""How many times its size a Parquet file may grow to, in numbers, and what it may grow to in any case."""


def write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet.

    Raises:
        OSError: If the file cannot be written; nothing of it is said twice.
    """
    # Given a path, pyarrow closes the file when it forgets the writer, and shows a traceback of what that meets.
    with pa.OSFile(str(path), "wb") as file:
        parquet.write_table(table, file, compression="zstd")


def check_growth(file: parquet.ParquetFile, path: Path) -> None:
    """Check that a Parquet file does not stand for very many more rows than its size lets expect.

    A column of one value takes some bytes, whatever its length.

    Args:
        file: The file, opened.
        path: Where it is.

    Raises:
        InputError: If it does.
    """
    cells, size = file.metadata.num_rows * file.metadata.num_columns, path.stat().st_size
    if 8 * cells > max(_GROWN_BYTES, _GROWN * size):
        raise InputError(
            f"{path}: {size:,} bytes claim {cells:,} cells, more than such a file holds; write the file again"
        )
