"""Claims on the accuracy of methods."""

from __future__ import annotations

import pandas as pd

from reports.claims.claim import Claim, Found
from reports.claims.comparisons import headline_records, methods
from reports.claims.evidence import Judge
from reports.claims.rules import MORE, NO_LESS, NO_MORE
from reports.claims.summarised import of_summaries
from reports.paper.published import PAPER_LLM_METHODS, gains
from reports.sections.section import Section


def _llm_over_sasrec(section: Section, judge: Judge) -> Found:
    """Compare the mean of all LLM methods with SASRec, user by user."""
    sasrec = headline_records(section, "sasrec")
    pairs = [
        both
        for entry in section.llm_methods.values()
        if (both := section.ranks.paired(entry.records, sasrec, judge.candidates)) is not None
    ]
    if not pairs:
        return [None]
    by_user = pd.concat(pairs).groupby(level=["seed", "user_id"])
    # Only runs and users whom every method ranked: each method has the same weight for each of them.
    mean = by_user.mean()[by_user.size() == len(pairs)]
    better = sum(both["first"].mean() > both["second"].mean() for both in pairs)
    names = (
        f"mean of {len(pairs)} LLM methods ({better} of them above SASRec)",
        section.styles["sasrec"].label,
    )
    return [judge.pair(mean, names)]


CLAIMS = (
    Claim(
        id="over-attributes",
        text="I-LLMRec is more accurate than TALLRec (attributes)",
        source="Table 1",
        published=gains("table1", "I-LLMRec", "TALLRec"),
        rule=MORE,
        test=methods("illmrec", "tallrec"),
    ),
    Claim(
        id="no-less-than-description",
        text="I-LLMRec is at least as accurate as TRSR (summarised descriptions)",
        source="Table 1",
        published=gains("table1", "I-LLMRec", "TRSR"),
        rule=NO_LESS,
        test=of_summaries(methods("illmrec", "trsr")),
    ),
    Claim(
        id="descriptions-add-nothing",
        text="Descriptions besides images (I-LLMRec+) add nothing to I-LLMRec",
        source="Section 4.2, Table 1",
        published=gains("table1", "I-LLMRec+", "I-LLMRec"),
        rule=NO_MORE,
        test=of_summaries(methods("illmrec+", "illmrec")),
    ),
    Claim(
        id="descriptions-over-attributes",
        text="Summarised descriptions (TRSR) say more than attributes (TALLRec)",
        source="Section 4.2, Table 1",
        published=gains("table1", "TRSR", "TALLRec"),
        rule=MORE,
        test=of_summaries(methods("trsr", "tallrec")),
    ),
    Claim(
        id="summaries-lose",
        text="A summary loses accuracy against the full description",
        source="Section 4.3, Figure 5",
        published="yes in Figure 5(a), the reverse on Phone and Art in Figure 5(b)",
        rule=MORE,
        test=of_summaries(methods("full-description", "trsr"), about_them=True),
    ),
    Claim(
        id="llm-over-sasrec",
        text="LLM-based methods beat SASRec, on average over those stored",
        source="Section 4.2, Table 1",
        published=gains("table1", PAPER_LLM_METHODS, "SASRec"),
        rule=MORE,
        test=_llm_over_sasrec,
    ),
)
