"""Which commit of the model hub a name stood for: for the record of a result. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from illmrec.errors import InputError

_noted: dict[str, str] = {}


def split_name(name: str) -> tuple[str, str | None]:
    """Return repository and revision of ``OWNER/MODEL`` or ``OWNER/MODEL@REVISION``; a revision not named is None.

    Args:
        name: A hub id; the revision is a branch, a tag or a commit.

    Raises:
        InputError: If nothing follows the ``@``.
    """
    repository, at, revision = name.partition("@")
    if at and not revision:
        raise InputError(
            f"{name}: names no revision; give a branch, tag or commit after '@', or leave it out"
        )
    return repository, revision or None


def note(name: str, commit: str) -> None:
    """Remember which commit this process found under a name, with which results are stored.

    Args:
        name: A hub id as the user wrote it, with or without a revision.
        commit: The hub's 40 hexadecimal digits.
    """
    _noted[name] = commit


def commit_of(name: str) -> str | None:
    """Return the commit that this process found under a name, None where nothing came from the hub under it."""
    return _noted.get(name)


def pinned(name: str, commit: str | None) -> str:
    """Return a name that stands for the same model later: of a hub model, whatever revision it named, its commit."""
    return name if commit is None else f"{split_name(name)[0]}@{commit}"


def commits_in(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the commits of the hub models that a cell's configuration names, by their names.

    Args:
        config: JSON values. A model stands there under its name, or an encoder as ``OWNER/MODEL@`` and the first digits
            of its commit; prefixes such as ``random:`` may stand before it.
    """
    named = set(_texts(config))
    found = {}
    for name, commit in _noted.items():
        repository = split_name(name)[0]
        if name in named or any(
            text.startswith(f"{repository}@") and commit.startswith(text.removeprefix(f"{repository}@"))
            for text in named
        ):
            found[name] = commit
    return found


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in JSON values, without prefixes and what follows a blank."""
    if isinstance(value, str):
        yield value.partition(" ")[0].rpartition(":")[2]
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
