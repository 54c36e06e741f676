"""Tables that users bring: parquet, CSV or JSON lines, found by name in a folder."""

from __future__ import annotations

import ast
import json
import warnings
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from illmrec.errors import InputError
from illmrec.files import leads_out, parsed_json
from illmrec.parquet_files import check_growth

LIST_COLUMNS = ("brand", "category", "description", "summary")
TABLE_FORMATS = (".parquet", ".csv", ".jsonl")


def read_table(folder: Path, stem: str) -> tuple[pd.DataFrame, Path]:
    """Read ``<stem>.parquet``, ``<stem>.csv`` or ``<stem>.jsonl``, whichever is in the folder.

    Returns:
        The table (:func:`read_table_file`), and the file that it was read from.

    Raises:
        InputError: If there is none, more than one, or the file cannot be read.
    """
    paths = [folder / f"{stem}{suffix}" for suffix in TABLE_FORMATS]
    found = [path for path in paths if path.is_file() or path.is_symlink()]
    names = ", ".join(f"{stem}{suffix}" for suffix in TABLE_FORMATS)
    if not found:
        raise InputError(f"{folder}: no table of {stem} here; add one of {names}")
    if len(found) > 1:
        both = " and ".join(path.name for path in found)
        raise InputError(f"{folder}: holds {both}; keep only the one that is meant")
    if found[0].is_symlink() and leads_out(found[0], folder):
        raise InputError(f"{found[0]}: a link that leads out of {folder}; put the table itself there")
    return read_table_file(found[0]), found[0]


def read_table_file(path: Path) -> pd.DataFrame:
    """Read a table of one of ``TABLE_FORMATS``, which its name ends with.

    CSV is read as text throughout (UTF-8), so that an id such as 0775482 keeps its zero and a title such as
    NA stays one. Only where brand, category, description or summary is written as a list, in JSON or as Python and
    pandas write one, it is a list, as it is in the other formats. JSON lines keep their numbers and strings apart.

    Raises:
        InputError: If the name ends otherwise or the file cannot be read.
    """
    if path.suffix not in TABLE_FORMATS:
        raise InputError(f"{path}: not one of {', '.join(TABLE_FORMATS)}; write the table as one of them")
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        return _read_csv(path) if path.suffix == ".csv" else _read_json_lines(path)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty; it needs a header row and data") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, pa.ArrowException, OSError, ValueError) as error:
        # ValueError: of Arrow, on dates of years that Python's do not have.
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: cannot be read as {path.suffix[1:]} ({said}); write the file again"
        ) from None


def _read_parquet(path: Path) -> pd.DataFrame:
    """Return a Parquet file as pandas reads it; without what pandas has noted in it, where that fits no table."""
    with parquet.ParquetFile(path) as file:
        check_growth(file, path)
    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, OSError):
        raise
    except Exception:  # of pandas, on its own notes: which of all errors depends on what they say
        table = parquet.read_table(path).replace_schema_metadata(None).to_pandas()
    for _, column in table.select_dtypes("str").items():
        pa.array(column.array).validate(full=True)  # nothing has looked yet at whether it is UTF-8
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        # Without index_col=False a surplus comma on every row would turn the first column into an index; with
        # it the surplus cells are dropped with a warning only. Neither is what the user meant.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    for column in LIST_COLUMNS:
        if column in table and table[column].str.startswith("[").any():
            table[column] = pd.Series([_list_or_text(cell) for cell in table[column]], dtype=object)
    return table


def _list_or_text(cell: str) -> object:
    """Return the list that a cell spells, or the cell as it is."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return cell
    try:
        return parsed_json(text)
    except ValueError:
        pass  # not JSON: perhaps as Python writes a list
    try:
        return _literal(ast.parse(text, mode="eval").body, text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell


def _literal(node: ast.AST, text: str) -> object:
    """Return a list of texts, numbers and lists as Python writes it; nothing is evaluated.

    Raises:
        ValueError: If it is something else, such as ``['a' 'b']``, which numpy writes and Python reads as ``['ab']``.
    """
    if isinstance(node, ast.List):
        return [_literal(part, text) for part in node.elts]
    if isinstance(node, ast.Name) and node.id == "nan":
        return None
    if isinstance(node, ast.Constant) and ast.get_source_segment(text, node) == repr(node.value):
        return node.value
    raise ValueError("not a list as Python writes it")


def _read_json_lines(path: Path) -> pd.DataFrame:
    rows = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = parsed_json(line)
            except ValueError as error:
                raise InputError(
                    f"{path}, line {number}: not valid JSON ({error}); correct the line"
                ) from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: not a JSON object; write one {{...}} on each line")
            if "\\ud" in line.lower() and not _is_unicode(row):
                raise InputError(
                    f"{path}, line {number}: holds half of a surrogate pair (\\ud...); correct the text"
                )
            rows.append(row)
    return pd.DataFrame(rows)


def _is_unicode(row: dict[str, object]) -> bool:
    """Tell whether all text can be written as UTF-8; JSON's escapes can spell what cannot."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
