"""The claims of the paper as checkable statements, each with what the store says of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from bench.cell import Record
from reports.evidence import MORE, NO_LESS, NO_MORE, WITHIN_5_PERCENT, Evidence
from reports.exhibits import Exhibit
from reports.grounds import (
    Grounds,
    accuracy_of_methods,
    accuracy_of_rows,
    image_over_cf,
    latency,
    llm_over_sasrec,
    missing_images,
    small_context,
)
from reports.methods import MethodStyle
from reports.origins import fill_command, timing_notes, variant_notes
from reports.paired import Ranks
from reports.published import PAPER_LLM_METHODS, fact, gains
from reports.results import Section
from reports.tables import MISSING, Column, Table
from reports.wording import words

HOLDS, FAILS, UNTESTED = "holds", "does not hold", "not tested on these data"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper.

    Attributes:
        id: Its name in the tables.
        text: The statement.
        source: Where the paper makes it.
        published: The paper's own numbers.
        holds_if: The condition on the interval.
        experiment: The experiment whose cells it needs.
        test: Returns the comparisons that it stands on; None for one whose cells are not stored.
    """

    id: str
    text: str
    source: str
    published: str
    holds_if: str
    experiment: str
    test: Callable[[Grounds], list[Evidence | None]]


def claims() -> tuple[Claim, ...]:
    """Return the claims in the order of the table."""
    speedup, speed_source = fact("speedup_over_description")
    attributes, attributes_source = fact("attributes_speedup_over_description")
    unseen = {name: fact(f"unseen_hit5_{name}")[0] for name in ("sport", "art")}
    accuracy = {"experiment": "comparison"}
    ablation = {"experiment": "ablation", "holds_if": MORE.words}
    every = {"experiment": "efficiency", "holds_if": "every repeat reaches the ratio"}
    return (
        Claim(
            id="speed-over-description",
            text="I-LLMRec is at least 2.5 times as fast as the description-based approach (TRSR)",
            source=speed_source,
            published=f"{speedup:g} times",
            test=partial(latency, slow="trsr", fast="illmrec", least=2.5),
            **every,
        ),
        Claim(
            id="speed-of-attributes",
            text="The attribute-based approach (TALLRec) is at least 2.5 times as fast as the description-based one",
            source=attributes_source,
            published=f"more than {attributes:g} times",
            test=partial(latency, slow="trsr", fast="tallrec", least=attributes),
            **every,
        ),
        Claim(
            id="cheaper-at-long-histories",
            text="At long histories one image token is cheaper than attributes (TALLRec)",
            source="Section 4.3, Figure 3",
            published="TALLRec rises slowly and ends above I-LLMRec",
            test=partial(latency, slow="tallrec", fast="illmrec", least=1.0, longest=True),
            **every,
        ),
        Claim(
            id="over-attributes",
            text="I-LLMRec is more accurate than TALLRec (attributes)",
            source="Table 1",
            published=gains("table1", "I-LLMRec", "TALLRec"),
            holds_if=MORE.words,
            test=partial(accuracy_of_methods, first="illmrec", second="tallrec", rule=MORE),
            **accuracy,
        ),
        Claim(
            id="no-less-than-description",
            text="I-LLMRec is at least as accurate as TRSR (summarised descriptions)",
            source="Table 1",
            published=gains("table1", "I-LLMRec", "TRSR"),
            holds_if=NO_LESS.words,
            test=partial(accuracy_of_methods, first="illmrec", second="trsr", rule=NO_LESS),
            **accuracy,
        ),
        Claim(
            id="descriptions-add-nothing",
            text="Descriptions besides images (I-LLMRec+) add nothing to I-LLMRec",
            source="Section 4.2, Table 1",
            published=gains("table1", "I-LLMRec+", "I-LLMRec"),
            holds_if=NO_MORE.words,
            test=partial(accuracy_of_methods, first="illmrec+", second="illmrec", rule=NO_MORE),
            **accuracy,
        ),
        Claim(
            id="descriptions-over-attributes",
            text="Summarised descriptions (TRSR) say more than attributes (TALLRec)",
            source="Section 4.2, Table 1",
            published=gains("table1", "TRSR", "TALLRec"),
            holds_if=MORE.words,
            test=partial(accuracy_of_methods, first="trsr", second="tallrec", rule=MORE),
            **accuracy,
        ),
        Claim(
            id="summaries-lose",
            text="A summary loses accuracy against the full description",
            source="Section 4.3, Figure 5",
            published="yes in Figure 5(a), the reverse on Phone and Art in Figure 5(b)",
            holds_if=MORE.words,
            test=partial(accuracy_of_methods, first="full-description", second="trsr", rule=MORE),
            **accuracy,
        ),
        Claim(
            id="llm-over-sasrec",
            text="LLM-based methods beat SASRec, on average over those stored",
            source="Section 4.2, Table 1",
            published=gains("table1", PAPER_LLM_METHODS, "SASRec"),
            holds_if=MORE.words,
            test=llm_over_sasrec,
            **accuracy,
        ),
        Claim(
            id="risa",
            text="RISA improves accuracy: row (b) over (a)",
            source="Section 4.4, Table 2",
            published=gains("table2", "b", "a"),
            test=partial(accuracy_of_rows, pairs=(("b", "a"),)),
            **ablation,
        ),
        Claim(
            id="image-and-cf",
            text="Image and CF features together are better than either: row (d) over (b) and over (c)",
            source="Section 4.4, Table 2",
            published=f"{gains('table2', 'd', 'b')}; {gains('table2', 'd', 'c')}",
            test=partial(accuracy_of_rows, pairs=(("d", "b"), ("d", "c"))),
            **ablation,
        ),
        Claim(
            id="all-three-features",
            text="All three feature types are best: row (e) over (d)",
            source="Section 4.4, Table 2",
            published=gains("table2", "e", "d"),
            test=partial(accuracy_of_rows, pairs=(("e", "d"),)),
            **ablation,
        ),
        Claim(
            id="small-context",
            text="I-LLMRec's accuracy at 256 tokens is within 5 % of that at 4096",
            source="Section 4.3, Figure 4",
            published="stable down to 256 tokens",
            holds_if=WITHIN_5_PERCENT.words,
            experiment="context_budget",
            test=small_context,
        ),
        Claim(
            id="half-of-the-images",
            text="With 50 % of the images missing I-LLMRec still beats TRSR",
            source="Appendix E.8, Table 8",
            published=gains("table8", "I-LLMRec", "TRSR"),
            holds_if=MORE.words,
            experiment="missing_images",
            test=missing_images,
        ),
        Claim(
            id="cold-items",
            text="For cold items, the coldest two fifths, image features beat CF features: row (b) over (c)",
            source="Section 4.4, Figure 6",
            published="image above CF in the lower groups",
            holds_if=MORE.words,
            experiment="item_popularity",
            test=partial(image_over_cf, kept=lambda targets: targets["item_group"] <= 2),
        ),
        Claim(
            id="unseen-items",
            text="For items not in training image features are above CF features: row (b) over (c)",
            source="Appendix E.6",
            published=f"Hit@5 {unseen['sport']} on Sport and {unseen['art']} on Art against near zero",
            holds_if=MORE.words,
            experiment="unseen_items",
            test=partial(image_over_cf, kept=lambda targets: targets["target_frequency"] == 0),
        ),
    )


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
    rows: list[list[str]] = []
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
        rows.append(
            [
                claim.text,
                f"{claim.published} ({claim.source})",
                "; ".join(part.shown for part in shown) or MISSING,
                "; ".join(part.interval for part in shown) or MISSING,
                verdict,
            ]
        )
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
            " bootstrap over users of the mean over seeds. Of latencies the ratio is given, from its lowest to its"
            " highest repeat.",
            "Verdicts: a claim of more holds where the whole interval is above 0, so that too few users fail it; a"
            " claim of no loss or no gain holds where the interval reaches 0, so that few users cannot refute it.",
            *(note for note in dict.fromkeys(warnings) if note.startswith("Caution")),
        ),
        commands=tuple(commands),
        commands_title="Commands that fill in what is not tested" if commands else "Command",
        tables=(
            Table(
                name=f"claims{suffix}",
                caption=f"Claims of the paper, {section.title}",
                columns=[
                    Column(title=title, align="l")
                    for title in ("Claim", "Paper", "Here", "95 % interval", "Verdict")
                ],
                rows=rows,
                data=pd.DataFrame(data),
                wrap=True,
            ),
        ),
    )


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
