"""Command lines: those that computed cells, and those that fill in what is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from bench.store.cell import Record

_SHOWN = 3
CARRIED = (
    "config", "dataset", "preset", "dtype", "device", "vision", "text", "seeds", "seeds-of", "users", "items",
    "overlap", "max-users", "eval-users", "min-interactions", "split", "test-targets", "duplicates", "ties",
    "time-resolution", "broken-images", "negatives", "history-length", "context", "instruction", "readout",
    "adaptor", "projector", "inputs", "affinity", "alignment", "hidden", "shared", "strategy", "warm-up",
    "alternations", "alternation-targets", "joint", "last-targets", "state-dtype", "tuned", "targets", "loss",
    "reduction", "negatives-from", "windows", "learning-rate", "schedule", "clip", "adaptor-start", "epochs",
    "max-steps", "batch-size", "validation-users", "cf-epochs", "token-budget", "checkpointing", "compile", "plain",
    "summarizer", "summarizer-model", "summarizer-context", "summary-words", "summary-tokens", "features", "out",
)  # fmt: skip
"""Options that decide data, LLM and training, which a command must repeat for its cells to stand beside the others."""
_FLAGS = {
    f"--{negation}{name}"
    for name in ("tuned", "checkpointing", "compile", "plain")
    for negation in ("", "no-")
}
"""Options without a value."""
_BY_FEATURES = ("comparison", "time_to_accuracy", "training_strategy", "tune")
"""Experiments whose ``--features`` are the feature types that score items; others have sets of them, or none."""
_REFUSED = {"context_budget": ("context",)}
"""Options that an experiment sweeps, and does not take."""
_ALONE = ("retrieval",)
"""Experiments of no data set and no LLM: of the shared options they take the output folder."""
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
    with_llm = [record for record in records if record.config.get("llm")]
    # Beside cells of methods without an LLM stand those of any, and their commands may have named another one.
    newest = max(with_llm or records, key=lambda record: record.created, default=None)
    if newest is None:
        return shlex.join(parts)
    given = _options(newest.command)
    for name in ("out",) if experiment in _ALONE else CARRIED:
        if name in _REFUSED.get(experiment, ()) or (name == "features" and not _alike(newest, experiment)):
            continue
        parts += given.get(name, ())
    llm = newest.config.get("llm")
    # The LLM is named even where it was the default: only cells of the same LLM can be set side by side. A folder is
    # named by the cell without its place, so that the command's own word for it comes first.
    if isinstance(llm, Mapping) and llm.get("name") and experiment not in _ALONE:
        named = () if "config" in given else ("--llm", str(llm["name"]))
        parts += given.get("llm", named)
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


def _alike(record: Record, experiment: str) -> bool:
    """Return whether ``--features`` of a cell's command mean the same in an experiment."""
    return experiment in _BY_FEATURES and any(
        f"bench.{name} " in f"{record.command} " for name in _BY_FEATURES
    )


def _options(command: str) -> dict[str, tuple[str, ...]]:
    """Return the long options of a command line, by name, as they were given; of one given twice the last.

    Text that is no command line has none.
    """
    try:
        parts = shlex.split(command)
    except ValueError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for position, part in enumerate(parts):
        name, equals, value = part.partition("=")
        if not part.startswith("--"):
            continue
        if part in _FLAGS:
            found[part.removeprefix("--").removeprefix("no-")] = (part,)
        elif equals:
            found[name.removeprefix("--")] = (name, value)
        elif position + 1 < len(parts):
            found[name.removeprefix("--")] = (name, parts[position + 1])
    return found
