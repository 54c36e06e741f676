"""Claims on budgets of tokens."""

from __future__ import annotations

from bench.frames.context_budget import budget
from bench.frames.selection import METHOD_OPTIONS, comparable
from bench.store.cell import Record
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import Test, variant_of
from reports.claims.evidence import Judge, untested
from reports.claims.rules import MORE, NO_LESS
from reports.claims.summarised import of_summaries
from reports.sections.section import FEATURES, Section


def _budgets(first: tuple[str, int], second: tuple[str, int]) -> Test:
    """Compare models within budgets of tokens, those that a sweep over the context evaluated.

    Args:
        first: Method and budget.
        second: Method and budget of the other side.
    """

    def test(section: Section, judge: Judge) -> Found:
        limited = [
            record
            for record in section.sweeps
            if record.config.get("risa")
            and record.config.get("features") == list(FEATURES)
            and not variant_of(record)
            and "context" in record.config["evaluation"]
            and "history_length" not in record.config["evaluation"]
        ]
        chosen = comparable(limited, ignored=METHOD_OPTIONS, point=budget)
        sides = [
            [record for record in chosen if (record.method, budget(record)) == side]
            for side in (first, second)
        ]
        if not all(sides):
            return [None]
        left, right = (
            f"{section.styles[method].label} in {tokens}" if first[0] != second[0] else f"{tokens} tokens"
            for method, tokens in (first, second)
        )
        if first[0] == second[0] and not any(map(_drops, (*sides[0], *sides[1]))):
            return [untested("nothing is dropped at either budget")]
        return [judge.compare(sides[0], sides[1], (left, right))]

    return test


def _drops(record: Record) -> bool:
    """Tell whether prompts of a cell were cut to the budget; cells of before do not say."""
    prompt = record.results.get("prompt") or {}
    return bool(prompt.get("dropped_items", 1) or prompt.get("dropped_tokens", 1))


CLAIMS = (
    Claim(
        id="small-context",
        text="I-LLMRec's accuracy at 256 tokens is within 5 % of that at 4096",
        source="Section 4.3, Figure 4",
        published="stable down to 256 tokens",
        rule=NO_LESS,
        test=_budgets(("illmrec", 256), ("illmrec", 4096)),
        content=False,
    ),
    Claim(
        id="summaries-need-context",
        text="Summaries (TRSR) lose accuracy within 256 tokens against 4096",
        source="Section 4.3, Figure 4",
        published="a sharp decline below 512 tokens",
        rule=MORE,
        test=of_summaries(_budgets(("trsr", 4096), ("trsr", 256)), about_them=True),
        content=False,
    ),
    Claim(
        id="small-context-over-attributes",
        text="Within 256 tokens I-LLMRec is more accurate than TALLRec, which is stable but lower",
        source="Section 4.3, Figure 4",
        published="TALLRec below I-LLMRec at 256 tokens",
        rule=MORE,
        test=_budgets(("illmrec", 256), ("tallrec", 256)),
    ),
)
