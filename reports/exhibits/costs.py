"""What 1,000 recommendations cost, in energy and money, and what the experiments themselves have taken."""

from __future__ import annotations

import math

import pandas as pd

from bench.frames.costs import energy_note, unknown_costs
from bench.frames.selection import OURS
from reports.drawing.cost_figures import user_cost_figure
from reports.drawing.deferred import drawing
from reports.exhibits.exhibit import Exhibit, Shown, gap, in_order, table
from reports.sections.commands import commands
from reports.sections.section import Section
from reports.wording.cautions import timing_notes
from reports.wording.tables import display
from reports.wording.wording import label, words

_TITLE = "What 1,000 recommendations cost"
ENERGY, MONEY = "wh_per_1000_users", "cost_per_1000_users"
_COLUMNS = {
    "method": "method",
    "history_length": "|S_u|",
    "users_per_second": "users a second, in batches",
    "watts": "power (W)",
    "energy_from": "energy is",
    ENERGY: "Wh for 1,000 users",
    MONEY: "money for 1,000 users",
    "currency": "currency",
}


def exhibits(section: Section) -> list[Shown]:
    """Return energy and money of 1,000 users by method and length of history."""
    if not section.efficiency:
        return [gap(section, _TITLE, "no efficiency cells for this LLM", "efficiency")]
    timings = section.timings
    shown = [name for name in _COLUMNS if name not in unknown_costs(timings)]
    frame = in_order(timings, section, "history_length")[shown]
    drawn = MONEY if MONEY in shown else ENERGY if ENERGY in shown else ""
    unit = {MONEY: section.pricing.code, ENERGY: "Wh", "": ""}[drawn]
    looks = {"method": section.styles}
    caption = "Energy and money of 1,000 users by history length"
    return [
        Exhibit(
            name=f"figure_costs{section.suffix}",
            title=_TITLE,
            reading=_reading(section, frame, drawn, unit),
            paper="The paper tells time and memory, and no energy or money.",
            notes=(
                "1,000 users, one recommendation each from the whole catalogue, in batches on a machine that does"
                " nothing else; what is made once (features, summaries) is not in it.",
                energy_note(section.efficiency, section.pricing),
                *price_notes(section),
                *timing_notes(section.efficiency),
            ),
            commands=commands(section.efficiency),
            tables=(table(section, "figure_costs", caption, frame, _COLUMNS, looks),),
            figure=drawing(user_cost_figure, frame, section.styles, section.title, drawn, unit)
            if drawn
            else None,
            alt=_alt(section, frame, drawn, unit) if drawn else "",
        )
    ]


def price_notes(section: Section) -> tuple[str, ...]:
    """Return what money is made of, with a caution where the instance has other GPUs than what was timed."""
    pricing = section.pricing
    if pricing.hourly is None:
        return ("No price was given: python -m reports --instance NAME or --price-per-hour adds money.",)
    notes = [f"Money is time at {pricing.words()}."]
    row = pricing.row()
    machines = [record.config.get("machine") or record.machine for record in section.efficiency]
    timed = {str(name) for machine in machines for name in machine.get("gpus") or ()}
    if row is not None and machines:
        same = any(row.gpu.lower() in name.lower() for name in timed) if row.gpus else not timed
        if not same:
            has = f"{row.gpus} x {row.gpu}" if row.gpus else "no GPU"
            on = words(sorted(timed)) if timed else "CPUs"
            notes.append(
                f"Caution. Times were measured on {on}, and {row.instance} has {has}: it would take other times, so"
                " that this is no price of that instance's work."
            )
    return tuple(notes)


def _reading(section: Section, frame: pd.DataFrame, drawn: str, unit: str) -> str:
    """Return what the base method costs at the longest history, and the others relative to it."""
    if not drawn:
        return "Neither the power of this machine nor a price is known."
    longest = frame["history_length"].max()
    rows = frame[frame["history_length"] == longest].dropna(subset=[drawn]).sort_values(drawn)
    if rows.empty:
        return "Neither the power of this machine nor a price is known."
    ours = rows[rows["method"] == OURS]
    base = (ours if len(ours) else rows).iloc[0]
    also = ""
    if drawn == MONEY and ENERGY in frame and math.isfinite(base[ENERGY]):
        also = f" and {display(float(base[ENERGY]))} Wh"
    text = (
        f"At |S_u| = {longest}, 1,000 users cost {display(float(base[drawn]))} {unit}{also} with"
        f" {label(base, section.styles)}"
    )
    others = [
        f"{row[drawn] / base[drawn]:.1f} times as much with {label(row, section.styles)}"
        for row in rows.to_dict("records")
        if row["method"] != base["method"]
    ]
    return f"{text}, {words(others)}." if others else f"{text}."


def _alt(section: Section, frame: pd.DataFrame, drawn: str, unit: str) -> str:
    longest = frame["history_length"].max()
    rows = frame[frame["history_length"] == longest].dropna(subset=[drawn])
    values = [f"{label(row, section.styles)} {display(float(row[drawn]))}" for row in rows.to_dict("records")]
    return (
        f"Line chart of {unit} for 1,000 users against history length."
        f" At |S_u| = {longest}: {', '.join(values)}."
    )
