"""A statement of the paper with what decides it, and the statements in the order of their table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from reports.claims.evidence import Evidence, Judge
from reports.claims.rules import Rule
from reports.sections.section import Section

EXPERIMENTS = (
    "efficiency", "comparison", "ablation", "context_budget", "robustness", "overlap", "training_strategy",
    "missing_images", "item_popularity", "user_activity", "unseen_items", "image_quality", "backbones",
    "catalogue_growth",
)  # fmt: skip
"""Modules of this folder whose ``CLAIMS`` the table has, in its order."""

Found = Sequence[Evidence | None]
"""The comparisons that a claim stands on; None for one whose cells are not stored."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the paper.

    Attributes:
        id: Its name in the tables.
        text: The statement.
        source: Where the paper makes it.
        published: The paper's own numbers.
        rule: When a comparison bears it out.
        test: Returns the comparisons that it stands on, made by a judge.
        ranked: Whether it is about ranks, and is tested among sampled and among all candidates.
        content: Whether it is about what pictures, texts and purchases tell of items: on generated data the generator
            decides that, and it is not tested there.
    """

    id: str
    text: str
    source: str
    published: str
    rule: Rule
    test: Callable[[Section, Judge], Found]
    ranked: bool = True
    content: bool = True


@functools.cache
def claims() -> tuple[tuple[str, Claim], ...]:
    """Return the experiment that a claim needs and the claim, in the order of the table."""
    modules = {name: import_module(f"reports.claims.{name}") for name in EXPERIMENTS}
    return tuple((name, claim) for name, module in modules.items() for claim in module.CLAIMS)
