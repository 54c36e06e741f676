"""A built data set of the registry, by its name, as every experiment reads it."""

from __future__ import annotations

from typing import Any

from illmrec.data.dataset import Dataset
from illmrec.data.folder import load_folder
from illmrec.data.registry import Source
from illmrec.data.sources.places import built_folder
from illmrec.data.sources.writing import check_tables, read_note
from illmrec.errors import InputError


def load_built(source: Source, *, min_interactions: int = 5, **options: Any) -> Dataset:
    """Load a data set that ``python -m illmrec.data get`` has built.

    Args:
        source: The data set.
        min_interactions: As in :func:`illmrec.data.folder.load_folder`; not less than it was built with.
        options: Others of that function.

    Raises:
        InputError: If it was not built, or with a larger k-core.
    """
    folder = built_folder(source.name)
    note = read_note(folder)
    if note is None:
        raise InputError(
            f"{source.name}: not built yet; run: python -m illmrec.data get {source.name} (--source DIR for files "
            "that you have)"
        )
    check_tables(folder)
    built = note["options"]["min_interactions"]
    if min_interactions < built:
        raise InputError(
            f"{source.name}: built with its {built}-core; for --min-interactions {min_interactions} run: "
            f"python -m illmrec.data get {source.name} --min-interactions {min_interactions}"
        )
    return load_folder(str(folder), min_interactions=min_interactions, **options)
