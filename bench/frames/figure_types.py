"""Appendix E.11 of the paper: items in the histories of users that a method serves well and badly; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import IDENTITY, identity, latest
from bench.store.cell import Record
from bench.store.store import Store

EXPERIMENT = "figure_types"

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="Appendix E.11",
    question="what the pictures in hit and in missed histories show",
    place=190,
)

GROUPS = ("hit", "missed")

COLUMNS = (
    *IDENTITY, "method", "seed", "candidates", "cutoff", "group", "users", "place", "item_id", "title",
    "occurrences", "frequency", "other_frequency", "lift", "image",
)  # fmt: skip

THUMBNAIL_COLUMNS = ("fingerprint", "item_id", "png")


def frame(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return one row per cell, group of users and place: the items that are most frequent in the group's histories.

    Args:
        records: Cells, of any experiment; those of the figure types are picked, the newest for each data set, LLM,
            method and seed.
        store: The store that holds them.

    Returns:
        ``COLUMNS``: group is hit (the target is among the first ``cutoff`` candidates) or missed, users its size; place
        starts at 1; occurrences counts the item in the group's histories, as far as the method reads them, frequency
        divides them by users; other_frequency is that of the other group, and lift frequency over other_frequency,
        missing where the item is in no history of the other group. title is a user's text, to be escaped. image says
        whether ``thumbnails`` has a picture.
    """
    tables = [
        store.read_frame(record, "items").assign(
            **identity(record),
            method=record.method,
            seed=record.seed,
            candidates=record.config["candidates"],
            cutoff=record.config["cutoff"],
        )
        for record in _newest(records)
    ]
    if not tables:
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]


def thumbnails(records: Sequence[Record], store: Store) -> pd.DataFrame:
    """Return small pictures of the items of ``frame``, each once.

    Returns:
        ``THUMBNAIL_COLUMNS``: png holds the bytes of a PNG file. Items without an image are not listed.
    """
    tables = [
        store.read_frame(record, "thumbnails").assign(fingerprint=record.config["dataset"]["fingerprint"])
        for record in _newest(records)
    ]
    if not tables:
        return pd.DataFrame(columns=list(THUMBNAIL_COLUMNS))
    table = pd.concat(tables, ignore_index=True)[list(THUMBNAIL_COLUMNS)]
    return table.drop_duplicates(["fingerprint", "item_id"], ignore_index=True)


def _newest(records: Sequence[Record]) -> list[Record]:
    newest: dict[tuple[object, ...], Record] = {}
    for record in latest(records, EXPERIMENT):
        key = (*identity(record).values(), record.method, record.seed)
        if key not in newest or record.created >= newest[key].created:
            newest[key] = record
    return list(newest.values())
