"""Appendix E.5: what is done once, extracting features and writing summaries, and when it has paid."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from bench.frames.preparation import EXPERIMENT, break_even, preparation_frame
from bench.store.cell import Record
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.paper.published import fact
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.cautions import timing_notes
from reports.wording.tables import display

_LABELS = {"image": "image features", "text": "text features", "cf": "CF features", "summary": "summaries"}
_COLUMNS = {
    "kind": "what",
    "encoder": "by",
    "items": "items",
    "seconds": "seconds in all",
    "seconds_per_item": "seconds an item",
    "device": "device",
    "threads": "threads",
    "finished": "finished",
}
_PAID = {
    "against": "against",
    "history_length": "|S_u|",
    "preparation_seconds": "preparation (s)",
    "against_preparation_seconds": "its preparation (s)",
    "latency_ms": "latency (ms a user)",
    "against_latency_ms": "its latency (ms a user)",
    "ahead_from": "ahead from request",
    "behind_from": "behind from request",
}
_MONEY = {
    "against": "against",
    "history_length": "|S_u|",
    "preparation_cost": "preparation",
    "against_preparation_cost": "its preparation",
    "cost_per_1000_users": "1,000 users",
    "against_cost_per_1000_users": "its 1,000 users",
    "cheaper_from": "cheaper from user",
    "dearer_from": "dearer from user",
}


def exhibits(section: Section) -> list[Shown]:
    """Return the times of preparation, with the requests after which that of I-LLMRec has paid."""
    title = "Appendix E.5. What is done once, and when it has paid"
    cells = section.cells(EXPERIMENT)
    frame = preparation_frame(cells).drop_duplicates("kind", keep="last")
    if frame.empty:
        return [gap(section, title, "no times of extraction for this data set", EXPERIMENT)]
    paid = break_even(frame, section.efficiency, pricing=section.pricing)
    shown = frame.assign(kind=[_LABELS[kind] for kind in frame["kind"]])
    tables = [table(section, "preparation", "Times of preparation", shown[list(_COLUMNS)], _COLUMNS)]
    if not paid.empty:
        labelled = paid.assign(against=[section.styles[other].label for other in paid["against"]])
        caption = "From which request on I-LLMRec takes less time in all, or more"
        tables.append(table(section, "break_even", caption, labelled[list(_PAID)], _PAID))
        if section.pricing.hourly is not None:
            caption = f"From which user on I-LLMRec costs less in all, or more, in {section.pricing.code}"
            tables.append(table(section, "break_even_costs", caption, labelled[list(_MONEY)], _MONEY))
    trsr, ours, features = (fact(f"sport_minutes_{part}") for part in ("trsr", "illmrec", "features"))
    return [
        Exhibit(
            name=f"preparation{section.suffix}",
            title=title,
            reading=_reading(shown, paid),
            paper=(
                f"Inference over the Sport users takes TRSR {trsr[0]:.0f} minutes and I-LLMRec {ours[0]:.0f}, with"
                f" {features[0]:.0f} more to extract the features ({trsr[1]}); how long TRSR's summaries took to write"
                " is not said."
            ),
            notes=(
                "Loading encoders and LLM is not part of it. Features that score items are the same for all methods and"
                " not counted in comparisons; a method that shows images is charged their extraction, one that shows"
                " summaries their writing. Latency is the median a user.",
                *_conditions(cells, section.efficiency if len(paid) else ()),
                *(_money_notes(section) if len(paid) else ()),
                *(timing_notes(section.efficiency) if len(paid) else ()),
            ),
            commands=commands(cells),
            tables=tuple(tables),
        )
    ]


def _reading(frame: pd.DataFrame, paid: pd.DataFrame) -> str:
    costs = "; ".join(
        f"{row['kind']} {display(float(row['seconds']))} s for {row['items']:,} items"
        for row in frame.to_dict("records")
    )
    against = paid[paid["against"] == "trsr"].sort_values("history_length")
    if against.empty:
        return f"Once: {costs}."
    row = against.iloc[-1]
    if pd.notna(row["ahead_from"]):
        since = "the first request" if row["ahead_from"] == 0 else f"{row['ahead_from']:,} requests"
        verdict = f"is ahead of TRSR from {since} on"
    else:
        since = "the first request" if row["behind_from"] <= 1 else f"{row['behind_from']:,} requests"
        verdict = f"falls behind TRSR from {since} on"
    return f"Once: {costs}. With |S_u| = {row['history_length']}, I-LLMRec, extraction counted, {verdict}."


def _money_notes(section: Section) -> tuple[str, ...]:
    """Return what the break-even in money is made of; nothing without a price."""
    if section.pricing.hourly is None:
        return ()
    return (
        f"Money is time at {section.pricing.words()}, preparation and users in batches alike; what a server asks for"
        " summaries is not known here.",
    )


def _conditions(cells: Sequence[Record], timings: Sequence[Record]) -> tuple[str, ...]:
    """Return a caution where preparation and inference were not measured on one machine and device."""
    places = {str((cell.config.get("machine"), cell.config.get("device"))) for cell in (*cells, *timings)}
    if len(places) < 2:
        return ()
    return ("Preparation and inference were measured on different machines or devices.",)
