"""Where no study is of what is wanted: which stored one is nearest to it, and in which options it differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from bench.frames.tune import EXPERIMENT
from bench.harness.settings import Settings
from bench.harness.training import trained_on
from bench.store.cell import Record
from bench.store.store import Store

_OPTIONS = {
    "features": "features", "seed": "seeds", "llm.layers": "layers", "encoders.image": "vision",
    "encoders.text": "text", **{field.name: field.name for field in fields(Settings)},
}  # fmt: skip
"""Options by what they decide of a study: the whole path there, or its last part."""


def nearest_study(out: Path, identity: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]] | None:
    """Return options, with values, by which a stored study of the same method, data and LLM differs from a wanted one.

    Args:
        out: The output folder of the run.
        identity: What is wanted: what is searched, and on what.

    Returns:
        By option without its dashes, the values of the stored study that differs in fewest, and those that are wanted;
        None where there is no such study, or none that an option tells apart.
    """
    found = [
        _differing(record.config, identity)
        for record in Store(out).records(EXPERIMENT)
        if _alike(record, identity)
    ]
    return min((each for each in found if each[0]), key=lambda each: len(each[0]), default=None)


def _alike(record: Record, identity: Mapping[str, Any]) -> bool:
    """Return whether a study is of the same method, data and LLM, of whatever layers."""
    config = record.config
    same_data = trained_on(config["dataset"]) == trained_on(identity["dataset"])
    stored, wanted = ({**(each.get("llm") or {}), "layers": None} for each in (config, identity))
    both = config.get("llm") is not None and identity.get("llm") is not None
    return record.method == identity["method"] and same_data and (not both or stored == wanted)


def _differing(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    before, now = dict(_flat(stored)), dict(_flat(wanted))
    theirs: dict[str, str] = {}
    ours: dict[str, str] = {}
    for path in now:
        option = _OPTIONS.get(path) or _OPTIONS.get(path.rpartition(".")[2])
        if option is not None and path in before and before[path] != now[path]:
            theirs[option], ours[option] = before[path], now[path]
    return theirs, ours


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield values by their path as a command line has them; of encoders the name alone, whether read or not."""
    for name, each in value.items():
        path = f"{prefix}{name}"
        if isinstance(each, Mapping):
            yield from _flat(each, f"{path}.")
        elif prefix == "encoders.":
            yield path, str(each).partition("@")[0]
        elif path != "dataset.name":
            yield path, "none" if each is None else _written(each)


def _written(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
