"""Claims on training strategies."""

from __future__ import annotations

from bench.frames.training_strategy import FROZEN, KIND
from reports.claims.claim import Claim, Found
from reports.claims.comparisons import Test, Variant, changed_pairs
from reports.claims.evidence import Judge
from reports.claims.rules import COMPARABLE, MORE
from reports.exhibits.training_strategy import STRATEGY_LOOKS
from reports.paper.published import gains
from reports.sections.section import Section


def _against_frozen(strategy: str) -> Test:
    """Compare a training strategy with the frozen LLM."""

    def matches(variant: Variant) -> bool:
        return variant.get("kind") == KIND and variant.get("strategy") == strategy

    def test(section: Section, judge: Judge) -> Found:
        names = (STRATEGY_LOOKS[strategy].label, STRATEGY_LOOKS[FROZEN].label)
        return [judge.compare(*changed_pairs(section, matches), names)]

    return test


CLAIMS = (
    Claim(
        id="lora-gains",
        text="Fine-tuning the LLM with LoRA is more accurate than leaving it frozen",
        source="Appendix D.2, Table 3",
        published=gains("table3", "LoRA", "LLM frozen"),
        rule=MORE,
        test=_against_frozen("lora"),
        content=False,
    ),
    Claim(
        id="two-stages-gain-nothing",
        text="Training in two stages is comparable to training RISA and RERI together",
        source="Appendix E.10, Table 10",
        published=gains("table10", "Stage1+Stage2", "End-to-End"),
        rule=COMPARABLE,
        test=_against_frozen("two-stage"),
        content=False,
    ),
)
