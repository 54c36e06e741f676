"""The paper's central trade-off as a curve: accuracy against the tokens of an item, one image token or several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from bench.frames.tokens_per_item import ABOUT, CURVE, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import REPRESENTATIONS, check_llm_methods
from bench.harness.settings import Settings
from bench.harness.timing import Timing, cost_groups, efficiency_groups, time_lengths
from illmrec.command_line import run
from illmrec.errors import InputError

METHODS = tuple(name for name in REPRESENTATIONS if name not in CURVE.values())


def main(
    settings: Settings,
    *,
    timing: Timing,
    methods: tuple[str, ...] = METHODS,
    image_tokens: tuple[int, ...] = tuple(CURVE),
) -> int:
    """Put accuracy beside the tokens that an item takes: I-LLMRec with one to eight image tokens, and other methods.

    With one image token the LLM sees the picture's pooled feature; with more, the encoder's patches averaged over as
    many parts of the picture. What scores items is the same for all. Each method is trained as in bench.comparison and
    timed as in bench.efficiency, with the LLM that accuracy has, layers included; what either has stored is not
    computed again. Writes tables/tokens_per_item.csv under --out.

    Args:
        settings: Data, model and training.
        timing: How prompts are timed.
        methods: LLM methods beside I-LLMRec, a point each.
        image_tokens: Image tokens of I-LLMRec: some of 1, 2, 4 and 8.
    """
    curve = check_image_tokens(image_tokens)
    others = check_llm_methods(methods, why="show items in tokens") if methods else []
    names = list(dict.fromkeys([*curve, *others]))
    bench = Bench(ABOUT, settings)
    workspace, timing = bench.workspace, timing.resolved(bench.settings.preset)
    # Timed first, while this process holds nothing but the LLM.
    ((length, users),) = cost_groups(workspace, timing).items()
    timing = replace(timing, group_users=len(users))  # all that there are, where they are fewer
    groups = efficiency_groups(workspace, length, timing)
    timed = time_lengths(bench, names, groups, timing=timing)
    trained = bench.accuracy(
        accuracy_cell(workspace, name, seed=seed) for seed in bench.settings.seeds for name in names
    )
    table = frame([*timed, *trained], bench.store)
    bench.write(table)
    shown = ["method", "tokens_per_item", "prompt_tokens", "latency_ms_median", "ndcg@10", "low_ndcg@10"]
    shown += ["high_ndcg@10", "gain_ndcg@10", "low_gain_ndcg@10", "high_gain_ndcg@10", "on_front"]
    for candidates in ("sampled", "full"):
        bench.show(
            table.loc[table["candidates"] == candidates, shown],
            f"Accuracy against tokens an item on {workspace.dataset.name}, {workspace.backbone.name} "
            f"({workspace.backbone.layers} layers), {candidates} candidates",
        )
    return bench.finish()


def check_image_tokens(counts: Sequence[int]) -> list[str]:
    """Return I-LLMRec with so many image tokens, by the names of the methods, ascending.

    Raises:
        InputError: If there are fewer than two, or no such method.
    """
    for count in counts:
        if count not in CURVE:
            raise InputError(
                f"--image-tokens {count}: give some of {', '.join(map(str, CURVE))}; another number is a class of "
                "a few lines (illmrec.prompts.image_tokens) for --methods"
            )
    if len(set(counts)) < 2:
        raise InputError("--image-tokens: a curve needs two numbers or more")
    return [CURVE[count] for count in sorted(set(counts))]


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.tokens_per_item"))
