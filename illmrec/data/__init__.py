"""Data: sources, the Dataset they give, its split and its candidates. Nothing here imports torch."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from illmrec.data.dataset import ITEM_COLUMNS, Dataset, ImageSource, TestTargets
from illmrec.data.splits import SplitKind, split_at_times
from illmrec.data.time_resolution import TimeResolution
from illmrec.errors import InputError
from illmrec.files import is_folder

if TYPE_CHECKING:
    from illmrec.data.registry import Source

__all__ = ["ITEM_COLUMNS", "SOURCES", "Dataset", "ImageSource", "load_dataset"]

SOURCES = {
    "toyshop": "illmrec.data.toyshop:load_toyshop",
    "folder": "illmrec.data.folder:load_folder",
}
"""Where each source's loader is; imported when it is asked for."""

BUILT = "illmrec.data.sources.loading:load_built"
"""The loader of data sets that the registry knows by name."""


def load_dataset(
    name: str,
    *,
    max_users: int | None = None,
    min_interactions: int = 5,
    seed: int = 0,
    users: int | None = None,
    items: int | None = None,
    overlap: float | None = None,
    split: SplitKind = "leave-one-out",
    test_targets: TestTargets = "next",
    duplicates: Literal["drop", "keep"] = "drop",
    ties: Literal["table", "drawn"] = "table",
    time_resolution: TimeResolution = "auto",
    broken_images: Literal["missing", "stop"] = "stop",
) -> Dataset:
    """Load a data set by name.

    Args:
        name: ``toyshop``, the generated catalogue; ``folder:PATH``, a folder with items.*, interactions.* (parquet, csv
            or jsonl) and images (a folder ``images``, ``images.zip`` or ``images.tar``; may be absent); or a name of
            the registry, such as ``amazon18-art``, which ``python -m illmrec.data get`` has built.
        max_users: Keep a random sample of this many users, drawn after the k-core; the catalogue stays whole.
        min_interactions: The k of the iterative k-core on users and items.
        seed: Of the sample of users and, for ``toyshop``, of everything it generates.
        users: toyshop only: number of users (600).
        items: toyshop only: number of items (400).
        overlap: toyshop only: share of what the description says that the picture shows, 0 to 1 (0.8).
        split: ``leave-one-out``, or ``global-time``: the same moments split all users, where 80 and 90 % of the
            interactions are past (:func:`illmrec.data.splits.split_at_times`).
        test_targets: With ``global-time``: the ``next`` item after the second moment, or each item of the ``day`` (UTC)
            on which that one came.
        duplicates: What becomes of rows equal in user, item and time: ``drop`` all but one, or ``keep`` them.
        ties: The order of a user's interactions at the same time, or on the same day where times tell no more: that of
            the ``table``, or ``drawn`` by seed.
        time_resolution: Whether times are ``exact``, or tell the ``day`` alone; ``auto`` finds out.
        broken_images: Whether pictures that cannot be decoded count as ``missing``, or ``stop`` who reads them.

    Raises:
        InputError: If the name is unknown, an option does not fit the source, or the data cannot be used.
    """
    if test_targets == "day" and split != "global-time":
        raise InputError(
            "--test-targets day: needs --split global-time; of a leave-one-out split the last item is tested"
        )
    source, _, argument = name.partition(":")
    published = None if source in SOURCES else _published(name)
    if seed < 0:
        raise InputError(f"seed is {seed}: give 0 or more")
    options = {"users": users, "items": items, "overlap": overlap}
    given = {option: value for option, value in options.items() if value is not None}
    if source == "toyshop":
        if argument:
            raise InputError(
                f"unknown data set {name!r}: toyshop takes options (users, items, overlap), not a path"
            )
    elif given:
        raise InputError(f"{', '.join(given)}: only toyshop is generated to size, not {name!r}; leave it out")
    module, _, function = SOURCES.get(source, BUILT).partition(":")
    load = getattr(import_module(module), function)
    shared = {"max_users": max_users, "min_interactions": min_interactions, "seed": seed}
    if source == "toyshop":  # which has neither duplicates nor ties
        dataset: Dataset = load(**shared, **given)
    else:
        place = argument if published is None else published
        order = {"duplicates": duplicates, "ties": ties, "time_resolution": time_resolution}
        dataset = load(place, **shared, **order, broken_images=broken_images)
    return dataset if split == "leave-one-out" else split_at_times(dataset, test_targets=test_targets)


def _published(name: str) -> Source:
    """Return a data set of the registry.

    Raises:
        InputError: If there is none of that name.
    """
    from illmrec.data.registry import registry  # which reads files

    known = registry()
    if name not in known:
        source = name.partition(":")[0].lower()
        close = difflib.get_close_matches(source, ["folder:PATH", "toyshop", *known], n=1, cutoff=0.5)
        meant = f"folder:{name}" if is_folder(Path(name).expanduser()) else next(iter(close), "")
        hint = f"did you mean '{meant}'? " if meant else ""
        raise InputError(
            f"unknown data set {name!r}: {hint}valid: folder:PATH, toyshop, and what python -m illmrec.data list names"
        )
    return known[name]
