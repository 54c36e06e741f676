"""The tables of the serving experiment from its stored records; no torch here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames.experiment import Experiment
from bench.store.cell import Record

EXPERIMENT = "serving"
VERSION = 1

ABOUT = Experiment(
    name=EXPERIMENT,
    paper="",
    question="what the next recommendation costs after one more item: read on, or anew",
    place=215,
)

APPEND, ANEW = "append", "anew"
WAYS = (APPEND, ANEW)
"""The item and a branch go through the LLM, after what is kept of the history; or the whole history."""

COLUMNS = ("method", "history_length", "way", "tokens", "latency_ms_median", "latency_ms_p95", "speedup")
USERS_COLUMNS = (
    "method", "history_length", "way", "sessions", "users_per_second", "speedup", "megabytes_per_session",
)  # fmt: skip


def serving_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each method, length of history and way, ``COLUMNS``: one user who waits.

    ``speedup`` is the median latency of ``anew`` over the way's, of the same users in one run.
    """
    rows = []
    for record in records:
        alone = record.results["alone"]
        for way in WAYS:
            rows.append(
                {
                    **_of(record),
                    "way": way,
                    **alone[way],
                    "speedup": alone[ANEW]["latency_ms_median"] / alone[way]["latency_ms_median"],
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def users_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return one row for each method, length of history and way, ``USERS_COLUMNS``: many users at once.

    ``megabytes_per_session`` is what keys and values take, nothing where all is read anew.
    """
    rows = []
    for record in records:
        together = record.results["together"]
        for way in WAYS:
            rows.append(
                {
                    **_of(record),
                    "way": way,
                    "sessions": together["sessions"],
                    "users_per_second": together[way],
                    "speedup": together[way] / together[ANEW],
                    "megabytes_per_session": together["megabytes_per_session"] if way == APPEND else 0.0,
                }
            )
    return pd.DataFrame(rows, columns=list(USERS_COLUMNS))


def _of(record: Record) -> dict[str, object]:
    return {"method": record.method, "history_length": record.config["history_length"]}
