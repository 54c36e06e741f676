"""Endings of file names, which tell sections and methods apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.frames.selection import OURS
from reports.sections.section import Section


def section_suffixes(sections: Sequence[Section]) -> list[str]:
    """Return the ending of each section's file names: none for a single one, else data set and LLM."""
    if len(sections) < 2:
        return [""] * len(sections)
    suffixes = []
    for section in sections:
        parts = [slug(section.dataset), slug(section.fingerprint)[:8]]
        if sum(other.fingerprint == section.fingerprint for other in sections) > 1:
            parts.append(slug(section.llm))
        suffixes.append("-" + "-".join(part for part in parts if part))
    return _distinct(suffixes)


def method_suffixes(methods: Iterable[str]) -> dict[str, str]:
    """Return what file names on a method alone have before the section's ending: nothing for I-LLMRec."""
    names = sorted(set(methods) - {OURS})
    suffixes = [f"-{slug(name.replace('+', ' plus'))}" for name in names]
    numbered = _distinct(suffixes)
    return {OURS: "", **dict(zip(names, numbered, strict=True))}


def _distinct(suffixes: Sequence[str]) -> list[str]:
    """Number the endings that are not the only ones of their kind."""
    return [
        suffix if suffixes.count(suffix) == 1 else f"{suffix}-{position}"
        for position, suffix in enumerate(suffixes, start=1)
    ]


def slug(text: str) -> str:
    """Return text as part of a file name: lower-case letters, digits and hyphens, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
