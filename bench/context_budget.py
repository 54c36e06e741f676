"""Figure 4 of the paper: accuracy when the LLM's input is bounded to a budget of tokens."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from bench.accuracy import accuracy_cell, check_llm_methods, compute_accuracy
from bench.frames.context_budget import frame
from bench.results import build_report, print_table, write_table
from bench.runner import run_cells
from bench.settings import Settings
from bench.store import Store
from bench.workspace import Workspace
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.tokens import TokenisedItems

METHODS = ("illmrec", "illmrec+", "tallrec", "trsr")
CONTEXTS = (256, 512, 1024, 2048, 4096)


def main(
    settings: Settings, *, methods: tuple[str, ...] = METHODS, contexts: tuple[int, ...] = CONTEXTS
) -> int:
    """Evaluate LLM methods under context budgets (Figure 4): accuracy, and items and tokens that do not fit.

    Each method is trained once, without a budget, and evaluated under every one; the trained models are those of
    the comparison. What does not fit is dropped, the oldest item first. Latency by length of the prompt is what
    bench.efficiency measures. Writes tables/context_budget.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to evaluate.
        contexts: Budgets in tokens of the whole prompt.
    """
    names = check_llm_methods(methods, why="have prompts to bound")
    if settings.context is not None:
        raise InputError(
            f"--context {settings.context}: training has no budget here; give --contexts instead"
        )
    settings = settings.resolved()
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    budgets = check_contexts(contexts, workspace.backbone)
    cells = [
        accuracy_cell(workspace, name, seed=seed, context=budget)
        for seed in settings.seeds
        for name in names
        for budget in budgets
    ]
    done = run_cells(
        cells,
        compute_accuracy(workspace, store),
        store,
        overwrite=settings.overwrite,
        progress=settings.progress,
    )
    table = frame(done.records, store)
    write_table(table, store, "context_budget")
    shown = ["prompt_tokens", "dropped_items", "dropped_tokens", "hit@5", "ndcg@5", "hit@10", "ndcg@10"]
    sampled = table[table["candidates"] == "sampled"]
    print_table(
        sampled.groupby(["method", "context"], sort=False)[shown].mean().reset_index(),
        title=f"Context budgets on {workspace.dataset.name}, {workspace.backbone.name}",
    )
    if settings.report:
        build_report(settings.out)
    return done.status


def check_contexts(contexts: Sequence[int], backbone: Backbone) -> list[int]:
    """Return the budgets in ascending order, each once.

    Raises:
        InputError: If there is none, the LLM cannot read one, or one has no room for a token of the history.
    """
    if not contexts:
        raise InputError("--contexts: give at least one budget")
    limit = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", None)
    budgets = sorted(set(contexts))
    if limit is not None and budgets[-1] > limit:
        raise InputError(
            f"--contexts {budgets[-1]}: {backbone.name} reads at most {limit} tokens; leave that budget out"
        )
    nothing = TokenisedItems(ids=np.zeros(0, dtype=np.int32), offsets=np.zeros(1, dtype=np.int64), slots=())
    # Refused here, by the prompts' own check, rather than after training.
    PromptBuilder(items=nothing, tokenizer=backbone.tokenizer, context=budgets[0])
    return budgets


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.context_budget"))
