"""What was built, in words: each step's counts, and the result beside the publisher's and the paper's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from illmrec.data.registry import Source, count_of

_WIDTHS = (34, 11, 10, 13, 13)


def lines_of(source: Source, note: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report of a built data set, line by line.

    Args:
        source: The data set.
        note: What was written beside the data (``build.json``).
    """
    yield f"{source.name}: {source.title}"
    yield f"licence: {source.licence or 'none found'}; {source.licence_note}"
    yield f"cite: {source.citation}"
    yield ""
    yield _row("step", "users", "items", "interactions", "dropped")
    for step in note["steps"]:
        yield _row(
            step["name"], *(f"{step[name]:,}" for name in ("users", "items", "interactions", "dropped"))
        )
        if step["notes"]:
            yield "  " + ", ".join(f"{what} {count:,}" for what, count in step["notes"].items())
    yield ""
    yield from _files(note)
    yield from _texts(note)
    yield from compared(source, note)
    yield ""
    yield "seconds: " + ", ".join(f"{step} {seconds:g}" for step, seconds in note["seconds"].items())


def compared(source: Source, note: Mapping[str, Any]) -> Iterator[str]:
    """Yield the result beside the paper's Table 4 and the publisher's counts, and what explains a difference."""
    statistics = note["statistics"]
    yield _row("", "users", "items", "interactions", "avg. length")
    yield _row("here", *_numbers(statistics))
    if source.paper is None:
        yield "the paper's Table 4 has no row of this data set"
    else:
        yield _row("paper, Table 4", *_numbers(source.paper))
        differences = [statistics[name] - source.paper[name] for name in ("users", "items", "interactions")]
        yield _row("difference", *(f"{difference:+,}" for difference in differences), "")
        if any(differences):
            yield "what explains it, by step:"
            yield from (f"  {line}" for line in _reasons(source, note))
        else:
            yield "the same as the paper's"
    yield from _published(source, note)


def _reasons(source: Source, note: Mapping[str, Any]) -> Iterator[str]:
    steps: Sequence[Mapping[str, Any]] = note["steps"]
    options = note["options"]
    first, published = steps[0], source.published.get("interactions")
    if published is not None and not _agree(first["interactions"] + first["dropped"], published):
        yield f"parse: {first['interactions'] + first['dropped']:,} rows, where the publisher has {published:,}"
    for step in steps[1:]:
        name = step["name"]
        if name == "filter: title" and step["dropped"]:
            yield f"{name}: {step['dropped']:,} interactions with items without a title; the authors' code keeps them"
        if name == "deduplicate" and step["dropped"]:
            inside = ", ".join(f"{what} {count:,}" for what, count in step["notes"].items())
            yield f"{name}: {step['dropped']:,} rows repeat another, which the authors' code keeps ({inside})"
        if name == "pictures: image":
            lost = ", ".join(
                f"{reason} {count:,}"
                for reason, count in note["pictures"].get("images", {}).items()
                if reason != "there"
            )
            dropped = f"{step['dropped']:,} interactions with items whose picture was not to be had"
            yield f"{name}: {dropped} ({lost or 'none'})"
    if options["images"] == "none":
        yield "pictures were not fetched (--images none): items whose picture is gone are still in"
    if tuple(options["require"]) != source.require:
        yield f"items had to have {', '.join(options['require']) or 'nothing'}, not {', '.join(source.require)}"
    if options["min_interactions"] != 5:
        yield f"a {options['min_interactions']}-core, not the 5-core"
    if options["repeats"] != "keep":
        yield "only the first of a user's interactions with an item was kept"
    yield from source.differences


def _published(source: Source, note: Mapping[str, Any]) -> Iterator[str]:
    if not source.published:
        return
    first = note["steps"][0]
    here = {name: first[name] for name in ("users", "items")}
    here["interactions"] = first["interactions"] + first["dropped"]
    shown = []
    for name, published in source.published.items():
        count = f"{published:,}" if isinstance(published, int) else published
        shown.append(
            f"{name} {here[name]:,} ({'as' if _agree(here[name], published) else 'not'} published: {count})"
        )
    yield f"the publisher's files: {', '.join(shown)}"
    yield f"  published: {source.published_source}"


def _agree(count: int, published: int | str) -> bool:
    low, high = count_of(published)
    return low <= count <= high


def _files(note: Mapping[str, Any]) -> Iterator[str]:
    for role, counts in note["lines"].items():
        yield f"{role}: " + ", ".join(f"{what} {count:,}" for what, count in counts.items() if count)
    for name, counts in note["pictures"].items():
        yield f"{name}: " + ", ".join(f"{what} {count:,}" for what, count in counts.items())


def _texts(note: Mapping[str, Any]) -> Iterator[str]:
    cleaned = ", ".join(f"{step} changed {count:,}" for step, count in note["cleaned"].items())
    statistics = note["statistics"]
    yield f"texts: {cleaned or 'as they are'}; descriptions of {100 * statistics['descriptions']:.4g} % of the items"
    yield f"fingerprint: {note['fingerprint']}"
    yield ""


def _numbers(values: Mapping[str, Any]) -> tuple[str, ...]:
    counts = (f"{values[name]:,}" for name in ("users", "items", "interactions"))
    return (*counts, f"{values['avg_length']:.2f}")


def _row(*cells: str) -> str:
    first, *others = cells
    return (
        first.ljust(_WIDTHS[0])
        + "".join(cell.rjust(width) for cell, width in zip(others, _WIDTHS[1:], strict=True))
    ).rstrip()
