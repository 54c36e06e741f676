"""Figure 3 of the paper with accuracy beside latency: what reading more of the history costs and brings."""

from __future__ import annotations

import logging
import shlex
import sys

import pandas as pd

from bench.accuracy import accuracy_cell, check_llm_methods, compute_accuracy
from bench.frames.sequence_length import COSTS, crossing, frame
from bench.results import build_report, print_table, write_table
from bench.runner import run_cells
from bench.settings import Settings
from bench.store import Store
from bench.workspace import Workspace
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
) -> int:
    """Evaluate LLM methods on the last n items of the history (Figure 3), with the latency of so long a prompt.

    Each method is trained once, on --history-length items, and evaluated on every length, always on the same users:
    those with at least as long a history as the longest. Latency comes from stored cells of bench.efficiency with
    the same data and LLM, layers included; where there are none, the log says how to get them. Writes
    tables/sequence_length.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to evaluate.
        lengths: Items of history to read.
        min_users: Users that are needed with so long a history as the longest length.
    """
    names = check_llm_methods(methods, why="read a prompt of bounded length")
    read = sorted(set(lengths))
    if len(read) < 2 or read[0] < 1 or min_users < 1:
        raise InputError("--lengths and --min-users: give two lengths or more, and at least 1 each")
    settings = settings.resolved()
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
    table = frame([*done.records, *store.records("efficiency")], store)
    write_table(table, store, "sequence_length")
    shown = [*COSTS, "hit@5", "ndcg@5", "hit@10", "ndcg@10"]
    mean = (
        table[table["candidates"] == "sampled"]
        .groupby(["method", "history_length"], sort=False)[shown]
        .mean()
    )
    print_table(
        mean.reset_index(), title=f"Lengths of history on {workspace.dataset.name}, {workspace.backbone.name}"
    )
    _tell_latency(mean, workspace, names, read)
    if settings.report:
        build_report(settings.out)
    return done.status


def _tell_latency(mean: pd.DataFrame, workspace: Workspace, methods: list[str], lengths: list[int]) -> None:
    """Log where I-LLMRec becomes faster than TALLRec, and the command that measures latencies that are missing."""
    latency = mean["latency_ms_median"].dropna()
    measured = latency.index.get_level_values("method").unique()
    if {"illmrec", "tallrec"} <= set(measured):
        length = crossing(latency["illmrec"], latency["tallrec"])
        where = "at no length measured" if length is None else f"from about {length:.1f} items of history on"
        logger.info("illmrec is faster than tallrec %s", where)
    if len(latency) < len(mean):
        logger.info(
            "no latency of some methods or lengths; to measure: %s", _command(workspace, methods, lengths)
        )


def _command(workspace: Workspace, methods: list[str], lengths: list[int]) -> str:
    """Return the command that measures the latency of these methods on the same data and LLM."""
    settings = workspace.settings
    options = {"dataset": settings.dataset, "preset": settings.preset, **settings.dataset_arguments()}
    del options["name"]
    options |= {
        "llm": settings.llm,
        "layers": workspace.backbone.layers,
        "dtype": settings.dtype,
        "device": settings.device,
        "vision": settings.vision,
        "context": settings.context,
        "instruction": settings.instruction,
        "methods": ",".join(methods),
        "lengths": ",".join(map(str, lengths)),
        "out": settings.out,
    }
    words = ["python", "-m", "bench.efficiency"]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.sequence_length"))
