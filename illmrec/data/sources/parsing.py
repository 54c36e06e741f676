"""The step ``parse``: a publisher's text to Parquet, part by part; resumable at any part, and shared by shards."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from illmrec import checksums
from illmrec.data.registry import Layout, registry
from illmrec.data.sources.catalogue import ITEMS, read_items
from illmrec.data.sources.lines import PART_BYTES, Part, TextFile, columns_seen, parts
from illmrec.data.sources.records import INTERACTIONS, BadLine, Read, read_interactions
from illmrec.errors import InputError
from illmrec.files import hash_json, parsed_json, writing
from illmrec.parquet_files import write_parquet
from illmrec.temporary import replacing

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised where the same text would give other rows."""

Shard = tuple[int, int]

_WHOLE = 1 << 28  # one part: quotes may hold ends of lines
_NAMED = 3
_NOTE = b"illmrec"


@dataclass(kw_only=True)
class Parsed:
    """What the step left.

    Attributes:
        paths: Parquet files in order; together they are the text.
        lines: Lines of the text.
        rows: Rows in the files.
        counts: What was met, in words.
        bad: How many lines cannot be read.
        shown: Some of them.
        complete: Whether all parts are there; those of other shards may not be.
    """

    paths: list[Path]
    lines: int = 0
    rows: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    shown: list[BadLine] = field(default_factory=list)
    complete: bool = True


def parse(
    text: TextFile,
    layout: Layout,
    *,
    role: str,
    folder: Path,
    max_bad_lines: int = 100,
    shard: Shard = (1, 1),
    workers: int = 2,
    part_bytes: int = PART_BYTES,
    progress: bool = False,
) -> Parsed:
    """Read a text into Parquet files ``part-00000.parquet`` and so on, and count what was met.

    A part that is there already is not read again, whoever wrote it: the same text gives the same parts in any number
    of runs and shards. Memory holds some parts, whatever the length of the text.

    Args:
        text: The publisher's file.
        layout: How it is written.
        role: ``interactions`` or ``items``.
        folder: Where the parts go, in a folder named after text and layout.
        max_bad_lines: Lines that cannot be read and are left out; more are an error.
        shard: ``(i, n)``: read every n-th part, from the i-th, counted from 1.
        workers: Threads that read parts, beside the one that unpacks them.
        part_bytes: Bytes of a part, about.
        progress: Show a bar.

    Raises:
        InputError: If the file is damaged or another data set's, or too many lines cannot be read.
    """
    header, skip = _header(text, layout, role)
    size = _WHOLE if role == "items" and layout.format == "delimited" else part_bytes
    key = hash_json([VERSION, text.identity(), role, json.loads(json.dumps(asdict(layout))), size])
    folder = folder / f"{role}-{key}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    read = partial(read_interactions if role == "interactions" else read_items, layout=layout, header=header)
    work = partial(_write, folder=folder, read=read, skip=skip)
    _remove_damaged(folder)
    total = _known_total(folder)
    if total is None or len(_written(folder)) < total:
        total = _read_all(
            text, work, shard=shard, workers=workers, size=size, folder=folder, progress=progress
        )
        checksums.write_json(folder / "parts.json", {"parts": total})
    done = _gather(folder, total=total)
    if done.bad > max_bad_lines:
        raise InputError(
            f"{text.name}: {done.bad:,} lines cannot be read, more than --max-bad-lines {max_bad_lines}; "
            f"{_named(done.shown)}"
        )
    if done.bad:
        logger.warning(
            "%s: %d lines cannot be read and are left out; %s", text.name, done.bad, _named(done.shown)
        )
    return done


def _read_all(
    text: TextFile,
    work: Callable[[Part], None],
    *,
    shard: Shard,
    workers: int,
    size: int,
    folder: Path,
    progress: bool,
) -> int:
    """Read the parts that are not there yet, some at a time, and return how many the text has."""
    index, of = shard
    there = _written(folder)
    pending: list[Future[None]] = []
    total = 0
    with (
        ThreadPoolExecutor(max_workers=workers) as threads,
        tqdm(
            desc=f"reading {text.path.name}", unit="B", unit_scale=True, disable=not progress, delay=1
        ) as bar,
    ):
        try:
            for part in parts(text, size=size):
                total += 1
                bar.update(len(part.content))
                if part.number % of != index - 1 or part.number in there:
                    continue
                if part.number == 0:
                    work(part)  # another data set's file fails here, before anything else is read
                    continue
                pending.append(threads.submit(work, part))
                if len(pending) > workers:
                    pending.pop(0).result()
            for future in pending:
                future.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return total


def _write(part: Part, *, folder: Path, read: Callable[[Part], Read], skip: int) -> None:
    """Read a part and write it whole."""
    if part.number == 0 and skip:
        _, _, content = part.content.partition(b"\n")
        part = Part(number=0, first_line=2, content=content, lines=part.lines - 1)
    done = read(part)
    note = {
        "lines": part.lines,
        "counts": done.counts,
        "bad": len(done.bad),
        "shown": [asdict(bad) for bad in done.bad[:_NAMED]],
    }
    table = done.table.replace_schema_metadata({_NOTE: json.dumps(note).encode()})
    target = folder / f"part-{part.number:05d}.parquet"
    with writing(folder), replacing(target) as temporary:
        write_parquet(table, temporary)
        checksums.seal_file(target, temporary)


def _written(folder: Path) -> set[int]:
    return {int(path.stem.partition("-")[2]) for path in folder.glob("part-*.parquet")}


def _remove_damaged(folder: Path) -> None:
    """Remove parts that are not what was written, so that they are read again; the log names them."""
    for path in sorted(folder.glob("part-*.parquet")):
        if found := checksums.file_fault(path):
            logger.warning("%s: damaged (%s); it is read again from the publisher's file", path, found)
            with writing(folder):
                checksums.remove_file(path)


def _known_total(folder: Path) -> int | None:
    known = checksums.kept(folder / "parts.json")
    return None if known is None else int(known["parts"])


def _gather(folder: Path, *, total: int) -> Parsed:
    paths = [folder / f"part-{number:05d}.parquet" for number in range(total)]
    done = Parsed(paths=[path for path in paths if path.is_file()])
    done.complete = len(done.paths) == total
    for path in done.paths:
        metadata = pq.read_metadata(path)
        note = parsed_json(metadata.metadata[_NOTE])
        done.lines += note["lines"]
        done.rows += metadata.num_rows
        done.counts.update(note["counts"])
        done.bad += note["bad"]
        done.shown += [BadLine(**shown) for shown in note["shown"]][: _NAMED - len(done.shown)]
    return done


def _named(shown: Sequence[BadLine]) -> str:
    return "; ".join(f"line {bad.line}: {bad.reason}: {bad.shown!r}" for bad in shown)


def _header(text: TextFile, layout: Layout, role: str) -> tuple[list[str], int]:
    """Return the columns of a text and how many lines name them, after a look at the first.

    Raises:
        InputError: If the columns that are read are not among them: the file is another data set's.
    """
    seen = columns_seen(text, separator=layout.separator)
    if seen in ([], [""]):
        raise InputError(f"{text.name}: the file is empty; fetch it again")
    if layout.names:
        if len(seen) < len(layout.names):
            raise InputError(_another(text, seen, list(layout.names), role))
        return list(layout.names), int(seen[: len(layout.names)] == list(layout.names))
    wanted = (INTERACTIONS if role == "interactions" else ITEMS).names
    # A text may be missing from one line of JSON; who and what may not.
    timed = role == "interactions" and layout.format == "delimited" and layout.time != "row"
    keys = [name for name in wanted if name in ("user_id", "item_id") or (timed and name == "timestamp")]
    lacking = [
        layout.columns[name][0]
        for name in keys
        if not any(path.partition(".")[0] in seen for path in layout.columns[name])
    ]
    if lacking:
        raise InputError(_another(text, seen, lacking, role))
    return seen, int(layout.format == "delimited")


def _another(text: TextFile, seen: Sequence[str], lacking: Sequence[str], role: str) -> str:
    likely = recognised(seen)
    hint = f": it looks like {likely}" if likely else ""
    return (
        f"{text.name}: no file of {role} of this data set: its first line has no {', '.join(lacking)}, but "
        f"{', '.join(seen[:8])}{hint}"
    )


def recognised(seen: Sequence[str]) -> str:
    """Return which publisher's file has such columns, in words, or "" where none that is known does."""
    for source in registry().values():
        for role, layout in (("interactions", source.interactions), ("items", source.items)):
            named = [paths[0].partition(".")[0] for paths in layout.columns.values() if paths]
            if not layout.names and set(named) <= set(seen):
                return f"{role} of {source.family}"
    return ""


def shard_of(text: str) -> Shard:
    """Return ``i/n`` as numbers.

    Raises:
        InputError: If it is something else.
    """
    index, _, of = text.partition("/")
    if not (index.isdigit() and of.isdigit() and 1 <= int(index) <= int(of)):
        raise InputError(f"--shard {text}: give i/n, such as 1/4 for the first of four")
    return int(index), int(of)


def batches(done: Parsed, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of each part, some columns of them."""
    for path in done.paths:
        yield pq.read_table(path, columns=list(columns))


def counted(done: Parsed) -> Mapping[str, int]:
    """Return lines, rows and what was met, for the report."""
    return {"lines": done.lines, "rows": done.rows, "lines that cannot be read": done.bad, **done.counts}
