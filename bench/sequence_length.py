"""Figure 3 of the paper with accuracy beside latency: what reading more of the history costs and brings."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import pandas as pd

from bench.frames.sequence_length import ABOUT, COSTS, crossing, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import check_llm_methods
from bench.harness.settings import Settings
from bench.harness.timing import Timing, time_lengths, user_groups, usual_lengths
from illmrec.command_line import run
from illmrec.errors import InputError

# Run as a program this module is __main__, whose log nobody set up.
logger = logging.getLogger("bench.sequence_length")

METHODS = ("illmrec", "illmrec+", "tallrec", "trsr")
LENGTHS, SMOKE_LENGTHS = (2, 5, 10, 15, 20), (2, 10, 20)


def main(
    settings: Settings,
    *,
    timing: Timing,
    methods: tuple[str, ...] = METHODS,
    lengths: tuple[int, ...] | None = None,
    min_users: int = 10,
) -> int:
    """Evaluate LLM methods on the last n items of the history (Figure 3), with the latency of so long a prompt.

    Each method is trained once, on --history-length items, and evaluated on every length, always on the same users:
    those with at least as long a history as the longest. Latency is measured as bench.efficiency does, with the LLM
    that accuracy has, layers included; the length from which on I-LLMRec is faster than TALLRec is logged. Writes
    tables/sequence_length.csv under --out.

    Args:
        settings: Data, model and training.
        timing: How prompts are timed.
        methods: LLM methods to evaluate.
        lengths: Items of history to read; "none" takes those of 2,5,10,15,20, with the preset smoke of 2,10,20, that
            enough users have.
        min_users: Users that are needed with so long a history as the longest length.
    """
    names = check_llm_methods(methods, why="read a prompt of bounded length")
    read = sorted(set(lengths or ()))
    if min_users < 1 or (lengths is not None and (len(read) < 2 or read[0] < 1)):
        raise InputError("--lengths and --min-users: give two lengths or more, and at least 1 each")
    bench = Bench(ABOUT, settings)
    workspace, settings = bench.workspace, bench.settings
    timing = timing.resolved(settings.preset)
    if lengths is None:
        usual = SMOKE_LENGTHS if settings.preset == "smoke" else LENGTHS
        read = usual_lengths(workspace, usual, timing, least=2, fewest=min_users)
    for seed in settings.seeds:
        enough = int((workspace.split.history_lengths("test")[workspace.users(seed)] >= read[-1]).sum())
        if enough < min_users:
            raise InputError(
                f"--lengths {read[-1]}: {enough} evaluated users of {workspace.dataset.name} have so long a "
                f"history and {min_users} are needed; leave that length out{' or lower --min-users' if enough else ''}"
            )
    warn_if_longer(read, trained=settings.history_length)
    # Timed first, while this process holds nothing but the LLM.
    timed = time_lengths(bench, names, user_groups(workspace, read, timing), timing=timing)
    trained = bench.accuracy(
        # At the length of training this is the cell of the comparison.
        accuracy_cell(
            workspace, name, seed=seed, history_length=None if length == settings.history_length else length
        )
        for seed in settings.seeds
        for name in names
        for length in read
    )
    table = frame([*timed, *trained], bench.store)
    bench.write(table)
    shown = [*(name for name in COSTS if name != "session"), "hit@5", "ndcg@5", "hit@10", "ndcg@10"]
    mean = sampled_means(table, ["method", "history_length"], shown)
    bench.show(mean, f"Lengths of history on {workspace.dataset.name}, {workspace.backbone.name}")
    _tell_crossing(mean.set_index(["method", "history_length"])["latency_ms_median"])
    return bench.finish()


def warn_if_longer(lengths: Sequence[int], *, trained: int) -> None:
    """Log a warning where models are evaluated on longer histories than they were trained on."""
    if max(lengths) > trained:
        logger.warning(
            "models are trained on the last %d items and evaluated on up to %d: what longer histories bring is not"
            " learnt; raise --history-length, to 50 where memory allows",
            trained,
            max(lengths),
        )


def _tell_crossing(latency: pd.Series) -> None:
    """Log where I-LLMRec becomes faster than TALLRec, if both were measured; latency is by method and length."""
    if {"illmrec", "tallrec"} <= set(latency.index.get_level_values("method")):
        length = crossing(latency["illmrec"], latency["tallrec"])
        where = "at no length measured" if length is None else f"from about {length:.1f} items of history on"
        logger.info("illmrec is faster than tallrec %s", where)


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.sequence_length"))
