"""How many users and training runs a difference between two methods needs."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bench.frames.power import EXPERIMENT, NO_NUMBER, SEEDS, frame, needed_frame, spreads, stands_in
from bench.frames.selection import OURS
from bench.store.cell import Record
from reports.drawing.deferred import drawing
from reports.drawing.sweep_figures import detectable_figure
from reports.exhibits.exhibit import Exhibit, Shown, gap, table
from reports.sections.commands import commands
from reports.sections.file_names import method_suffixes
from reports.sections.methods import looks, method_styles
from reports.sections.section import Section
from reports.wording.wording import words

_USUAL = (OURS, "tallrec")
_RANKED = {"sampled": "sampled candidates", "full": "the whole catalogue"}
_LOOKS = looks(
    *(
        (str(seeds), f"{seeds} seed{'s' * (seeds > 1)}", colour, marker, line)
        for seeds, colour, marker, line in zip(
            SEEDS, ("#D55E00", "#0072B2", "#009E73"), "os^", ("-", "--", "-."), strict=True
        )
    )
)
_COLUMNS = {
    "candidates": "candidates",
    "users": "users",
    "seeds": "seeds",
    "seed_variance": "variance between seeds",
    "stderr": "standard error",
    "detectable": "detectable difference",
    "power": "probability of the wanted one",
    "enough": "enough",
}
_NEEDED = {"candidates": "candidates", "seeds": "seeds", "users_needed": "users needed"}


def exhibits(section: Section) -> list[Shown]:
    """Return what can be found of a wanted difference by users and seeds, for each two methods as last asked for."""
    title = "How many users and seeds a difference needs"
    asked = {
        (record.method, str(record.config["against"])): record
        for record in sorted(section.cells(EXPERIMENT), key=lambda record: record.created)
    }
    if not asked:
        return [gap(section, title, "no variances of differences between two methods", EXPERIMENT)]
    suffixes = method_suffixes(name for pair in asked for name in pair)
    shown: list[Shown] = []
    for pair, record in asked.items():
        suffix = (
            "" if pair == _USUAL else f"{suffixes[pair[0]] or '-illmrec'}{suffixes[pair[1]] or '-illmrec'}"
        )
        shown.append(_exhibit(replace(section, suffix=f"{suffix}{section.suffix}"), record, title))
    return shown


def _exhibit(section: Section, record: Record, title: str) -> Exhibit:
    """Return the exhibit of one cell.

    Args:
        section: The section, with a suffix of the two methods' own.
        record: The cell.
        title: What its title begins with.
    """
    plans, needed = frame([record]), needed_frame([record])
    styles = method_styles([record.method, record.config["against"], *record.config["of"]])
    first, second, *of = (
        styles[name].label for name in (record.method, record.config["against"], *record.config["of"])
    )
    difference, power = (float(record.config[name]) for name in ("difference", "power"))
    everyone, runs = int(record.results["users"]), int(record.results["runs"])
    known = spreads(record)["sampled"].runs is not None
    lines = plans.assign(series=plans["seeds"].astype(str))[["candidates", "series", "users", "detectable"]]
    panels = [
        (f"Users, {ranked}", lines[lines["candidates"] == candidates].drop(columns="candidates"))
        for candidates, ranked in _RANKED.items()
    ]
    reading = (
        f"To find a difference of {difference:g} in NDCG@10 between {first} and {second} with probability {power:g},"
        f" {_needs(needed, 'sampled')}; in the whole catalogue {_needs(needed, 'full')}."
        f" The data have {everyone:,} users."
    )
    whose = f"Variances are of the differences between {of[0]} and {of[1]}"
    if stands_in(record):
        whose += f", which stand in: no seed of both {first} and {second} was stored"
    elif known:
        whose += f" over {runs} stored seeds and {int(record.results['evaluated']):,} users"
    notes = (
        f"{whose}.",
        "Detectable is the smallest true difference that a two-sided test of level .05 finds with that probability."
        " For U users and S seeds the variance of the mean difference is u/U + s/S + e/(US): between users, between"
        " training runs, and both together.",
        *(
            ("The variance between training runs is not known: numbers are for users alone.",)
            if not known
            else (f"The variance between training runs is known from {runs} of them.",)
            if runs < 5
            else ()
        ),
    )
    caption = f"Differences between {first} and {second} that can be found"
    return Exhibit(
        name=f"figure_power{section.suffix}",
        title=f"{title}: {first} and {second}",
        reading=reading,
        notes=notes,
        commands=commands([record]),
        tables=(
            table(section, "figure_power", caption, plans[list(_COLUMNS)], _COLUMNS),
            table(section, "table_power_needed", f"Users needed, {first} and {second}", needed, _NEEDED),
        ),
        figure=drawing(
            detectable_figure, panels, _LOOKS, section.title, wanted=difference, everyone=everyone
        ),
        alt=f"Line charts of the detectable difference against users. {reading}",
    )


def _needs(needed: pd.DataFrame, candidates: str) -> str:
    """Return how many users each number of seeds needs, in words."""
    parts = []
    for row in needed[needed["candidates"] == candidates].to_dict("records"):
        users = row["users_needed"]
        seeds = f"{row['seeds']} seed{'s' * (row['seeds'] > 1)}"
        count = users if users == NO_NUMBER else f"{int(users):,} users"
        parts.append(f"{seeds} need{'s' * (row['seeds'] == 1)} {count}")
    return words(parts)
