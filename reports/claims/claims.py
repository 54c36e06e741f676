"""The claims of the paper with what the store says of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.protocol.statistics import holm
from reports.claims.claim import Claim, claims
from reports.claims.evidence import Evidence, Judge
from reports.claims.rules import (
    BORNE_OUT,
    CONTRADICTED,
    DEPENDS,
    MARGIN,
    MORE,
    UNDECIDED,
    UNTESTED,
    UNTRAINED,
    over_candidates,
    together,
)
from reports.exhibits.exhibit import Exhibit
from reports.sections.section import Section
from reports.wording.cautions import timing_notes, variant_notes
from reports.wording.tables import Column, Table
from reports.wording.wording import words

_COLUMNS = ("Claim", "Paper", "Here", "95 % interval", "Verdict")

_NUMBERS = ("estimate", "low", "high", "unit", "users", "seeds", "p_value", "detectable")

_COUNTED = {
    BORNE_OUT: "borne out",
    CONTRADICTED: "contradicted",
    DEPENDS: "decided otherwise among sampled than among all candidates",
    UNDECIDED: "undecided",
    UNTRAINED: "of methods that are not trained far enough",
    UNTESTED: "not tested on these data",
}
_KINDS = {"sampled": "sampled", "full": "all"}
_LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """A claim with its comparisons, by kind of candidates; those of latencies have one kind, without a name."""

    experiment: str
    claim: Claim
    found: dict[str, list[Evidence | None]]

    @property
    def known(self) -> dict[str, list[Evidence]]:
        return {
            kind: [part for part in parts if part is not None and part.shown]
            for kind, parts in self.found.items()
        }

    def judged(self, section: Section) -> tuple[str, str]:
        """Return the verdict, and why it is none."""
        if self.claim.content and section.generated:
            return UNTESTED, "generated data: the generator decides it"
        verdicts: dict[str, str] = {}
        reasons: dict[str, None] = {}
        for kind, parts in self.found.items():
            given = [UNTESTED if part is None else part.verdict for part in parts]
            verdicts[kind] = together(given)
            reasons |= {part.reason: None for part in parts if part is not None and part.reason}
        verdict, disagreed = over_candidates(verdicts)
        told = [disagreed, *reasons] if verdict != BORNE_OUT else []
        return verdict, "; ".join(part for part in told if part)


def claims_exhibit(section: Section) -> Exhibit:
    """Return the claims of the paper with what a section of the store says of each."""
    tested: list[list[str]] = []
    untested: list[list[str]] = []
    data: list[dict[str, Any]] = []
    commands: dict[str, None] = {}
    verdicts: list[str] = []
    all_tested = [_test(section, experiment, claim) for experiment, claim in claims()]
    _adjust_by_holm(all_tested)
    for one in all_tested:
        claim, (verdict, reason) = one.claim, one.judged(section)
        verdicts.append(verdict)
        missing = any(part is None for parts in one.found.values() for part in parts)
        command = section.command(one.experiment) if missing else ""
        printed = [claim.text, f"{claim.published} ({claim.source})"]
        known = {kind: parts for kind, parts in one.known.items() if parts and not missing}
        if known:
            tested.append(
                [*printed, *_numbers_in_words(known), f"{verdict} ({reason})" if reason else verdict]
            )
        else:
            untested.append([*printed, reason])
            if command:
                commands[command] = None
        fixed = {"claim": claim.id, "statement": claim.text, "source": claim.source, "paper": claim.published}
        judged = {"holds_if": claim.rule.words, "verdict": verdict, "reason": reason, "command": command}
        rows: list[tuple[str, Evidence | None]] = [("", None)]
        if known:
            rows = [(kind, part) for kind, parts in known.items() for part in parts]
        data += [{**fixed, "candidates": kind, **_numbers(part), **judged} for kind, part in rows]
    counts = {verdict: verdicts.count(verdict) for verdict in _COUNTED}
    said = [f"{count} {'is' if count == 1 else 'are'} {_COUNTED[v]}" for v, count in counts.items() if count]
    warnings = (
        *timing_notes(section.efficiency),
        *variant_notes(list(section.headline.values()), section.styles),
    )
    return Exhibit(
        name=f"claims{section.suffix}",
        title="Claims of the paper",
        reading=f"Of {len(verdicts)} claims {words(said)}.",
        notes=(
            "Accuracy is NDCG@10, among sampled and among all candidates; intervals are of the difference, by a paired"
            " bootstrap over training runs and users, as wide as Student's t has them of so few runs (90 % where a"
            " margin is claimed, which is two one-sided tests at 5 %). Of latencies the ratio is given, with its 95 %"
            " interval over repeats in which the methods took turns.",
            "Verdicts: a claim is borne out where the whole interval lies where it says, contradicted where it lies"
            " outside, else undecided; of differences, p values are adjusted for the number of claims (Holm). “No"
            f" less”, “no more” and “comparable” mean by {100 * MARGIN:g} %. There is no verdict from one training run"
            " or two, for methods below the best floor, or of what the generator of generated data decides.",
            *_detectable(all_tested),
            *(note for note in dict.fromkeys(warnings) if note.startswith("Caution")),
        ),
        commands=tuple(commands),
        commands_title="Commands that fill in what is not tested" if commands else "Command",
        tables=tuple(_tables(section, tested, untested, pd.DataFrame(data))),
    )


def _test(section: Section, experiment: str, claim: Claim) -> _Tested:
    kinds = tuple(_KINDS) if claim.ranked else ("",)
    found = {
        kind: list(claim.test(section, Judge(section=section, rule=claim.rule, candidates=kind)))
        for kind in kinds
    }
    return _Tested(experiment=experiment, claim=claim, found=found)


def _adjust_by_holm(tested: Sequence[_Tested]) -> None:
    """Take back verdicts on differences that do not stand after adjusting p values for their number, in place.

    Every comparison of a difference counts, those without a verdict as well.
    """
    for kind in _KINDS:
        asked = [
            (one.found[kind], place, part)
            for one in tested
            if one.claim.rule is MORE and kind in one.found
            for place, part in enumerate(one.found[kind])
            if part is not None and math.isfinite(part.p_value)
        ]
        for (parts, place, part), p in zip(asked, holm([part.p_value for *_, part in asked]), strict=True):
            if p >= _LEVEL and part.verdict in (BORNE_OUT, CONTRADICTED):
                reason = f"p = {p:.2f} after Holm's adjustment"
                parts[place] = replace(part, verdict=UNDECIDED, reason=reason)


def _numbers_in_words(known: dict[str, list[Evidence]]) -> tuple[str, str]:
    """Return what was found and the intervals, each kind of candidates by its name."""

    def said(values: Callable[[Evidence], str]) -> str:
        parts = {kind: "; ".join(values(part) for part in parts) for kind, parts in known.items()}
        return ". ".join(f"{_KINDS[kind]}: {text}" if kind else text for kind, text in parts.items())

    return said(lambda part: part.shown), said(lambda part: part.interval)


def _detectable(tested: Sequence[_Tested]) -> Iterator[str]:
    """Yield how small a difference these comparisons could have found."""
    found = [
        part.detectable
        for one in tested
        for part in one.known.get("full", ())
        if math.isfinite(part.detectable) and part.users
    ]
    if found:
        least = f"from {min(found):.4f} to {max(found):.4f}" if len(found) > 1 else f"{found[0]:.4f}"
        yield (
            "The smallest true differences of NDCG@10 among all candidates that these comparisons find four times in"
            f" five: {least} (column detectable). bench.power says before a run what one needs."
        )


def _columns(rows: list[list[str]]) -> tuple[str, ...]:
    return _COLUMNS if len(rows[0]) == len(_COLUMNS) else ("Claim", "Paper", "Why")


def _tables(
    section: Section, tested: list[list[str]], untested: list[list[str]], data: pd.DataFrame
) -> Iterator[Table]:
    """Yield what was tested, with the data of all claims, whether or not any was; then the rest."""

    def table(name: str, caption: str, rows: list[list[str]], numbers: pd.DataFrame) -> Table:
        return Table(
            name=f"{name}{section.suffix}",
            caption=f"{caption}, {section.title}",
            columns=[Column(title=title, align="l") for title in _columns(rows)],
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
        yield table("claims_untested", unknown, untested, data[data["here"] == ""])


def _numbers(part: Evidence | None) -> dict[str, Any]:
    if part is None:
        nothing = {name: math.nan for name in _NUMBERS}
        return {"here": "", **nothing, "unit": "", "users": 0, "seeds": 0}
    return {"here": part.shown, **{name: getattr(part, name) for name in _NUMBERS}}
