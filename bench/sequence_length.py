"""Figure 3 of the paper with accuracy beside latency: what reading more of the history costs and brings."""

from __future__ import annotations

import logging
import sys

import pandas as pd

from bench.efficiency import Timing, time_lengths, user_groups
from bench.frames.sequence_length import COSTS, crossing, frame
from bench.harness.accuracy import accuracy_cell, compute_accuracy
from bench.harness.methods import check_llm_methods
from bench.harness.runner import run_cells
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.results import build_report, print_table, write_table
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError

# Run as a program this module is __main__, whose log nobody set up.
logger = logging.getLogger("bench.sequence_length")

METHODS = ("illmrec", "illmrec+", "tallrec", "trsr")
LENGTHS = (2, 5, 10, 15, 20)


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = METHODS,
    lengths: tuple[int, ...] = LENGTHS,
    min_users: int = 10,
    group_users: int | None = None,
    batch_users: int | None = None,
    repeats: int | None = None,
) -> int:
    """Evaluate LLM methods on the last n items of the history (Figure 3), with the latency of so long a prompt.

    Each method is trained once, on --history-length items, and evaluated on every length, always on the same users:
    those with at least as long a history as the longest. Latency is measured as bench.efficiency does, with the LLM
    that accuracy has, layers included; the length from which on I-LLMRec is faster than TALLRec is logged. Writes
    tables/sequence_length.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to evaluate.
        lengths: Items of history to read.
        min_users: Users that are needed with so long a history as the longest length.
        group_users: Users whose prompts are timed, the same at each length; "none" takes 20, with the preset smoke 4.
        batch_users: Of them in a batch, for throughput; "none" takes 4, and 2 with the preset smoke.
        repeats: Times that everything is run, in an order drawn anew each time; "none" takes 3, for smoke 2.
    """
    names = check_llm_methods(methods, why="read a prompt of bounded length")
    read = sorted(set(lengths))
    if len(read) < 2 or read[0] < 1 or min_users < 1:
        raise InputError("--lengths and --min-users: give two lengths or more, and at least 1 each")
    settings = settings.resolved()
    timing = Timing(group_users=group_users, batch_users=batch_users, repeats=repeats).resolved(
        settings.preset
    )
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    for seed in settings.seeds:
        enough = int((workspace.dataset.lengths[workspace.users(seed)] - 1 >= read[-1]).sum())
        if enough < min_users:
            raise InputError(
                f"--lengths {read[-1]}: {enough} evaluated users of {workspace.dataset.name} have so long a "
                f"history and {min_users} are needed; leave that length out or lower --min-users"
            )
    # Timed first, while this process holds nothing but the LLM.
    timed = time_lengths(workspace, names, user_groups(workspace, read, timing), store, timing=timing)
    cells = [
        # At the length of training this is the cell of the comparison.
        accuracy_cell(
            workspace, name, seed=seed, history_length=None if length == settings.history_length else length
        )
        for seed in settings.seeds
        for name in names
        for length in read
    ]
    done = run_cells(
        cells,
        compute_accuracy(workspace, store),
        store,
        overwrite=settings.overwrite,
        progress=settings.progress,
    )
    table = frame([*timed.records, *done.records], store)
    write_table(table, store, "sequence_length")
    shown = [*(name for name in COSTS if name != "session"), "hit@5", "ndcg@5", "hit@10", "ndcg@10"]
    mean = (
        table[table["candidates"] == "sampled"]
        .groupby(["method", "history_length"], sort=False)[shown]
        .mean()
    )
    print_table(
        mean.reset_index(), title=f"Lengths of history on {workspace.dataset.name}, {workspace.backbone.name}"
    )
    _tell_crossing(mean["latency_ms_median"])
    if settings.report:
        build_report(settings.out)
    return max(timed.status, done.status)


def _tell_crossing(latency: pd.Series) -> None:
    """Log where I-LLMRec becomes faster than TALLRec, if both were measured; latency is by method and length."""
    if {"illmrec", "tallrec"} <= set(latency.index.get_level_values("method")):
        length = crossing(latency["illmrec"], latency["tallrec"])
        where = "at no length measured" if length is None else f"from about {length:.1f} items of history on"
        logger.info("illmrec is faster than tallrec %s", where)


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.sequence_length"))
