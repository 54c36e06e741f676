"""What a representation must have, for classes that users bring: what is missing is named part by part."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_TUPLES = {
    "columns": "the columns of the items table that render reads, such as ('title',)",
    "slots": "the features whose slots render may return, such as ('image',); () for none",
}


def contract_problems(candidate: Any) -> list[str]:
    """Return what an object lacks of :class:`illmrec.prompts.segments.Representation`, a phrase each; [] if nothing.

    Args:
        candidate: An instance, not a class.
    """
    found = []
    name = getattr(candidate, "name", None)
    if name is None:
        found.append("lacks name: what the method is called in results")
    elif not isinstance(name, str) or not name:
        found.append(f"has the name {name!r}: write a text")
    for part, meaning in _TUPLES.items():
        value = getattr(candidate, part, None)
        if value is None:
            found.append(f"lacks {part}: {meaning}")
        elif not isinstance(value, tuple | list) or not all(isinstance(each, str) for each in value):
            found.append(f"has {part} {value!r}: write a tuple of names, {meaning}")
    render = getattr(candidate, "render", None)
    if not callable(render):
        found.append("lacks render(item, available): returns the segments of one item")
    elif not takes(render, 2):
        found.append("has a render that cannot be called as render(item, available)")
    return found


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether a function can be called with so many arguments by position; True where that cannot be told."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True
