"""YAML that people write, read so that no file grows in memory, holds itself or makes objects of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from illmrec.errors import InputError
from illmrec.files import MOST_DIGITS

MOST_VALUES = 100_000
"""Values of a file, each counted as often as it is referred to: nine lines of aliases can stand for billions."""
DEEPEST = 50
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it is compiled


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds: mappings, lists, texts, numbers, dates.

    Raises:
        InputError: If it cannot be read, is not valid, is nested deeper than :data:`DEEPEST`, or stands for more than
            :data:`MOST_VALUES` values.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    try:
        return parsed_yaml(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parsed_yaml(text: str) -> Any:
    """Return what a YAML text holds; see :func:`read_yaml`.

    Raises:
        InputError: If it is not valid, is nested too deep, stands for too many values or holds a number beyond all use.
    """
    try:
        content = yaml.load(text, Loader=_SAFE_LOADER)
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML ({' '.join(str(error).split())[:200]})") from None
    except RecursionError:
        raise InputError(f"nested deeper than {DEEPEST}; write it flatter") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        # What a tag or a date says that cannot be: !!int 'a', 2001-99-99, an unhashable key.
        raise InputError(f"not valid YAML ({type(error).__name__}: {error})") from None
    _check_bounds(content)
    return content


def _check_bounds(content: Any) -> None:
    counted, pending = 0, [(content, 1)]
    while pending:
        value, depth = pending.pop()
        counted += 1
        if depth > DEEPEST:  # or holds itself
            raise InputError(f"nested deeper than {DEEPEST}; write it flatter")
        if counted > MOST_VALUES:
            raise InputError(f"stands for more than {MOST_VALUES:,} values; write out fewer aliases (*name)")
        if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise InputError(f"holds a whole number of more than {MOST_DIGITS} digits; no option takes one")
        if isinstance(value, Mapping):
            pending += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list | tuple | set):
            pending += [(inner, depth + 1) for inner in value]
