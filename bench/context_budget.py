"""Figure 4 of the paper: accuracy when the LLM's input is bounded to a budget of tokens."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.frames.context_budget import ABOUT, EXPERIMENT, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import check_llm_methods
from bench.harness.settings import Settings
from bench.harness.timing import Timing, cost_groups, efficiency_cell, run_timed
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Record
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.backbone import Backbone
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.tokens import TokenisedItems

# Run as a program this module is __main__, whose log nobody set up.
logger = logging.getLogger("bench.context_budget")

VERSION = 3
"""Of the cells that measure latency."""

METHODS = ("illmrec", "illmrec+", "tallrec", "trsr")
CONTEXTS = (256, 512, 1024, 2048, 4096)


def main(
    settings: Settings,
    *,
    timing: Timing,
    methods: tuple[str, ...] = METHODS,
    contexts: tuple[int, ...] = CONTEXTS,
) -> int:
    """Evaluate LLM methods under context budgets (Figure 4): accuracy, latency, and items and tokens that do not fit.

    Each method is trained once, without a budget, and evaluated under every one; the trained models are those of
    the comparison. What does not fit is dropped, the oldest item first. Latency is measured as bench.efficiency does,
    with the LLM that accuracy has, layers included, on users whose history has --history-length items; a prompt that
    fits into two budgets is timed once. Writes tables/context_budget.csv under --out.

    Args:
        settings: Data, model and training.
        timing: How prompts are timed.
        methods: LLM methods to evaluate.
        contexts: Budgets in tokens of the whole prompt.
    """
    names = check_llm_methods(methods, why="have prompts to bound")
    if settings.context is not None:
        raise InputError(
            f"--context {settings.context}: training has no budget here; give --contexts instead"
        )
    bench = Bench(ABOUT, settings)
    workspace, timing = bench.workspace, timing.resolved(bench.settings.preset)
    budgets = check_contexts(contexts, workspace.backbone)
    # Timed first, while this process holds nothing but the LLM.
    groups = cost_groups(workspace, timing)
    timed = measure_latency(bench, methods=names, budgets=budgets, groups=groups, timing=timing)
    trained = bench.accuracy(
        accuracy_cell(workspace, name, seed=seed, context=budget)
        for seed in bench.settings.seeds
        for name in names
        for budget in budgets
    )
    table = frame([*timed, *trained], bench.store)
    bench.write(table)
    warn_if_flat(table, length=bench.settings.history_length)
    costs = ["prompt_tokens", "dropped_items", "dropped_tokens", "latency_ms_median"]
    bench.show(
        sampled_means(table, ["method", "context"], [*costs, "hit@5", "ndcg@5", "ndcg@10"]),
        f"Context budgets on {workspace.dataset.name}, {workspace.backbone.name}",
    )
    return bench.finish()


def warn_if_flat(table: pd.DataFrame, *, length: int) -> None:
    """Log a warning where no budget drops anything: accuracy cannot depend on it then.

    Args:
        table: What :func:`~bench.frames.context_budget.frame` returns.
        length: Items of a history that are read.
    """
    if not table.empty and not (table[["dropped_items", "dropped_tokens"]].fillna(0) > 0).to_numpy().any():
        logger.warning(
            "nothing is dropped within any budget, so that Figure 4 is flat by construction: histories of"
            " --history-length %d items fit into %d tokens; raise it (50), or lower --contexts",
            length,
            table["context"].min(),
        )


def measure_latency(
    bench: Bench,
    *,
    methods: Sequence[str],
    budgets: Sequence[int],
    groups: Mapping[int, np.ndarray],
    timing: Timing,
) -> list[Record]:
    """Measure methods under every budget in turns, or find them measured: costs as those of ``bench.efficiency``.

    Args:
        bench: Data, features and LLM, without a budget, and the store.
        methods: Names of LLM methods.
        budgets: In tokens.
        groups: By length of history the users that are timed, int64 [users]; of one length.
        timing: How.
    """
    ((length, users),) = groups.items()
    cells: list[Cell] = []
    places: dict[str, Workspace] = {}
    for budget in budgets:
        place = bench.workspace.derive(variant={}, settings=replace(bench.settings, context=budget))
        for name in methods:
            cost = efficiency_cell(place, name, length, users, timing=timing)
            # Not cells of bench.efficiency: the report takes latency at full length from there (Figures 1 and 3).
            cell = replace(
                cost,
                experiment=EXPERIMENT,
                version=VERSION,
                config={**cost.config, "max_items": bench.settings.history_length},
                label=f"latency of {name} within {budget} tokens",
            )
            cells.append(cell)
            places[cell.key] = place
    return run_timed(bench, cells, lambda cell: places[cell.key])


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
