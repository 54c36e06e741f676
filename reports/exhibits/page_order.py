"""The exhibits in the order of the page."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from reports.exhibits.exhibit import Shown
from reports.sections.section import Section

EXPERIMENTS = (
    "efficiency", "costs", "comparison", "multi_day", "beyond_accuracy", "ablation", "token_cost", "tradeoff",
    "tokens_per_item", "overlap", "sequence_length", "context_budget", "robustness", "training_strategy",
    "strategy_orders", "item_popularity", "user_activity", "unseen_items", "missing_images", "image_quality",
    "figure_types", "backbones", "catalogue_growth", "time_to_accuracy", "tune", "released_code", "power",
    "preparation",
)  # fmt: skip
"""Modules of this folder on a data set and LLM."""
WITHOUT_LLM = (
    "efficiency",
    "comparison",
    "multi_day",
    "beyond_accuracy",
    "ablation",
    "tradeoff",
    "tune",
    "power",
)
"""Those that a data set without LLM cells has."""
ENGINE = ("throughput", "serving", "scaling", "retrieval")
"""Modules of this folder on the engine, whatever the data."""
_LEADING = ("Figure 1(a). ", "Figure 1(b). ", "Figure 3. ")
"""How the titles of those begin that lead the page, in this order."""


def section_exhibits(section: Section) -> list[Shown]:
    """Return the exhibits and gaps of a section."""
    shown = _exhibits(EXPERIMENTS if section.llm else WITHOUT_LLM, section)
    places = [[item.title.startswith(title) for title in _LEADING] for item in shown]
    order = sorted(range(len(shown)), key=lambda number: places[number], reverse=True)
    return [shown[number] for number in order]


def engine_exhibits(section: Section) -> list[Shown]:
    """Return the exhibits and gaps of the engine, one for each data set, LLM and machine that it was measured on.

    Args:
        section: Of the store; its data and LLM are those that a missing benchmark should run on.
    """
    return _exhibits(ENGINE, section)


def _exhibits(experiments: Iterable[str], section: Section) -> list[Shown]:
    modules = (import_module(f"reports.exhibits.{name}") for name in experiments)
    return [item for module in modules for item in module.exhibits(section)]
