"""Figure 1(b) of the paper: latency against accuracy of each representation, with the Pareto front."""

from __future__ import annotations

import sys
from dataclasses import replace

from bench.frames.costs import USER_COSTS, unknown_costs
from bench.frames.tradeoff import ABOUT, MINIMUM, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import PAPER, check_timed_methods, is_llm_method
from bench.harness.settings import Settings
from bench.harness.timing import Timing, cost_groups, efficiency_groups, time_lengths
from illmrec.command_line import run
from illmrec.errors import InputError


def main(
    settings: Settings,
    *,
    timing: Timing,
    methods: tuple[str, ...] = PAPER,
    length: int | None = None,
) -> int:
    """Put the latency of each representation beside its accuracy, with the Pareto front (Figure 1(b)).

    Both come from the same LLM, layers included: the preset small shortens it, which --layers changes for both.
    Latency is measured as bench.efficiency does, at one length of history; accuracy is that of bench.comparison. What
    either has stored for these settings is not computed again. Energy and, with --price-per-hour or --instance, money
    for 1,000 users stand beside it, as in bench.efficiency. Writes tables/tradeoff.csv under --out.

    Args:
        settings: Data, model and training.
        timing: How prompts are timed.
        methods: Two or more: representations, and any other method that is to stand beside them; "all" takes every one.
        length: Items of history |S_u| at which latency is measured; "none" takes --history-length, which accuracy
            is measured with, or as many as enough users have.
    """
    names = check_timed_methods(methods, llm=settings.llm)
    if len(names) < MINIMUM:
        raise InputError(f"--methods {','.join(names)}: a trade-off needs two methods or more")
    if not any(map(is_llm_method, names)):
        raise InputError(
            "--methods: give at least one LLM method, such as illmrec, for the others to stand beside"
        )
    read = settings.history_length if length is None else length
    if read < 1:
        raise InputError(f"--length {read}: give at least 1")
    bench = Bench(ABOUT, settings)
    workspace, timing = bench.workspace, timing.resolved(bench.settings.preset)
    if length is None:
        # That of accuracy, unless too few users have so long a history.
        ((read, users),) = cost_groups(workspace, timing).items()
        timing = replace(timing, group_users=len(users))
    groups = efficiency_groups(workspace, read, timing, option="--length")
    # Timed first, while this process holds nothing but the LLM.
    timed = time_lengths(bench, names, groups, timing=timing)
    trained = bench.accuracy(
        accuracy_cell(workspace, name, seed=seed) for seed in bench.settings.seeds for name in names
    )
    table = frame([*timed, *trained], bench.store, bench.settings.pricing())
    bench.write(table)
    costs = [name for name in USER_COSTS[2:] if name not in unknown_costs(table)]
    shown = [
        "method",
        "latency_ms_median",
        "tokens_per_item",
        *costs,
        "ndcg@10",
        "stderr_ndcg@10",
        "on_front",
    ]
    bench.show(
        table.loc[table["candidates"] == "sampled", shown],
        f"Latency at |S_u| = {read} and accuracy on {workspace.dataset.name}, {workspace.backbone.name} "
        f"({workspace.backbone.layers} layers), sampled candidates",
    )
    bench.tell_costs(timed)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.tradeoff"))
