"""Figure 4 of the paper: accuracy when the LLM's input is bounded to a budget of tokens."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from bench.accuracy import accuracy_cell, check_llm_methods, compute_accuracy
from bench.cell import Cell, Outcome
from bench.efficiency import compute_cost, cost_groups, efficiency_cell
from bench.frames.context_budget import EXPERIMENT, frame
from bench.results import build_report, print_table, write_table
from bench.runner import Run, run_cells
from bench.settings import Settings
from bench.store import Store
from bench.workspace import Workspace
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.tokens import TokenisedItems

VERSION = 1
"""Of the cells that measure latency."""

METHODS = ("illmrec", "illmrec+", "tallrec", "trsr")
CONTEXTS = (256, 512, 1024, 2048, 4096)


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = METHODS,
    contexts: tuple[int, ...] = CONTEXTS,
    cost_users: int = 4,
    batch_users: int = 2,
    repeats: int = 3,
) -> int:
    """Evaluate LLM methods under context budgets (Figure 4): accuracy, latency, and items and tokens that do not fit.

    Each method is trained once, without a budget, and evaluated under every one; the trained models are those of
    the comparison. What does not fit is dropped, the oldest item first. Latency is measured as bench.efficiency does,
    with the LLM that accuracy has, layers included, on users whose history has --history-length items. Writes
    tables/context_budget.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to evaluate.
        contexts: Budgets in tokens of the whole prompt.
        cost_users: Users whose prompts are timed.
        batch_users: Of them in one batch.
        repeats: Timed runs over the batches, after a first batch that is not counted.
    """
    names = check_llm_methods(methods, why="have prompts to bound")
    if settings.context is not None:
        raise InputError(
            f"--context {settings.context}: training has no budget here; give --contexts instead"
        )
    if min(cost_users, batch_users, repeats) < 1:
        raise InputError("--cost-users, --batch-users and --repeats: give at least 1")
    settings = settings.resolved()
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    budgets = check_contexts(contexts, workspace.backbone)
    # Timed first, while this process holds nothing but the LLM.
    timed = measure_latency(
        workspace,
        store,
        methods=names,
        budgets=budgets,
        groups=cost_groups(workspace, cost_users),
        timing={"batch_users": batch_users, "repeats": repeats},
    )
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
    table = frame([*timed.records, *done.records], store)
    write_table(table, store, "context_budget")
    shown = [
        "prompt_tokens",
        "dropped_items",
        "dropped_tokens",
        "latency_ms_median",
        "hit@5",
        "ndcg@5",
        "ndcg@10",
    ]
    sampled = table[table["candidates"] == "sampled"]
    print_table(
        sampled.groupby(["method", "context"], sort=False)[shown].mean().reset_index(),
        title=f"Context budgets on {workspace.dataset.name}, {workspace.backbone.name}",
    )
    if settings.report:
        build_report(settings.out)
    return max(timed.status, done.status)


def measure_latency(
    workspace: Workspace,
    store: Store,
    *,
    methods: Sequence[str],
    budgets: Sequence[int],
    groups: dict[int, np.ndarray],
    timing: Mapping[str, int],
) -> Run:
    """Measure methods under every budget, or find them measured: costs as those of ``bench.efficiency``.

    Args:
        workspace: Data, features and LLM, without a budget.
        store: Where cells are kept.
        methods: Names of LLM methods.
        budgets: In tokens.
        groups: By length of history the users that are timed, int64 [users]; of one length.
        timing: ``batch_users`` and ``repeats``.
    """
    ((length, users),) = groups.items()

    def place(budget: int) -> Workspace:
        derived = workspace.derive(variant={})
        derived.settings = replace(workspace.settings, context=budget)
        return derived

    # The models of one budget at a time are kept in memory.
    @lru_cache(maxsize=1)
    def measured(budget: int) -> Callable[[Cell], Outcome]:
        return compute_cost(place(budget), groups)

    costs = [
        efficiency_cell(place(budget), name, length, users, **timing)
        for budget in budgets
        for name in methods
    ]
    return run_cells(
        [
            # Not cells of bench.efficiency: the report takes latency at full length from there (Figures 1 and 3).
            replace(
                cost,
                experiment=EXPERIMENT,
                version=VERSION,
                config={**cost.config, "max_items": workspace.settings.history_length},
                label=f"latency of {cost.method} within {cost.config['context']} tokens",
            )
            for cost in costs
        ],
        lambda cell: measured(cell.config["context"])(cell),
        store,
        overwrite=workspace.settings.overwrite,
        progress=workspace.settings.progress,
    )


def check_contexts(contexts: Sequence[int], backbone: Backbone) -> list[int]:
    """Return the budgets in ascending order, each once.

    Raises:
        InputError: If there is none, the LLM cannot read one, or one has no room for a token of the history.
    """
    if not contexts:
        raise InputError("--contexts: give at least one budget")
    limit = backbone.longest_input
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
