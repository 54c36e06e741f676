"""Figure 4 of the paper: accuracy when the LLM's input is bounded to a budget of tokens."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.efficiency import Timing, cost_groups, efficiency_cell, run_timed
from bench.frames.context_budget import EXPERIMENT, frame
from bench.harness.accuracy import accuracy_cell, compute_accuracy
from bench.harness.methods import check_llm_methods
from bench.harness.runner import Run, run_cells
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell
from bench.store.results import build_report, print_table, write_table
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.tokens import TokenisedItems

VERSION = 2
"""Of the cells that measure latency."""

METHODS = ("illmrec", "illmrec+", "tallrec", "trsr")
CONTEXTS = (256, 512, 1024, 2048, 4096)


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = METHODS,
    contexts: tuple[int, ...] = CONTEXTS,
    group_users: int | None = None,
    batch_users: int | None = None,
    repeats: int | None = None,
) -> int:
    """Evaluate LLM methods under context budgets (Figure 4): accuracy, latency, and items and tokens that do not fit.

    Each method is trained once, without a budget, and evaluated under every one; the trained models are those of
    the comparison. What does not fit is dropped, the oldest item first. Latency is measured as bench.efficiency does,
    with the LLM that accuracy has, layers included, on users whose history has --history-length items; a prompt that
    fits into two budgets is timed once. Writes tables/context_budget.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to evaluate.
        contexts: Budgets in tokens of the whole prompt.
        group_users: Users whose prompts are timed; "none" takes 20, and 4 with the preset smoke.
        batch_users: Of them in a batch, for throughput; "none" takes 4, and 2 with the preset smoke.
        repeats: Times that everything is run, in an order drawn anew each time; "none" takes 3, for smoke 2.
    """
    names = check_llm_methods(methods, why="have prompts to bound")
    if settings.context is not None:
        raise InputError(
            f"--context {settings.context}: training has no budget here; give --contexts instead"
        )
    settings = settings.resolved()
    timing = Timing(group_users=group_users, batch_users=batch_users, repeats=repeats).resolved(
        settings.preset
    )
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
        groups=cost_groups(workspace, timing),
        timing=timing,
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
    groups: Mapping[int, np.ndarray],
    timing: Timing,
) -> Run:
    """Measure methods under every budget in turns, or find them measured: costs as those of ``bench.efficiency``.

    Args:
        workspace: Data, features and LLM, without a budget.
        store: Where cells are kept.
        methods: Names of LLM methods.
        budgets: In tokens.
        groups: By length of history the users that are timed, int64 [users]; of one length.
        timing: How.
    """
    ((length, users),) = groups.items()
    cells: list[Cell] = []
    places: dict[str, Workspace] = {}
    for budget in budgets:
        place = workspace.derive(variant={})
        place.settings = replace(workspace.settings, context=budget)
        for name in methods:
            cost = efficiency_cell(place, name, length, users, timing=timing)
            # Not cells of bench.efficiency: the report takes latency at full length from there (Figures 1 and 3).
            cell = replace(
                cost,
                experiment=EXPERIMENT,
                version=VERSION,
                config={**cost.config, "max_items": workspace.settings.history_length},
                label=f"latency of {name} within {budget} tokens",
            )
            cells.append(cell)
            places[cell.key] = place
    return run_timed(cells, lambda cell: places[cell.key], store, settings=workspace.settings)


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
