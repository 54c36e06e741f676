"""What readers must know of cells that stand side by side: where they come from, and what differs between them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.store.cell import Record
from reports.sections.methods import MethodStyle
from reports.sections.section import Accuracy, stored_at_once
from reports.wording.wording import words

_SHOWN_VALUES = 3
_SHOWN_OPTIONS = 6
_EVALUATION = ("evaluation",)
_TRAINING = ("training", "llm", "encoders", "history_length", "context")
_TIMED = ("method", "representation", "history_length", "users", "machine")
_MADE_OF = (
    "rendered", "summarizer", "max_items", "readout", "heads", "training", "features", "generative", "idgenrec",
)  # fmt: skip
NOT_IN_TURNS = (
    "Caution. Timings were not taken in turns, in one session: what the machine did besides may be part of their"
    " ratios. The command with --overwrite always times all of them together."
)
"""What efficiency cells of one figure differ in; the machine is compared by the parts that set its speed."""


def differing(
    records: Iterable[Record], ignored: Iterable[str] = (), *, known: bool = False
) -> dict[str, list[str]]:
    """Return the options in which cells differ, each with its values.

    Args:
        records: Cells to compare.
        ignored: Names of options that may differ.
        known: Whether cells that lack an option differ from none in it: without an LLM there are no options of one,
            and a method has the encoders that it reads.
    """
    skip = set(ignored)
    values: dict[str, dict[str, None]] = defaultdict(dict)
    options = [(record.config, dict(_flat(record.config, skip))) for record in records]
    for name in dict.fromkeys(name for _, option in options for name in option):
        for config, option in options:
            part = name.split(".")[0]
            if name in option or not known or (part in config and part != "encoders"):
                values[name].setdefault(option.get(name, "not set"))
    return {name: list(found) for name, found in values.items() if len(found) > 1}


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
    found = differing(records, (*_TIMED, *_MADE_OF), known=True)
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
    untouched = [styles[entry.method].label for entry in variants if stored_at_once(entry.records[-1])]
    if untouched:
        notes.append(
            f"Projectors alone were trained of {words(untouched)}: states were stored with [REC] and adaptors as"
            " they start, and nothing was learnt from RISA."
        )
    records = [record for entry in variants for record in entry.records]
    with_llm = [record for record in records if record.config.get("llm")]
    compared = {
        name: values
        for found, kinds in (
            (differing(records), _EVALUATION),
            (differing(with_llm, ("risa", "adaptor_start")), _TRAINING),
        )
        for name, values in found.items()
        if name.partition(".")[0] in kinds
    }
    return (*notes, *_warning("The methods were not trained or evaluated alike", compared))


def _described(entry: Accuracy) -> str:
    features = f"{words(entry.features)} features" if entry.features else "no features"
    row = f"row ({entry.row}): " if entry.row else ""
    return f"{row}{features}, {'RISA' if entry.risa and not stored_at_once(entry.records[-1]) else 'no RISA'}"


def _warning(opening: str, found: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if not found:
        return ()
    shown = [
        f"{name} ({' / '.join(values[:_SHOWN_VALUES])}{' / …' if len(values) > _SHOWN_VALUES else ''})"
        for name, values in list(found.items())[:_SHOWN_OPTIONS]
    ]
    more = f" and {len(found) - _SHOWN_OPTIONS} more" if len(found) > _SHOWN_OPTIONS else ""
    return (f"Caution. {opening}: {', '.join(shown)}{more}.",)


def _flat(value: Mapping[str, Any], skip: set[str], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, item in value.items():
        if key in skip or key == "seed" or key.endswith("_seed"):
            continue
        if isinstance(item, Mapping):
            yield from _flat(item, skip, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(item, ensure_ascii=False)
