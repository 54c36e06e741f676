"""Where numbers come from: the commands that made them, and what differs between cells set side by side."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.store.cell import Record
from reports.sections.methods import MethodStyle
from reports.sections.results import Accuracy, Section, differing
from reports.wording.wording import words

_SHOWN_COMMANDS = 3
_SHOWN_OPTIONS = 6
_CARRIED = (
    "--config",
    "--dataset",
    "--preset",
    "--users",
    "--items",
    "--overlap",
    "--max-users",
    "--min-interactions",
    "--dtype",
    "--device",
    "--out",
)
"""Options that decide data and LLM, which a command must repeat for its cells to stand beside the others."""
_ABSOLUTE = re.compile(r"(^|[=:,])((?:[A-Za-z]:)?[/\\\\~][^=,]*)")
"""A path that starts at a root, a drive or a home folder, where an option's value may start."""
_EVALUATION = ("evaluation",)
_TRAINING = ("training", "llm", "encoders", "history_length", "context")
_TIMED = ("method", "representation", "history_length", "users", "machine")
_MADE_OF = ("rendered", "summarizer", "max_items")
NOT_IN_TURNS = (
    "Caution. Timings were not taken in turns, in one session: what the machine did besides may be part of their"
    " ratios. The command with --overwrite always times all of them together."
)
"""What efficiency cells of one figure differ in; the machine is compared by the parts that set its speed."""


def commands(records: Iterable[Record]) -> tuple[str, ...]:
    """Return the commands that computed these cells, the latest first, at most three."""
    latest = sorted(records, key=lambda record: record.created, reverse=True)
    return tuple(dict.fromkeys(record.command for record in latest))[:_SHOWN_COMMANDS]


def portable_command(command: str) -> str:
    """Return a command line that says nothing of the machine's folders: of an absolute path its last part stays."""
    try:
        parts = shlex.split(command)
    except ValueError:
        return command
    return shlex.join(
        _ABSOLUTE.sub(lambda found: f"{found[1]}{_last_part(found[2])}", part) for part in parts
    )


def fill_command(experiment: str, section: Section) -> str:
    """Return the command that fills in missing cells, for the data set and LLM that the section was run with.

    Args:
        experiment: ``efficiency``, ``ablation`` or ``comparison``.
        section: Its cells' own commands tell how data set and LLM were named.
    """
    records = [*section.efficiency, *(record for entry in section.accuracy for record in entry.records)]
    newest = max(records, key=lambda record: record.created)
    parts = ["python", "-m", f"bench.{experiment}"]
    if experiment == "ablation":
        parts += ["--rows", "a-e"]
    given = _options(newest.command)
    for name in _CARRIED:
        if name in given:
            parts += [name, given[name]]
    llm = next((record.config["llm"] for record in records if record.config.get("llm")), None)
    # The LLM is named even where it was the default: only cells of the same LLM can be set side by side.
    if isinstance(llm, Mapping) and llm.get("name"):
        parts += ["--llm", str(llm["name"])]
        if llm.get("layers"):
            parts += ["--layers", str(llm["layers"])]
    return shlex.join(parts)


def machine_words(machine: Mapping[str, Any]) -> str:
    """Return a machine in words; what is not known of it is left out."""
    gpus = [f"GPU {name}" for name in machine.get("gpus") or ()]
    parts = [
        str(machine.get("cpu") or ""),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{machine['memory_gb']} GB memory" if machine.get("memory_gb") else "",
        *gpus,
        str(machine.get("os") or ""),
        str(machine.get("architecture") or ""),
    ]
    return ", ".join(part for part in parts if part) or "not recorded"


def timing_notes(records: Sequence[Record]) -> tuple[str, ...]:
    """Return a warning where timings set side by side were taken under different conditions."""
    found = differing(records, (*_TIMED, *_MADE_OF))
    for part in ("cpu", "cores", "gpus"):
        values = list(dict.fromkeys(str(record.machine.get(part)) for record in records))
        if len(values) > 1:
            found[f"machine.{part}"] = values
    sessions = [str(record.results.get("session", record.key)) for record in records]
    return (*_warning("Timings were taken under different conditions", found), *session_notes(sessions))


def session_notes(sessions: Iterable[object]) -> tuple[str, ...]:
    """Return a warning where timings that stand side by side are of several sessions; missing ones do not count."""
    known = {str(session) for session in sessions if isinstance(session, str)}
    return (NOT_IN_TURNS,) if len(known) > 1 else ()


def variant_notes(variants: Sequence[Accuracy], styles: Mapping[str, MethodStyle]) -> tuple[str, ...]:
    """Return what readers must know of accuracies: kind of error, variant, older settings, differences."""
    notes = []
    several = [entry for entry in variants if len(entry.records) > 1]
    if len(several) == len(variants):
        counts = sorted({len(entry.records) for entry in variants})
        notes.append(f"Mean ± standard error over {words(counts)} seeds.")
    elif several:
        notes.append("Mean ± standard error over seeds where there are several, else over users.")
    else:
        notes.append("One seed; ± is the standard error over users.")
    for entry in variants:
        name = f"{styles[entry.method].label}{f' row ({entry.row})' if entry.row else ''}"
        if entry.others:
            notes.append(
                f"{name}: the store also holds {entry.others} older"
                f" {'setting' if entry.others == 1 else 'settings'} of it; the newest is shown."
            )
    if len({entry.method for entry in variants}) == len(variants):
        notes += [
            f"{styles[entry.method].label} is shown with {_described(entry)}: the fullest variant stored."
            for entry in variants
            if entry.method == "illmrec" and entry.row != "e"
        ]
    records = [record for entry in variants for record in entry.records]
    with_llm = [record for record in records if record.config.get("llm")]
    compared = {
        name: values
        for found, kinds in ((differing(records), _EVALUATION), (differing(with_llm, ("risa",)), _TRAINING))
        for name, values in found.items()
        if name.partition(".")[0] in kinds
    }
    return (*notes, *_warning("The methods were not trained or evaluated alike", compared))


def _described(entry: Accuracy) -> str:
    features = f"{words(entry.features)} features" if entry.features else "no features"
    row = f"row ({entry.row}): " if entry.row else ""
    return f"{row}{features}, {'RISA' if entry.risa else 'no RISA'}"


def _warning(opening: str, found: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if not found:
        return ()
    shown = [
        f"{name} ({' / '.join(values[:_SHOWN_COMMANDS])}{' / …' if len(values) > _SHOWN_COMMANDS else ''})"
        for name, values in list(found.items())[:_SHOWN_OPTIONS]
    ]
    more = f" and {len(found) - _SHOWN_OPTIONS} more" if len(found) > _SHOWN_OPTIONS else ""
    return (f"Caution. {opening}: {', '.join(shown)}{more}.",)


def _last_part(path: str) -> str:
    """Return the name at a path's end, whichever way its slashes lean."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "."


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
