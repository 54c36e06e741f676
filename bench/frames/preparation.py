"""What must be done once before users can be served, and after how many requests it has paid; no torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.costs import USERS, user_costs
from bench.frames.experiment import Experiment
from bench.frames.pricing import NO_PRICE, Pricing
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
    "against_latency_ms", "ahead_from", "behind_from", "preparation_cost", "against_preparation_cost",
    "cost_per_1000_users", "against_cost_per_1000_users", "currency", "cheaper_from", "dearer_from",
)  # fmt: skip

_BY_A_SERVER = " at "
"""In the name of who writes summaries at an address: what that costs is on its owner's bill, not in seconds here."""


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
    preparations: pd.DataFrame,
    efficiency: Sequence[Record],
    *,
    method: str = OURS,
    pricing: Pricing = NO_PRICE,
) -> pd.DataFrame:
    """Return from how many requests on a method is ahead of each other one, preparation and inference together.

    Args:
        preparations: Of one data set, from :func:`preparation_frame`; the newest row of a kind counts.
        efficiency: Timings of one data set, LLM and machine, one for each method and length of history.
        method: The method that is compared.
        pricing: What an hour of the machine costs.

    Returns:
        ``BREAK_EVEN``, a row for each other method and length of history. ``ahead_from``: the smallest number of
        requests from which on the method takes no more time than the other, 0 where it never takes more, missing where
        it does not stay ahead. ``behind_from``: the smallest number from which on it takes more, likewise.
        ``cheaper_from`` and ``dearer_from`` are the same of money and of users that are served in batches; they and
        the costs are missing without a price, and where a server wrote the summaries, whose price is not known.
    """
    seconds = dict(zip(preparations["kind"], preparations["seconds"].astype(float), strict=True))
    prices = {kind: pricing.cost(taken) for kind, taken in seconds.items()}
    if "encoder" in preparations:
        who = dict(zip(preparations["kind"], preparations["encoder"].astype(str), strict=True))
        if _BY_A_SERVER in who.get("summary", ""):
            prices["summary"] = math.nan
    timed: dict[tuple[str, int], Record] = {}
    for record in efficiency:
        needs = NEEDED.get(record.method)
        if needs is not None and set(needs) <= seconds.keys():
            timed[record.method, int(record.results["history_length"])] = record
    rows: list[dict[str, Any]] = []
    for (other, length), against in timed.items():
        own = timed.get((method, length))
        if other == method or own is None:
            continue
        row: dict[str, Any] = {"method": method, "against": other, "history_length": length}
        for side, name, cell in (("", method, own), ("against_", other, against)):
            row[f"{side}preparation_seconds"] = sum(seconds[kind] for kind in NEEDED[name])
            row[f"{side}latency_ms"] = float(cell.results["latency_ms_median"])
            row[f"{side}preparation_cost"] = sum(prices[kind] for kind in NEEDED[name])
            row[f"{side}cost_per_1000_users"] = user_costs(cell, pricing)["cost_per_1000_users"]
        row["ahead_from"], row["behind_from"] = crossing(
            row["preparation_seconds"] - row["against_preparation_seconds"],
            (row["against_latency_ms"] - row["latency_ms"]) / 1e3,
        )
        row["cheaper_from"], row["dearer_from"] = crossing(
            row["preparation_cost"] - row["against_preparation_cost"],
            (row["against_cost_per_1000_users"] - row["cost_per_1000_users"]) / USERS,
        )
        rows.append(row | {"currency": pricing.code})
    table = pd.DataFrame(rows, columns=list(BREAK_EVEN))
    return table.astype(dict.fromkeys(("ahead_from", "behind_from", "cheaper_from", "dearer_from"), "Int64"))


def crossing(extra: float, saved: float) -> tuple[int | None, int | None]:
    """Return from which number of requests on what is prepared longer takes no more time in all, and from which more.

    Args:
        extra: Seconds, or money, by which its preparation takes more; negative where it takes less.
        saved: What it saves on each request; negative where it takes more. Of what is not known (NaN), nothing follows.
    """
    if math.isnan(extra) or math.isnan(saved):
        return None, None
    if saved > 0:
        return max(0, math.ceil(extra / saved)), None
    if saved < 0:
        return None, max(0, math.floor(extra / saved) + 1)
    return (0, None) if extra <= 0 else (None, 0)
