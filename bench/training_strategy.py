"""Tables 3 and 10 of the paper: what is gained by training the LLM too, or by training in two stages."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.changes.changed_images import images_of
from bench.frames.training_strategy import ABOUT, FROZEN, KIND, STRATEGIES, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench, sampled_means
from bench.harness.methods import FEATURES, check_features, check_llm_methods
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.tuning import LORA_ALPHA, LORA_RANK, Strategy
from illmrec.training import TrainingOptions

logger = logging.getLogger(__name__)


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = ("illmrec",),
    features: tuple[str, ...] = FEATURES,
    strategies: tuple[Strategy, ...] | None = None,
    lora_rank: int = LORA_RANK,
    lora_alpha: int = LORA_ALPHA,
    llm_learning_rate: float | None = None,
) -> int:
    """Train methods by several strategies and evaluate them (Tables 3 and 10): accuracy, time, trained parameters.

    All take the same number of optimiser steps, but cached, which goes on until its projectors converge. What Table 10
    of the paper calls End-to-End is frozen here: RISA and RERI together around a frozen LLM. Writes
    tables/training_strategy.csv under --out.

    Args:
        settings: Data, model and training.
        methods: LLM methods to train by each strategy.
        features: Feature types that score items (RERI); without RecBole, image,text.
        strategies: frozen trains adaptor, [REC] and projectors, as everywhere else; lora low-rank matrices beside the
            linear layers of the LLM as well (Table 3; needs peft); embeddings its word embeddings as well, as the
            authors' code does; end-to-end the whole LLM as well, which takes about
            20 bytes a weight in memory (Adam works on float32 copies); two-stage the adaptor by RISA in the first half
            of the steps, then the rest by RERI (Table 10); cached projectors on states that are stored once. If left
            open, all of them but embeddings, lora where peft is installed.
        lora_rank: Rank of LoRA's matrices.
        lora_alpha: LoRA's products are scaled by this over the rank.
        llm_learning_rate: Learning rate inside the LLM; "none" is 2e-4 for lora, 2e-5 for end-to-end and that of
            all else for embeddings.
    """
    chosen = check_llm_methods(methods, why="train beside an LLM")
    scoring = check_features(features)
    if strategies is None:
        strategies = possible_strategies()
    if not strategies:
        raise InputError(f"--strategies: give at least one of {', '.join(STRATEGIES)}")
    bench = Bench(ABOUT, settings)
    workspace = bench.workspace
    options = [
        strategy_options(
            bench.settings.training(),
            strategy=name,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            llm_learning_rate=llm_learning_rate,
        )
        for name in dict.fromkeys(strategies)
    ]
    images_of(workspace.dataset, experiment=ABOUT.name)
    records = bench.accuracy(
        (place, accuracy_cell(place, method, seed=seed, features=scoring, training=training))
        for place, training in planned(workspace, options)
        for seed in bench.settings.seeds
        for method in chosen
    )
    table = frame(records, bench.store)
    bench.write(table)
    shown = ["trainable_parameters", "training_seconds", "targets_per_second", "hit@5", "ndcg@5", "ndcg@10"]
    means = sampled_means(table, ["method", "strategy"], shown).astype({"trainable_parameters": int})
    bench.show(
        means, f"Training strategies on {workspace.dataset.name} (paper: Tables 3 and 10, Sport and Art)"
    )
    return bench.finish()


def possible_strategies() -> tuple[Strategy, ...]:
    """Return all strategies, LoRA only where peft is installed; says so where it is not."""
    if importlib.util.find_spec("peft") is None:
        logger.warning("lora is left out: peft is not installed; run 'python -m pip install peft' for it")
        return ("frozen", "end-to-end", "two-stage", "cached")
    return ("frozen", "lora", "end-to-end", "two-stage", "cached")


def strategy_options(
    options: TrainingOptions,
    *,
    strategy: Strategy,
    lora_rank: int,
    lora_alpha: int,
    llm_learning_rate: float | None,
) -> TrainingOptions:
    """Return training options with a strategy and those of the other options that it reads.

    Raises:
        InputError: If one is out of range, or LoRA is wanted and peft is not installed.
    """
    # What stored states are asked for belongs to that strategy alone.
    changes: dict[str, Any] = {
        "strategy": strategy,
        "cached": options.cached if strategy == "cached" else None,
    }
    if strategy == "lora":
        try:
            import peft  # noqa: F401  # an extra
        except ImportError:
            raise InputError(
                "--strategies lora: peft is not installed; run 'python -m pip install peft' or leave lora out"
            ) from None
        changes |= {"lora_rank": lora_rank, "lora_alpha": lora_alpha}
    if strategy in ("lora", "embeddings", "end-to-end"):
        changes["llm_learning_rate"] = llm_learning_rate
    return replace(options, **changes)


def planned(
    workspace: Workspace, options: Sequence[TrainingOptions]
) -> list[tuple[Workspace, TrainingOptions]]:
    """Return where each strategy is trained: a frozen LLM belongs to every experiment, the others to this one."""
    dataset = workspace.dataset
    return [
        (
            workspace
            if training.strategy == FROZEN
            else workspace.derive(
                variant={"kind": KIND, "of": dataset.fingerprint, "strategy": training.strategy}
            ),
            training,
        )
        for training in options
    ]


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.training_strategy"))
