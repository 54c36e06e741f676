"""The errors that users are meant to read."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

LONGEST = 4_000
"""Characters of a message; what is longer loses its middle: its beginning says where, its end what to do."""
_UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one line that names it and the remedy.

    The command-line programs print it without a traceback and exit with status 2. A message may quote a file's bytes,
    a name of somebody else's or what a library says: ends of lines in it become blanks, and characters that steer a
    terminal or are not seen are spelled.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


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


def one_line(text: str) -> str:
    """Return a text as one line of characters that are seen, shortened in the middle where it is very long."""
    lines = text.splitlines()
    text = _shortened(" ".join(line.strip() for line in lines) if len(lines) > 1 else text.rstrip("\r\n"))
    if text.isprintable():
        return text
    spelled = "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in _UNSEEN else letter
        for letter in text
    )
    return _shortened(spelled)


def _shortened(text: str) -> str:
    half = LONGEST // 2 - 10
    return text if len(text) <= LONGEST else f"{text[:half]} [...] {text[-half:]}"
