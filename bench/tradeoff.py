"""Figure 1(b) of the paper: latency against accuracy of each representation, with the Pareto front."""

from __future__ import annotations

import sys

import numpy as np

from bench import efficiency
from bench.frames.tradeoff import MINIMUM, frame
from bench.harness.accuracy import accuracy_cell, compute_accuracy
from bench.harness.methods import REPRESENTATIONS, check_llm_methods
from bench.harness.runner import run_cells
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.results import build_report, print_table, write_table
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = tuple(REPRESENTATIONS),
    length: int | None = None,
    group_users: int | None = None,
    batch_users: int | None = None,
    repeats: int | None = None,
) -> int:
    """Put the latency of each representation beside its accuracy, with the Pareto front (Figure 1(b)).

    Both come from the same LLM, layers included: the preset small shortens it, which --layers changes for both.
    Latency is measured as bench.efficiency does, at one length of history; accuracy is that of bench.comparison. What
    either has stored for these settings is not computed again. Writes tables/tradeoff.csv under --out.

    Args:
        settings: Data, model and training.
        methods: Representations to compare, two or more.
        length: Items of history |S_u| at which latency is measured; "none" takes --history-length, which accuracy
            is measured with.
        group_users: Users whose latency is measured; "none" takes 20, and 4 with the preset smoke.
        batch_users: Of them in a batch, for throughput; "none" takes 4, and 2 with the preset smoke.
        repeats: Times that everything is run, in an order drawn anew each time; "none" takes 3, for smoke 2.
    """
    names = check_llm_methods(methods, why="have prompts to measure")
    if len(names) < MINIMUM:
        raise InputError(f"--methods {','.join(names)}: a trade-off needs two methods or more")
    settings = settings.resolved()
    read = settings.history_length if length is None else length
    if read < 1:
        raise InputError(f"--length {read}: give at least 1")
    timing = efficiency.Timing(group_users=group_users, batch_users=batch_users, repeats=repeats)
    timing = timing.resolved(settings.preset)
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    # Timed first, while this process holds nothing but the LLM.
    groups = timed_users(workspace, read, timing)
    timed = efficiency.time_lengths(workspace, names, groups, store, timing=timing)
    trained = run_cells(
        [accuracy_cell(workspace, name, seed=seed) for seed in settings.seeds for name in names],
        compute_accuracy(workspace, store),
        store,
        overwrite=settings.overwrite,
        progress=settings.progress,
    )
    table = frame([*timed.records, *trained.records], store)
    write_table(table, store, "tradeoff")
    shown = ["method", "latency_ms_median", "tokens_per_item", "ndcg@10", "stderr_ndcg@10", "on_front"]
    print_table(
        table.loc[table["candidates"] == "sampled", shown],
        title=f"Latency at |S_u| = {read} and accuracy on {workspace.dataset.name}, {workspace.backbone.name} "
        f"({workspace.backbone.layers} layers), sampled candidates",
    )
    if settings.report:
        build_report(settings.out)
    return max(timed.status, trained.status)


def timed_users(workspace: Workspace, length: int, timing: efficiency.Timing) -> dict[int, np.ndarray]:
    """Return the users that ``bench.efficiency`` draws for a length, by length: int64 [group_users].

    Where too few have a history of its longest length, users with as long a one as is wanted.
    """
    history_lengths = workspace.dataset.lengths - 1
    drawn = [
        other for other in efficiency.LENGTHS if (history_lengths >= other).sum() >= (timing.group_users or 1)
    ]
    return {length: efficiency.user_groups(workspace, [*drawn, length], timing)[length]}


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.tradeoff"))
