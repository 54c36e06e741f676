"""Columns of users' tables as arrays: ids and texts, the same from every file format or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from illmrec.errors import InputError


def require_columns(table: pd.DataFrame, required: tuple[str, ...], *, file: str) -> None:
    missing = [column for column in required if column not in table]
    if missing:
        found = ", ".join(str(column) for column in table.columns) or "none"
        raise InputError(
            f"{file}: missing column {', '.join(missing)}; it has {found}: rename or add the column"
        )
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise InputError(f"{file}: column {twice[0]} is there more than once; keep one")


def ids(column_values: pd.Series, *, column: str, file: str) -> np.ndarray:
    """Return ids as str objects; whole numbers read as floats (12.0) are written like integers (12).

    Raises:
        InputError: If an id is missing, or a float too large to hold every digit of an id: several ids may have
            become one when the table was written.
    """
    missing = column_values.isna().to_numpy(dtype=bool)
    if not missing.any():
        values = column_values
        _refuse_rounded(values, column=column, file=file)
        if pd.api.types.is_float_dtype(values.dtype) and np.all(values.to_numpy(dtype=float) % 1 == 0):
            values = values.astype("int64")
        found = written(values)
        missing = found == ""
    if missing.any():
        row = int(np.flatnonzero(missing)[0])
        raise InputError(
            f"{file}, data row {row + 1}: {column} is missing ({int(missing.sum())} such rows); "
            "fill it in or remove the row"
        )
    return found


def _refuse_rounded(values: pd.Series, *, column: str, file: str) -> None:
    if pd.api.types.is_float_dtype(values.dtype):
        # Float32, and float16, lose digits sooner.
        width = getattr(values.dtype, "itemsize", 8)
        limit = 2.0 ** {2: 11, 4: 24}.get(width, 53)
        too_large = np.abs(values.to_numpy(dtype=float)) >= limit
    elif values.dtype == object:
        limit = 2.0**53
        too_large = np.array([isinstance(value, float) and abs(value) >= limit for value in values])
    else:
        return
    if too_large.any():
        row = int(np.flatnonzero(too_large)[0])
        raise InputError(
            f"{file}, data row {row + 1}: {column} {values.iloc[row]!r} is a floating-point number that cannot hold "
            f"all digits of an id ({int(too_large.sum())} such rows); write the column as text or as integers"
        )


def float_hint(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Return what to do about unknown ids that known ones equal but for ".0", or "" where none do.

    CSV is text: a column that once held a missing value is often written as floats.

    Args:
        unknown: Ids that one table has.
        known: Ids of the other table.
    """
    there = set(known)
    for name in unknown:
        whole = name.removesuffix(".0")
        if whole != name and whole in there:
            return f"ids look like floats ({quote(name)}): write them as integers"
        if whole == name and f"{name}.0" in there:
            return f"the other table's ids look like floats ({quote(f'{name}.0')}): write them as integers"
    return ""


def written(values: pd.Series) -> np.ndarray:
    """Return each cell as it is written, str objects; bytes that are no UTF-8 are replaced."""
    if values.dtype == object and any(isinstance(value, bytes) for value in values):
        return np.array([_written(value) for value in values], dtype=object)
    return values.astype(str).to_numpy(dtype=object)


def text(values: pd.Series, *, file: str, shown: bool = True) -> np.ndarray:
    """Return a column as str objects: null becomes "", a list of texts, nested or not, one text.

    What is missing inside a list is left out. Descriptions and summaries are joined by blanks, other columns by
    " | ".

    Args:
        values: The column.
        file: What error messages call the table.
        shown: Whether methods show the column. An object with names has no one text to show; in other columns it is
            kept as JSON.

    Raises:
        InputError: If a cell of a column that is shown holds an object with names.
    """
    separator = " " if values.name in ("description", "summary") else " | "
    cells = values.to_numpy(dtype=object, copy=True)
    cells[values.isna().to_numpy(dtype=bool)] = ""
    if pd.api.types.infer_dtype(cells, skipna=False) == "string":
        return cells
    for row, cell in enumerate(cells):
        pieces = list(_pieces(cell)) if _is_list(cell) else [cell]
        if shown and any(isinstance(piece, dict) for piece in pieces):
            raise InputError(
                f"{file}, data row {row + 1}: {values.name} holds an object with names, {quote(cell)}; "
                "write it as text or as a list of texts"
            )
        cells[row] = separator.join(map(_written, pieces))
    return cells


def _is_list(cell: object) -> bool:
    return isinstance(cell, list | tuple | set | np.ndarray)


def _pieces(cells: Iterable[object]) -> Iterator[object]:
    """Yield what stands in a list and the lists in it; what is missing or empty is left out."""
    for cell in cells:
        if _is_list(cell):
            yield from _pieces(cell)  # type: ignore[arg-type]
        elif isinstance(cell, dict) or (not pd.isna(cell) and _written(cell).strip()):
            yield cell


def _written(cell: object) -> str:
    if isinstance(cell, dict):
        return json.dumps(cell, sort_keys=True, ensure_ascii=False, default=str)
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def is_plain(values: pd.Series) -> bool:
    """Tell columns of numbers, truth values or dates from columns of text."""
    return isinstance(values.dtype, np.dtype) and values.dtype.kind in "biufM"


def quote(value: object) -> str:
    """Return a short, one-line form of a user's cell."""
    text = repr(str(value))
    return text if len(text) <= 60 else f"{text[:56]}...'"
