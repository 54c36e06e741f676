"""What must be done once before users can be served, and after how many requests it has paid; no torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.experiment import Experiment
from bench.frames.selection import OURS, latest
from bench.store.cell import Record

EXPERIMENT = "preparation"
VERSION = 1

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="Appendix E.5",
    question="how long features and summaries take to make, and after how many requests it has paid",
    place=200,
)

KINDS = ("image", "text", "cf", "summary")

COLUMNS = (
    "dataset", "fingerprint", "kind", "encoder", "items", "seconds", "seconds_per_item", "device", "threads",
    "finished",
)  # fmt: skip

NEEDED: Mapping[str, tuple[str, ...]] = {
    "illmrec": ("image",),
    "illmrec+": ("image", "summary"),
    "trsr": ("summary",),
    "tallrec": (),
    "full-description": (),
    "title": (),
}
"""What each method's prompts need. Features that score items (RERI) are the same for all methods and left out."""

BREAK_EVEN = (
    "method", "against", "history_length", "preparation_seconds", "against_preparation_seconds", "latency_ms",
    "against_latency_ms", "ahead_from", "behind_from",
)  # fmt: skip


def preparation_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each data set, kind and encoder, ``COLUMNS``, in the order of ``KINDS``, the newest last.

    ``items`` have a feature, or a summary that did not come with the data (short descriptions are kept and cost
    nothing); ``seconds`` are those of all of them. Device,
    threads and the time when it was finished are missing where an older version did not note them.
    """
    rows = [
        {
            "dataset": record.config["dataset"]["name"],
            "fingerprint": record.config["dataset"]["fingerprint"],
            **record.results,
        }
        for record in sorted(
            latest(records, EXPERIMENT), key=lambda cell: (KINDS.index(cell.method), cell.created)
        )
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"threads": "Int64", "items": int})


def break_even(
    preparations: pd.DataFrame, efficiency: Sequence[Record], *, method: str = OURS
) -> pd.DataFrame:
    """Return from how many requests on a method is ahead of each other one, preparation and inference together.

    Args:
        preparations: Of one data set, from :func:`preparation_frame`; the newest row of a kind counts.
        efficiency: Timings of one data set, LLM and machine, one for each method and length of history.
        method: The method that is compared.

    Returns:
        ``BREAK_EVEN``, a row for each other method and length of history. ``ahead_from``: the smallest number of
        requests from which on the method takes no more time than the other, 0 where it never takes more, missing where
        it does not stay ahead. ``behind_from``: the smallest number from which on it takes more, likewise.
    """
    seconds = dict(zip(preparations["kind"], preparations["seconds"].astype(float), strict=True))
    timed: dict[tuple[str, int], float] = {}
    for record in efficiency:
        needs = NEEDED.get(record.method)
        if needs is not None and set(needs) <= seconds.keys():
            latency = float(record.results["latency_ms_median"])
            timed[record.method, int(record.results["history_length"])] = latency
    rows: list[dict[str, Any]] = []
    for (other, length), against in timed.items():
        own = timed.get((method, length))
        if other == method or own is None:
            continue
        prepared, other_prepared = (sum(seconds[kind] for kind in NEEDED[name]) for name in (method, other))
        ahead, behind = crossing(prepared - other_prepared, (against - own) / 1e3)
        values = (method, other, length, prepared, other_prepared, own, against, ahead, behind)
        rows.append(dict(zip(BREAK_EVEN, values, strict=True)))
    table = pd.DataFrame(rows, columns=list(BREAK_EVEN))
    return table.astype({"ahead_from": "Int64", "behind_from": "Int64"})


def crossing(extra: float, saved: float) -> tuple[int | None, int | None]:
    """Return from which number of requests on what is prepared longer takes no more time in all, and from which more.

    Args:
        extra: Seconds by which its preparation is longer; negative where it is shorter.
        saved: Seconds that it saves on each request; negative where it takes longer.
    """
    if saved > 0:
        return max(0, math.ceil(extra / saved)), None
    if saved < 0:
        return None, max(0, math.floor(extra / saved) + 1)
    return (0, None) if extra <= 0 else (None, 0)
