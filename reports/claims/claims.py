"""The claims of the paper with what the store says of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.store.cell import Record
from reports.claims.grounds import Grounds
from reports.claims.paper_claims import claims
from reports.evidence.evidence import Evidence
from reports.evidence.paired import Ranks
from reports.exhibits.exhibits import Exhibit
from reports.sections.methods import MethodStyle
from reports.sections.results import Section
from reports.wording.origins import fill_command, timing_notes, variant_notes
from reports.wording.tables import Column, Table
from reports.wording.wording import words

_COLUMNS = ("Claim", "Paper", "Here", "95 % interval", "Verdict")

HOLDS, FAILS, UNTESTED = "holds", "does not hold", "not tested on these data"


def claims_exhibit(
    section: Section,
    records: Sequence[Record],
    styles: Mapping[str, MethodStyle],
    suffix: str,
    ranks: Ranks,
) -> Exhibit:
    """Return the claims of the paper with what a section of the store says of each.

    Args:
        section: What the store holds on one data set and LLM.
        records: All cells of the store: some say how popular the test items are.
        styles: Look of each method of the store.
        suffix: Ending of the file names, which tells sections apart.
        ranks: The stored ranks.
    """
    grounds = Grounds(section=section, records=records, ranks=ranks, styles=styles)
    tested_rows: list[list[str]] = []
    untested_rows: list[list[str]] = []
    data: list[dict[str, Any]] = []
    commands: dict[str, None] = {}
    verdicts: list[str] = []
    for claim in claims():
        parts = claim.test(grounds)
        found = [part for part in parts if part is not None]
        tested = len(found) == len(parts)
        verdict = (HOLDS if all(part.holds for part in found) else FAILS) if tested else UNTESTED
        command = "" if tested else fill_command(claim.experiment, section)
        if command:
            commands[command] = None
        verdicts.append(verdict)
        shown = found if tested else []
        lines: list[Evidence | None] = [*shown] or [None]
        printed = [claim.text, f"{claim.published} ({claim.source})"]
        if tested:
            here = ["; ".join(part.shown for part in shown), "; ".join(part.interval for part in shown)]
            tested_rows.append([*printed, *here, verdict])
        else:
            untested_rows.append(printed)
        fixed = {"claim": claim.id, "statement": claim.text, "source": claim.source, "paper": claim.published}
        for part in lines:
            judged = {"holds_if": claim.holds_if, "verdict": verdict, "command": command}
            data.append({**fixed, **_numbers(part), **judged})
    counts = [(verdict, verdicts.count(verdict)) for verdict in (HOLDS, FAILS, UNTESTED)]
    sentences = {HOLDS: ("holds", "hold"), FAILS: ("does not hold", "do not hold")}
    said = [
        f"{count} {sentences.get(verdict, (f'is {verdict}', f'are {verdict}'))[count != 1]}"
        for verdict, count in counts
        if count
    ]
    warnings = [
        *timing_notes(section.efficiency),
        *variant_notes(list(grounds.headline.values()), styles),
    ]
    return Exhibit(
        name=f"claims{suffix}",
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
        # The first table's data are all claims, whether or not any was tested.
        tables=tuple(
            Table(
                name=name,
                caption=f"{caption}, {section.title}",
                columns=[Column(title=title, align="l") for title in columns],
                rows=shown,
                data=table,
                wrap=True,
                folded=shown is untested_rows,
            )
            for name, caption, columns, shown, table in _tables(suffix, tested_rows, untested_rows, data)
        ),
    )


def _tables(
    suffix: str, tested: list[list[str]], untested: list[list[str]], data: list[dict[str, Any]]
) -> Iterator[tuple[str, str, tuple[str, ...], list[list[str]], pd.DataFrame]]:
    """Yield name, caption, columns, rows and data: first what was tested, with the data of all; then the rest."""
    frame = pd.DataFrame(data)
    unknown = "Claims that nothing in the store tests"
    if not tested:
        yield f"claims{suffix}", unknown, _COLUMNS[:2], untested, frame
        return
    yield f"claims{suffix}", "Claims of the paper", _COLUMNS, tested, frame
    if untested:
        yield f"claims_untested{suffix}", unknown, _COLUMNS[:2], untested, frame[frame["verdict"] == UNTESTED]


def _numbers(part: Evidence | None) -> dict[str, Any]:
    if part is None:
        return {"here": "", "estimate": math.nan, "low": math.nan, "high": math.nan, "unit": "", "users": 0}
    return {
        "here": part.shown,
        "estimate": part.estimate,
        "low": part.low,
        "high": part.high,
        "unit": part.unit,
        "users": part.users,
    }
