"""The claims of the paper as checkable statements, each with the comparisons that test it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from reports.claims.grounds import (
    Grounds,
    accuracy_of_methods,
    accuracy_of_rows,
    latency,
    llm_over_sasrec,
    missing_images,
    rows_for_users,
    within_context,
)
from reports.claims.sweep_grounds import (
    image_over_cf_by_length,
    image_quality_cost,
    larger_llm,
    noise_cost,
    older_model,
    own_description,
    siglip_over_clip,
    strategies,
)
from reports.evidence.evidence import (
    COMPARABLE,
    MORE,
    NO_LESS,
    NO_MORE,
    WITHIN_5_PERCENT,
    WITHIN_25_PERCENT,
    Evidence,
)
from reports.paper.published import PAPER_LLM_METHODS, fact, gains
from reports.sections.results import FEATURES


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


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Return the claims in the order of the table."""
    speedup, speed_source = fact("speedup_over_description")
    attributes, attributes_source = fact("attributes_speedup_over_description")
    overlap, overlap_source = fact("similarity_amazon")
    unrelated, _ = fact("similarity_coco_unrelated")
    unseen = {name: fact(f"unseen_hit5_{name}")[0] for name in ("sport", "art")}
    accuracy = {"experiment": "comparison"}
    ablation = {"experiment": "ablation", "holds_if": MORE.words}
    every = {"experiment": "efficiency", "holds_if": "the whole interval reaches the ratio"}
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
            test=partial(
                within_context, first=("illmrec", 256), second=("illmrec", 4096), rule=WITHIN_5_PERCENT
            ),
        ),
        Claim(
            id="summaries-need-context",
            text="Summaries (TRSR) lose accuracy within 256 tokens against 4096",
            source="Section 4.3, Figure 4",
            published="a sharp decline below 512 tokens",
            holds_if=MORE.words,
            experiment="context_budget",
            test=partial(within_context, first=("trsr", 4096), second=("trsr", 256), rule=MORE),
        ),
        Claim(
            id="small-context-over-attributes",
            text="Within 256 tokens I-LLMRec is more accurate than TALLRec, which is stable but lower",
            source="Section 4.3, Figure 4",
            published="TALLRec below I-LLMRec at 256 tokens",
            holds_if=MORE.words,
            experiment="context_budget",
            test=partial(within_context, first=("illmrec", 256), second=("tallrec", 256), rule=MORE),
        ),
        Claim(
            id="noise-costs-descriptions",
            text="Noise in full descriptions, such as HTML tags, costs accuracy",
            source="Section 4.3, Figure 5",
            published="the full description below its own summary on Phone and Art",
            holds_if=MORE.words,
            experiment="robustness",
            test=partial(noise_cost, against=False),
        ),
        Claim(
            id="images-are-robust",
            text="Noise in descriptions costs the full description more than I-LLMRec",
            source="Section 4.3, Figure 5",
            published="I-LLMRec strong on all data sets",
            holds_if=MORE.words,
            experiment="robustness",
            test=partial(noise_cost, against=True),
        ),
        Claim(
            id="overlap",
            text="A picture is closer to its own item's description than to another's",
            source=overlap_source,
            published=f"mean cosine {overlap:g}; unrelated pairs of COCO {unrelated:g}",
            holds_if=MORE.words,
            experiment="overlap",
            test=own_description,
        ),
        Claim(
            id="lora-gains",
            text="Fine-tuning the LLM with LoRA is more accurate than leaving it frozen",
            source="Appendix D.2, Table 3",
            published=gains("table3", "LoRA", "LLM frozen"),
            holds_if=MORE.words,
            experiment="training_strategy",
            test=partial(strategies, strategy="lora", rule=MORE),
        ),
        Claim(
            id="two-stages-gain-nothing",
            text="Training in two stages is comparable to training RISA and RERI together",
            source="Appendix E.10, Table 10",
            published=gains("table10", "Stage1+Stage2", "End-to-End"),
            holds_if=COMPARABLE.words,
            experiment="training_strategy",
            test=partial(strategies, strategy="two-stage", rule=COMPARABLE),
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
            test=partial(rows_for_users, rows=("b", "c"), kept=lambda targets: targets["item_group"] <= 2),
        ),
        Claim(
            id="warm-items",
            text="For the warmest fifth of the items CF features beat image features: row (c) over (b)",
            source="Section 4.4, Figure 6",
            published="CF above image in group 5",
            holds_if=MORE.words,
            experiment="item_popularity",
            test=partial(rows_for_users, rows=("c", "b"), kept=lambda targets: targets["item_group"] == 5),
        ),
        Claim(
            id="every-length-of-history",
            text="Image features beat CF features in each fifth of the users by length of history: row (b) over (c)",
            source="Appendix E.7, Figure 11",
            published="image above CF in all five groups",
            holds_if=MORE.words,
            experiment="user_activity",
            test=image_over_cf_by_length,
        ),
        Claim(
            id="unseen-items",
            text="For items not in training image features are above CF features: row (b) over (c)",
            source="Appendix E.6",
            published=f"Hit@5 {unseen['sport']} on Sport and {unseen['art']} on Art against near zero",
            holds_if=MORE.words,
            experiment="unseen_items",
            test=partial(
                rows_for_users, rows=("b", "c"), kept=lambda targets: targets["target_frequency"] == 0
            ),
        ),
        Claim(
            id="low-quality-alone",
            text="With image features alone, pictures of low quality cost accuracy: row (b) over (a) of Table 9",
            source="Appendix E.9, Table 9",
            published=gains("table9", "b", "a"),
            holds_if=MORE.words,
            experiment="image_quality",
            test=partial(image_quality_cost, features=("image",), rule=MORE, worse_first=False),
        ),
        Claim(
            id="low-quality-beside-others",
            text="Beside CF and text features low quality costs at most 5 %: row (c) against (d) of Table 9",
            source="Appendix E.9, Table 9",
            published=gains("table9", "c", "d"),
            holds_if=WITHIN_5_PERCENT.words,
            experiment="image_quality",
            test=partial(image_quality_cost, features=FEATURES, rule=WITHIN_5_PERCENT, worse_first=True),
        ),
        Claim(
            id="larger-llm",
            text="A larger LLM is more accurate with the same vision encoder",
            source="Appendix E.12, Table 11",
            published="; ".join(
                f"{gains('table11', 'Vicuna 1.5-7B', 'LLaMA-2.7B', {'vision': vision})} with {vision}"
                for vision in ("SigLIP", "CLIP")
            ),
            holds_if=MORE.words,
            experiment="backbones",
            test=larger_llm,
        ),
        Claim(
            id="siglip-over-clip",
            text="SigLIP is more accurate than CLIP as vision encoder with the same LLM",
            source="Appendix E.12, Table 11",
            published="; ".join(
                f"{gains('table11', 'SigLIP', 'CLIP', {'llm': llm})} with {llm}"
                for llm in ("LLaMA-2.7B", "Vicuna 1.5-7B")
            ),
            holds_if=MORE.words,
            experiment="backbones",
            test=siglip_over_clip,
        ),
        Claim(
            id="older-models-serve",
            text="As the catalogue grows, the model of the size before keeps three quarters of the accuracy",
            source="Appendix E.13",
            published=_kept_by_older_models(),
            holds_if=WITHIN_25_PERCENT.words,
            experiment="catalogue_growth",
            test=older_model,
        ),
    )


def _kept_by_older_models() -> str:
    """Return what models of a smaller Phone catalogue lose against those trained for the larger one."""
    changes = []
    for smaller, larger in (("5k", "10k"), ("10k", "15k"), ("15k", "20k")):
        older, retrained = (
            fact(f"catalogue_performance_{name}")[0] for name in (f"{smaller}_to_{larger}", larger)
        )
        changes.append(
            f"−{100 * (1 - older / retrained):.1f} % from {smaller.upper()} to {larger.upper()} items"
        )
    return "; ".join(changes)
