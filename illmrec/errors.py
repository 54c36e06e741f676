"""The errors that users are meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one line that names it and the remedy.

    The command-line programs print it without a traceback and exit with status 2.
    """


class UnsupportedError(InputError):
    """A method needs something that the data or the installation lack; other methods may still run."""


class DamagedError(InputError):
    """A stored file is not as it was written, or not whole; the message is one line that names it and the remedy."""


class DivergedError(ValueError):
    """A model gives scores that cannot be compared, as one that diverged in training; the message is one line."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint for an unknown name: the nearest valid one, if any, and all valid ones.

    Args:
        name: What the user wrote.
        valid: The names that would have worked.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}valid: {', '.join(names)}"
