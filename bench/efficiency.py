"""Figures 1(a) and 3 of the paper: what a representation costs, in tokens, time, memory and FLOPs."""

from __future__ import annotations

import sys

from bench.frames.costs import unknown_costs
from bench.frames.efficiency import ABOUT, LENGTHS, SMOKE_LENGTHS, frame
from bench.harness.bench import Bench
from bench.harness.methods import PAPER, check_timed_methods
from bench.harness.settings import Settings
from bench.harness.timing import Timing, time_lengths, user_groups, usual_lengths
from illmrec.command_line import run
from illmrec.errors import InputError

LEFT_OUT = (
    "session", "repeats", "features_mb", "weights_mb", "latency_ms_p95_repeats", "watts", "energy_from",
)  # fmt: skip
"""Columns of the table that are not shown at the end."""


def main(
    settings: Settings,
    *,
    timing: Timing,
    methods: tuple[str, ...] = PAPER,
    lengths: tuple[int, ...] | None = None,
) -> int:
    """Measure what each representation costs at inference, by length of the history (Figures 1(a) and 3).

    Users are read with exactly their last |S_u| items: the same users for every method and length. Timed is everything
    from item ids to scores of the whole catalogue; features are computed before, as in the paper (E.5). All methods and
    lengths are timed in turns, one user alone (latency) and several together (users_per_second). Parameters, and the
    values of CF features, are made up: cost does not depend on them. Memory is that of a method by itself. Energy is
    read from counters where that is possible (extra energy) and else an estimate; --price-per-hour or --instance say
    what 1,000 users cost. Writes tables/efficiency.csv under --out.

    Args:
        settings: Data and model; the whole LLM unless --layers says otherwise.
        timing: How prompts are timed.
        methods: Representations to measure, or any other method ("all" takes every one): those by which the LLM writes
            the next item (lc-rec, idgenrec) are timed until a list is there, those without an LLM (sasrec, tiger,
            item-knn) until the catalogue is scored; those that have learnt a vector for each user (vbpr, bm3) look
            it up.
        lengths: Lengths of history |S_u|; "none" takes those of 2,5,10,15,20, with the preset smoke of 2,10,20, that
            enough users have.
    """
    names = check_timed_methods(methods, llm=settings.llm)
    usual = SMOKE_LENGTHS if settings.preset == "smoke" else LENGTHS
    if lengths is not None and min(lengths, default=0) < 1:
        raise InputError("--lengths: give at least 1")
    bench = Bench(ABOUT, settings, whole_llm=True)
    timing = timing.resolved(bench.settings.preset)
    if lengths is None:
        lengths = tuple(usual_lengths(bench.workspace, usual, timing))
    groups = user_groups(bench.workspace, lengths, timing)
    records = time_lengths(bench, names, groups, timing=timing)
    table = frame(records, bench.settings.pricing())
    bench.write(table)
    shown = table.drop(columns=[*LEFT_OUT, *unknown_costs(table)])
    bench.show(shown, f"Efficiency on {bench.workspace.dataset.name}, {bench.workspace.backbone.name}")
    bench.tell_costs(records)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.efficiency"))
