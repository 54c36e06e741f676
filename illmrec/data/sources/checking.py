"""Is a file, or a folder, what it should be? Counted and said before anything is built from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from illmrec.data.broken import broken_pictures, named
from illmrec.data.folder import load_folder
from illmrec.data.registry import Source, registry
from illmrec.data.sources.lines import TextFile, columns_seen
from illmrec.data.sources.parsing import counted, parse
from illmrec.data.sources.writing import check_tables, read_note
from illmrec.errors import InputError
from illmrec.files import cache_dir
from illmrec.temporary import scratch_folder


def check_file(path: Path, name: str | None = None) -> Iterator[str]:
    """Read a publisher's file to its end and yield what is in it, line by line.

    Args:
        path: The file.
        name: A data set of the registry whose file it should be; None finds out by its columns.

    Raises:
        InputError: If it is no publisher's that is known, or damaged.
    """
    text = TextFile(path=path)
    source, role = _whose(text, name)
    yield f"{path}: {role} of {source.family}"
    with scratch_folder() as folder:
        done = parse(
            text, getattr(source, role), role=role, folder=folder, max_bad_lines=1 << 62, progress=True
        )
        for what, count in counted(done).items():
            if count or what in ("lines", "rows"):
                yield f"{what}: {count:,}"
        for bad in done.shown:
            yield f"line {bad.line}: {bad.reason}: {bad.shown!r}"


def check_folder(path: Path) -> Iterator[str]:
    """Load a folder as an experiment does, decode its pictures, and yield what is in it, line by line.

    Raises:
        InputError: If it cannot be loaded, a picture cannot be decoded, or it is not what was built.
    """
    note = read_note(path)
    check_tables(path)
    k = note["options"]["min_interactions"] if note is not None else 5
    dataset = load_folder(str(path), min_interactions=k)
    for name, value in dataset.statistics().items():
        yield f"{name}: {value}"
    if dataset.days_begin is not None:
        yield "times: they tell the day alone"
    yield f"fingerprint: {dataset.fingerprint}"
    dropped = ", ".join(f"{what} {count:,}" for what, count in dataset.dropped.items() if count)
    if dropped:
        yield f"dropped by the {k}-core: {dropped}"
    if dataset.images is not None:
        broken = broken_pictures(dataset.images, cache=cache_dir())
        if broken:
            raise InputError(f"{path}: {len(broken)} pictures cannot be decoded: {named(broken)}")
        yield f"all {int(dataset.images.available.sum()):,} pictures can be decoded"
    if note is not None and note["fingerprint"] != dataset.fingerprint:
        raise InputError(
            f"{path}: its fingerprint is not {note['fingerprint']}, with which it was built: it was changed since"
        )


def _whose(text: TextFile, name: str | None) -> tuple[Source, str]:
    sources = registry()
    if name is not None and name not in sources:
        raise InputError(f"unknown data set {name!r}; python -m illmrec.data list names all")
    chosen = [sources[name]] if name is not None else list(sources.values())
    for source in chosen:  # by the file's name, then by its columns
        for role in ("interactions", "items"):
            file = source.files[role]
            if text.path.name in (file.name, file.name.removesuffix(".gz")) and (
                name is not None or _has_columns(text, source, role)
            ):
                return source, role
    for source in chosen:
        for role in ("interactions", "items"):
            if _has_columns(text, source, role):
                return source, role
    seen = columns_seen(text, separator=",")
    raise InputError(
        f"{text.name}: no publisher's file that is known; its first line has {', '.join(seen[:8])}"
    )


def _has_columns(text: TextFile, source: Source, role: str) -> bool:
    layout = source.interactions if role == "interactions" else source.items
    seen = columns_seen(text, separator=layout.separator)
    if layout.names:
        return text.path.name == source.files[role].name and len(seen) >= len(layout.names)
    wanted = [path.partition(".")[0] for paths in layout.columns.values() for path in paths[:1]]
    return set(wanted) <= set(seen)
