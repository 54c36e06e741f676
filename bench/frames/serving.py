"""The tables of serving: what the next recommendation costs after one more item, alone and many at once; no torch."""

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
    question="the next recommendation after one more item: a session against encoding anew",
    place=215,
)

LENGTHS, SMOKE_LENGTHS = (5, 10, 20), (2, 4)
"""Items of history, the appended one included."""
SESSIONS, SMOKE_SESSIONS = (1, 8, 32), (1, 4)
"""Sessions that are asked for at once."""

WAYS = ("append", "anew")

COLUMNS = ("method", "history_length", "way", "tokens", "latency_ms_median", "latency_ms_p95", "speedup")
LOAD_COLUMNS = ("method", "history_length", "sessions", "way", "users_per_second", "speedup", "kept_mb")


def is_load(record: Record) -> bool:
    """Return whether a record is of many sessions at once."""
    return record.config["sessions"] is not None


def serving_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return two rows for each method and length, ``COLUMNS``: one more item in a session, and the history anew.

    ``tokens`` go through the LLM, the prompts' common prefix left out, which is run once. ``speedup`` is the ratio of
    median latencies over those of ``anew``.
    """
    rows = []
    for record in records:
        if is_load(record):
            continue
        ways = record.results["ways"]
        for way in WAYS:
            speedup = ways["anew"]["latency_ms_median"] / ways[way]["latency_ms_median"]
            rows.append({**_of(record), "way": way, **ways[way], "speedup": speedup})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def load_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return two rows for each method and number of sessions, ``LOAD_COLUMNS``.

    ``kept_mb`` are the keys and values of all sessions, in 10^6 bytes; encoding anew keeps none.
    """
    rows = []
    for record in records:
        if not is_load(record):
            continue
        ways, sessions = record.results["ways"], record.config["sessions"]
        for way in WAYS:
            pace = ways[way]["users_per_second"]
            kept = record.results["kept_mb"] if way == "append" else 0.0
            rows.append(
                {
                    **_of(record),
                    "sessions": sessions,
                    "way": way,
                    "users_per_second": pace,
                    "speedup": pace / ways["anew"]["users_per_second"],
                    "kept_mb": kept,
                }
            )
    return pd.DataFrame(rows, columns=list(LOAD_COLUMNS))


def _of(record: Record) -> dict[str, object]:
    return {"method": record.method, "history_length": record.config["history_length"]}
