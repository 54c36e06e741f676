"""Claims on noise in descriptions."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from bench.frames import robustness
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import Variant, changed_pairs, variant_of
from reports.claims.evidence import Evidence, Judge, untested
from reports.claims.rules import MORE
from reports.sections.section import Section

_NOISES = {"html": "markup", "boilerplate": "boilerplate"}
"""The noise that the paper found in descriptions (Section 4.3): extraneous content, such as HTML tags."""


def _described(section: Section, judge: Judge) -> Found:
    """Compare the full description as it is with that under the noise that the paper names, at its highest level."""
    return [_cost(section, judge, kind, against_ours=False) for kind in _NOISES]


def _against_ours(section: Section, judge: Judge) -> Found:
    """Compare what that noise costs the full description with what it costs I-LLMRec."""
    return [_cost(section, judge, kind, against_ours=True) for kind in _NOISES]


def _cost(section: Section, judge: Judge, kind: str, *, against_ours: bool) -> Evidence | None:
    stored = [
        (variant["reach"] == "everything", float(variant["level"]), variant["reach"])
        for record in section.sweeps
        if (variant := variant_of(record)).get("kind") == robustness.KIND
        and variant["noise"] == kind
        and record.method == robustness.DESCRIBED
    ]
    if not stored:
        return None
    _, level, reach = max(stored)

    def matches(variant: Variant) -> bool:
        return variant.get("kind") == robustness.KIND and (
            variant["noise"],
            variant["reach"],
            float(variant["level"]),
        ) == (kind, reach, level)

    noisy, clean = changed_pairs(section, matches, method=robustness.DESCRIBED)
    noise = f"{100 * level:.0f} % {_NOISES[kind]}"
    if not against_ours:
        return judge.compare(clean, noisy, ("clean", noise))
    described = section.ranks.paired(clean, noisy, judge.candidates)
    if described is None:
        return None
    if reach != "everything":
        return untested(f"{noise}: it was in prompts alone, where I-LLMRec shows no description")
    ours = section.ranks.paired(*changed_pairs(section, matches)[::-1], judge.candidates)
    if ours is None:
        return None
    losses = pd.DataFrame(
        {"first": described["first"] - described["second"], "second": ours["first"] - ours["second"]}
    ).dropna()
    evidence = judge.pair(losses, ("full description", "I-LLMRec"))
    if evidence is None:
        return None
    means = losses.mean()
    shown = f"{noise} costs the full description {means['first']:.4f}, I-LLMRec {means['second']:.4f}"
    return replace(evidence, shown=shown)


CLAIMS = (
    Claim(
        id="noise-costs-descriptions",
        text="Noise in full descriptions, such as HTML tags, costs accuracy",
        source="Section 4.3, Figure 5",
        published="the full description below its own summary on Phone and Art",
        rule=MORE,
        test=_described,
    ),
    Claim(
        id="images-are-robust",
        text="Noise in descriptions costs the full description more than I-LLMRec",
        source="Section 4.3, Figure 5",
        published="I-LLMRec strong on all data sets",
        rule=MORE,
        test=_against_ours,
    ),
)
