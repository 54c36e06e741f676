"""Lines of a publisher's file as rows: fast by Arrow where a part is sound, line by line where it is not."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from illmrec.data.registry import Layout
from illmrec.data.sources.lines import Part
from illmrec.files import parsed_json

SHOWN = 120
"""Characters of a bad line that are shown."""

MILLISECONDS = 10**11
"""Times above this are milliseconds, below it seconds: it is the year 5138 in the one unit and 1973 in the other."""

_LATEST = 2**63 - 1
INTERACTIONS = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class BadLine:
    """A line that cannot be read.

    Attributes:
        line: Its number, from 1.
        reason: What is wrong with it.
        shown: How it begins.
    """

    line: int
    reason: str
    shown: str


@dataclass(kw_only=True)
class Read:
    """Rows that were read from a part.

    Attributes:
        table: The rows; what is missing is null.
        counts: What was met, in words: lines that are no UTF-8, and so on.
        bad: Lines that cannot be read, in order.
    """

    table: pa.Table
    counts: Counter[str] = field(default_factory=Counter)
    bad: list[BadLine] = field(default_factory=list)


def read_interactions(part: Part, layout: Layout, *, header: Sequence[str]) -> Read:
    """Read the interactions of a part: columns of :data:`INTERACTIONS`, one row for each line that can be read.

    Args:
        part: Lines.
        layout: How they are written.
        header: The columns of a delimited file, in order.
    """
    fast = _fast_json(part, layout) if layout.format == "json-lines" else _fast_csv(part, layout, header)
    return _slow(part, layout, header) if fast is None else fast


def _fast_json(part: Part, layout: Layout) -> Read | None:
    """Read JSON lines by Arrow; None where a line is not as the schema says, which is then looked at by itself."""
    users, items, times = (layout.columns[name] for name in INTERACTIONS.names)
    kinds = {**dict.fromkeys((*users, *items), pa.string()), **dict.fromkeys(times, pa.int64())}
    schema = pa.schema(list(kinds.items()))
    try:
        table = pyarrow.json.read_json(
            pa.BufferReader(part.content),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(part.content) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
        table.validate(full=True)  # text that is no UTF-8 among it
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != part.lines:  # blank lines, or several objects on one
        return None
    user, item, moment = (pc.coalesce(*(table[name] for name in names)) for names in (users, items, times))
    return _finished(user, item, moment, layout)


def _fast_csv(part: Part, layout: Layout, header: Sequence[str]) -> Read | None:
    if len(layout.separator) != 1 or b'"' in part.content:
        return None
    names = [f"column {number}" for number in range(len(header))]
    # Of several names of the publisher's the first that is there.
    there = {name: [one for one in named if one in header] for name, named in layout.columns.items()}
    places = {name: names[header.index(found[0])] for name, found in there.items() if found}
    needed = {"user_id", "item_id", *(() if layout.time == "row" else ("timestamp",))}
    if not needed <= places.keys():
        return None
    kind = pa.int64() if layout.time in ("s", "ms") else pa.string()
    types = {place: kind if name == "timestamp" else pa.string() for name, place in places.items()}
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(part.content),
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, column_names=names, block_size=len(part.content) + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.separator, quote_char=False, ignore_empty_lines=False
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
            ),
        )
        if table.num_rows != part.lines:
            return None
        if layout.time == "row":
            moments = pa.array(range(part.first_line, part.first_line + part.lines), pa.int64())
        elif "timestamp" in places and layout.time not in ("s", "ms"):
            text = table[places["timestamp"]]
            moments = pc.cast(pc.strptime(text, format=layout.time, unit="s"), pa.int64())
        else:
            moments = table[places["timestamp"]]
        return _finished(table[places["user_id"]], table[places["item_id"]], moments, layout)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _slow(part: Part, layout: Layout, header: Sequence[str]) -> Read:
    rows: dict[str, list[Any]] = {name: [] for name in INTERACTIONS.names}
    counts: Counter[str] = Counter()
    bad: list[BadLine] = []
    for line, record in _records(part, layout, header, counts, bad):
        try:
            moment = (
                line
                if layout.time == "row"
                else _moment(first_of(record, layout.columns["timestamp"]), layout)
            )
        except ValueError as error:
            bad.append(BadLine(line=line, reason=str(error), shown=_shown(record)))
            continue
        for name in ("user_id", "item_id"):
            rows[name].append(_id(first_of(record, layout.columns[name])))
        rows["timestamp"].append(moment)
    table = pa.table(rows, schema=INTERACTIONS)
    done = _finished(table["user_id"], table["item_id"], table["timestamp"], layout)
    done.counts.update(counts)
    return Read(table=done.table, counts=done.counts, bad=bad)


def _finished(users: Any, items: Any, moments: Any, layout: Layout) -> Read:
    """Return rows with empty ids as null and all times in one unit."""
    counts: Counter[str] = Counter()
    users, items = (pc.if_else(pc.equal(ids, ""), None, ids) for ids in (users, items))
    if layout.time in ("s", "ms"):
        moments = pc.if_else(pc.less_equal(moments, 0), None, moments)
        strange = pc.greater(moments, MILLISECONDS) if layout.time == "s" else pc.less(moments, MILLISECONDS)
        n_strange = pc.sum(strange).as_py() or 0
        if n_strange:
            inner = pc.divide(moments, 1000) if layout.time == "s" else pc.multiply(moments, 1000)
            moments = pc.if_else(strange, inner, moments)
            counts["times in milliseconds" if layout.time == "s" else "times in seconds"] = n_strange
    return Read(table=pa.table([users, items, moments], schema=INTERACTIONS), counts=counts)


def read_records(
    part: Part, layout: Layout, *, header: Sequence[str], counts: Counter[str]
) -> Iterator[tuple[int, Any]]:
    """Yield line number and object of each line that can be read, a :class:`BadLine` for each that cannot."""
    bad: list[BadLine] = []
    for line, record in _records(part, layout, header, counts, bad):
        yield from ((found.line, found) for found in bad)
        bad.clear()
        yield line, record
    yield from ((found.line, found) for found in bad)


def _records(
    part: Part, layout: Layout, header: Sequence[str], counts: Counter[str], bad: list[BadLine]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield line number and object of each line that can be read; the others go to ``bad``."""
    if layout.format == "delimited" and len(layout.separator) == 1 and b'"' in part.content:
        yield from _quoted(part, layout, header, bad)
        return
    for line, raw in enumerate(part.content.split(b"\n"), start=part.first_line):
        if not raw.strip():
            continue
        try:
            text = raw.decode(layout.encoding)
        except UnicodeDecodeError:
            counts["lines that are no UTF-8, read as Windows-1252"] += 1
            text = raw.decode("cp1252", errors="replace")
        try:
            yield line, _object(text.strip("\r\ufeff"), layout, header)
        except (ValueError, RecursionError) as error:
            said = str(error) if not isinstance(error, json.JSONDecodeError) else f"not valid JSON ({error})"
            bad.append(BadLine(line=line, reason=said[:SHOWN] or "nested too deep", shown=text[:SHOWN]))


def _object(text: str, layout: Layout, header: Sequence[str]) -> Mapping[str, Any]:
    """Return a line as an object.

    Raises:
        ValueError: If it is none.
    """
    if layout.format == "json-lines":
        record = parsed_json(text)
        if not isinstance(record, dict):
            raise ValueError("not a JSON object")
        return record
    cells = text.split(layout.separator)
    if len(cells) < len(header):
        raise ValueError(f"{len(cells)} cells, not {len(header)}")
    return dict(zip(header, cells, strict=False))


def _quoted(
    part: Part, layout: Layout, header: Sequence[str], bad: list[BadLine]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a part with quotes, within which lines may end."""
    text = part.content.decode(layout.encoding, errors="replace")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=layout.separator)
    while True:
        line = part.first_line + rows.line_num
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            bad.append(BadLine(line=line, reason=str(error), shown=""))
            continue
        if not cells:
            continue
        if len(cells) < len(header):
            reason = f"{len(cells)} cells, not {len(header)}"
            bad.append(BadLine(line=line, reason=reason, shown=layout.separator.join(cells)[:SHOWN]))
        else:
            yield line, dict(zip(header, cells, strict=False))


def first_of(record: Mapping[str, Any], paths: Sequence[str]) -> Any:
    """Return the first value that is there and not empty, or None."""
    return next(
        (value for path in paths for value in values_at(record, path) if value not in (None, "")), None
    )


def values_at(value: Any, path: str) -> list[Any]:
    """Return what stands at a path such as ``images.*.large``: keys, and ``*`` for each of a list."""
    key, _, rest = path.partition(".")
    if key == "*":
        inner = value if isinstance(value, list) else []
    else:
        inner = [value[key]] if isinstance(value, dict) and key in value else []
    return [found for one in inner for found in values_at(one, rest)] if rest else inner


def _id(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list | bool):
        return None
    return str(value)


def _moment(value: Any, layout: Layout) -> int | None:
    """Return a time as a whole number.

    Raises:
        ValueError: If it is something else.
    """
    if value is None:
        return None
    if layout.time not in ("s", "ms"):
        return int(datetime.strptime(str(value), layout.time).replace(tzinfo=timezone.utc).timestamp())
    if isinstance(value, dict | list | bool):
        raise ValueError(f"time is {value!r:.40}, not a number")
    try:
        moment = int(value) if isinstance(value, str) and value.strip().isdigit() else int(float(value))
    except (ValueError, OverflowError):
        raise ValueError(f"time is {value!r:.40}, not a number") from None
    if abs(moment) > _LATEST:
        raise ValueError(f"time is {value!r:.40}, which no clock shows")
    return moment


def _shown(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)[:SHOWN]
