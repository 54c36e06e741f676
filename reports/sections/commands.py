"""Command lines: those that computed cells, and those that fill in what is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from bench.store.cell import Record

_SHOWN = 3
_CARRIED = (
    "--config", "--dataset", "--preset", "--users", "--items", "--overlap", "--max-users", "--min-interactions",
    "--split", "--test-targets", "--dtype", "--device", "--out",
)  # fmt: skip
"""Options that decide data and LLM, which a command must repeat for its cells to stand beside the others."""
_ABSOLUTE = re.compile(r"(^|[=:,])((?:[A-Za-z]:)?[/\\\\~][^=,]*)")
"""A path that starts at a root, a drive or a home folder, where an option's value may start."""


def commands(records: Iterable[Record]) -> tuple[str, ...]:
    """Return the commands that computed these cells, the latest first, at most three."""
    latest = sorted(records, key=lambda record: record.created, reverse=True)
    return tuple(dict.fromkeys(record.command for record in latest))[:_SHOWN]


def command_beside(records: Sequence[Record], experiment: str) -> str:
    """Return the command of an experiment whose cells can stand beside others: on the same data, with the same LLM.

    Args:
        records: The others; their own commands tell how data set and LLM were named.
        experiment: Its name.
    """
    parts = ["python", "-m", f"bench.{experiment}"]
    if experiment == "ablation":
        parts += ["--rows", "a-e"]
    if records:
        given = _options(max(records, key=lambda record: record.created).command)
        parts += [part for name in _CARRIED if name in given for part in (name, given[name])]
    llm = next((record.config["llm"] for record in records if record.config.get("llm")), None)
    # The LLM is named even where it was the default: only cells of the same LLM can be set side by side.
    if isinstance(llm, Mapping) and llm.get("name"):
        parts += ["--llm", str(llm["name"])]
        if llm.get("layers"):
            parts += ["--layers", str(llm["layers"])]
    return shlex.join(parts)


def portable_command(command: str) -> str:
    """Return a command line that says nothing of the machine's folders: of an absolute path its last part stays."""
    try:
        parts = shlex.split(command)
    except ValueError:
        return command

    def shortened(found: re.Match[str]) -> str:
        # Slashes may lean either way.
        return found[1] + (re.split(r"[/\\]", found[2].rstrip("/\\"))[-1] or ".")

    return shlex.join(_ABSOLUTE.sub(shortened, part) for part in parts)


def _options(command: str) -> dict[str, str]:
    """Return the long options of a command line with their values; text that is no command line has none."""
    try:
        parts = shlex.split(command)
    except ValueError:
        return {}
    found = {}
    for position, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if equals:
            found[name] = value
        elif part.startswith("--") and position + 1 < len(parts):
            found[name] = parts[position + 1]
    return found
