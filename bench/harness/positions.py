"""What the LLM's positions have no room for: prompts of trained methods in tokens, and what is dropped of histories."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.harness.methods import WRITERS
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Record
from illmrec.data.splits import Part
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.packing import PromptBuilder

logger = logging.getLogger(__name__)


def prompt_costs(
    model: ILLMRec, workspace: Workspace, users: np.ndarray, *, part: Part = "test"
) -> dict[str, float]:
    """Return per user, on average: tokens of the prompt, and items and tokens that the context had no room for.

    Args:
        model: Whose prompts.
        workspace: Histories.
        users: Int [users], who has a target in that part.
        part: Of the test, or of validation.
    """
    histories = [workspace.split.history(int(user), part) for user in users]
    return costs_of(model.prompts, histories, max_items=model.history_length)


def costs_of(
    prompts: PromptBuilder, histories: Sequence[np.ndarray], *, max_items: int | None = None
) -> dict[str, float]:
    """Return what prompts of histories take on average: tokens, dropped_items and dropped_tokens."""
    fitted = [prompts.fit(history, max_items=max_items) for history in histories]
    return {
        "tokens": float(prompts.token_counts(fitted).mean()),
        "dropped_items": float(np.mean([f.dropped_items for f in fitted])),
        "dropped_tokens": float(np.mean([f.dropped_tokens for f in fitted])),
    }


def warn_of_dropped(cell: Cell | Record, costs: Mapping[str, Any], *, workspace: Workspace) -> None:
    """Log a warning, once for each method, where the LLM's positions cut histories and nobody asked for a budget.

    Args:
        cell: What is computed, or was.
        costs: dropped_items and dropped_tokens, means over users; nothing where the LLM reads no prompt.
        workspace: Its LLM, and the methods of which it was said.
    """
    config = cell.config
    asked = config.get("context") or (config.get("evaluation") or {}).get("context")
    items, tokens = (float(costs.get(name) or 0) for name in ("dropped_items", "dropped_tokens"))
    if asked or not (items or tokens) or cell.method in workspace.told_dropped:
        return
    workspace.told_dropped.add(cell.method)
    # Methods that write items may be bounded by less than the positions: by where the LLM stretches them.
    limit = None if cell.method in WRITERS else workspace.backbone.longest_input
    said = f"{_mean(items)} of {config['history_length']} items" if items else f"{_mean(tokens)} tokens"
    logger.warning(
        "%s: %s on average do not fit the LLM's %spositions; the oldest are dropped",
        cell.method,
        said,
        "" if limit is None else f"{limit} ",
    )


def _mean(value: float) -> str:
    """Return a mean in words: a small one is not rounded to nothing."""
    return f"{value:.1f}" if value >= 0.1 else f"{value:.1g}"
