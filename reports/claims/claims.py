"""The claims of the paper with what the store says of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports.claims.claim import claims
from reports.claims.evidence import Evidence
from reports.exhibits.exhibit import Exhibit
from reports.sections.section import Section
from reports.wording.cautions import timing_notes, variant_notes
from reports.wording.tables import Column, Table
from reports.wording.wording import words

_COLUMNS = ("Claim", "Paper", "Here", "95 % interval", "Verdict")

_NUMBERS = ("estimate", "low", "high", "unit", "users")

HOLDS, FAILS, UNTESTED = "holds", "does not hold", "not tested on these data"
_COUNTED = {
    HOLDS: ("holds", "hold"),
    FAILS: ("does not hold", "do not hold"),
    UNTESTED: (f"is {UNTESTED}", f"are {UNTESTED}"),
}


def claims_exhibit(section: Section) -> Exhibit:
    """Return the claims of the paper with what a section of the store says of each."""
    tested: list[list[str]] = []
    untested: list[list[str]] = []
    data: list[dict[str, Any]] = []
    commands: dict[str, None] = {}
    verdicts: list[str] = []
    for experiment, claim in claims():
        found = claim.test(section, claim.rule)
        known = [part for part in found if part is not None]
        complete = len(known) == len(found)
        verdict = (HOLDS if all(part.holds for part in known) else FAILS) if complete else UNTESTED
        verdicts.append(verdict)
        command = "" if complete else section.command(experiment)
        printed = [claim.text, f"{claim.published} ({claim.source})"]
        if complete:
            here = ("; ".join(part.shown for part in known), "; ".join(part.interval for part in known))
            tested.append([*printed, *here, verdict])
        else:
            untested.append(printed)
            commands[command] = None
        fixed = {"claim": claim.id, "statement": claim.text, "source": claim.source, "paper": claim.published}
        judged = {"holds_if": claim.rule.words, "verdict": verdict, "command": command}
        data += [{**fixed, **_numbers(part), **judged} for part in (known if complete else [None])]
    counts = {verdict: verdicts.count(verdict) for verdict in _COUNTED}
    said = [f"{count} {_COUNTED[verdict][count != 1]}" for verdict, count in counts.items() if count]
    warnings = (
        *timing_notes(section.efficiency),
        *variant_notes(list(section.headline.values()), section.styles),
    )
    return Exhibit(
        name=f"claims{section.suffix}",
        title="Claims of the paper",
        reading=f"Of {len(verdicts)} claims {words(said)}.",
        notes=(
            "Accuracy is NDCG@10 among sampled candidates; the interval is that of the difference, a 95 % paired"
            " bootstrap over users of the mean over seeds. Of latencies the ratio is given, with its 95 % interval over"
            " repeats in which the methods took turns.",
            "Verdicts: a claim of more holds where the whole interval is above 0, so that too few users fail it; a"
            " claim of no loss or no gain holds where the interval reaches 0, so that few users cannot refute it.",
            *(note for note in dict.fromkeys(warnings) if note.startswith("Caution")),
        ),
        commands=tuple(commands),
        commands_title="Commands that fill in what is not tested" if commands else "Command",
        tables=tuple(_tables(section, tested, untested, pd.DataFrame(data))),
    )


def _tables(
    section: Section, tested: list[list[str]], untested: list[list[str]], data: pd.DataFrame
) -> Iterator[Table]:
    """Yield what was tested, with the data of all claims, whether or not any was; then the rest."""

    def table(name: str, caption: str, rows: list[list[str]], numbers: pd.DataFrame) -> Table:
        return Table(
            name=f"{name}{section.suffix}",
            caption=f"{caption}, {section.title}",
            columns=[Column(title=title, align="l") for title in _COLUMNS[: len(rows[0])]],
            rows=rows,
            data=numbers,
            wrap=True,
            folded=rows is untested,
        )

    unknown = "Claims that nothing in the store tests"
    if not tested:
        yield table("claims", unknown, untested, data)
        return
    yield table("claims", "Claims of the paper", tested, data)
    if untested:
        yield table("claims_untested", unknown, untested, data[data["verdict"] == UNTESTED])


def _numbers(part: Evidence | None) -> dict[str, Any]:
    if part is None:
        return {"here": "", "estimate": math.nan, "low": math.nan, "high": math.nan, "unit": "", "users": 0}
    return {"here": part.shown, **{name: getattr(part, name) for name in _NUMBERS}}
