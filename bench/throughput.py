"""The engine's pace beside plain passes, the strongest known included, and the released code's manner, in one run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bench.frames.throughput import (
    ABOUT,
    COMPILED,
    ENGINE,
    EXPERIMENT,
    LLAMA_CPP,
    PATHS,
    PHASES,
    RELEASED_STYLE,
    VERSION,
    throughput_frame,
)
from bench.harness.bench import Bench
from bench.harness.methods import REPRESENTATIONS
from bench.harness.plan import Prompts, Work, current_plan
from bench.harness.settings import Settings
from bench.harness.timed_methods import untrained_model
from bench.harness.workspace import Workspace
from bench.meters.llama_cpp_path import gguf_file
from bench.meters.plain_paths import write_item_files
from bench.meters.race import Race, measure
from bench.meters.time_and_memory import matmul_peak
from bench.store.cell import Cell, Outcome
from bench.store.provenance import machine
from illmrec.command_line import run
from illmrec.data.dataset import Dataset
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError, nearest
from illmrec.model.compilation import check_compiler
from illmrec.temporary import scratch_folder
from illmrec.training import TrainingOptions

logger = logging.getLogger(__name__)

SHORTEST, LONGEST = 2, 20
"""Items of history."""

HEADS = ("image", "text")

SCORED_USERS = 10_000
"""Users of the comparison of scoring with encoding, whose time is that of the measured users."""


def main(
    settings: Settings,
    *,
    timed_users: int | None = None,
    repeats: int | None = None,
    path_seconds: float = 45.0,
    phases: tuple[str, ...] = tuple(PHASES),
    paths: tuple[str, ...] = PATHS,
) -> int:
    """Measure training and inference of the engine, of plain passes, and in the released code's manner.

    The same users, with histories of 2 to 20 items, the same parameters and the same draws for every path. Phases:
    train-one and train-all are optimiser steps with one target per user and with a target at every position (two-pass:
    an example of its own; RISA once per user, as in the engine); inference goes from item ids to scores of 101
    candidates. The paths of a phase take turns, each after a first run that is not counted unless it takes longer than
    20 seconds. Medians over repeats. engine-compiled is the engine with norms and MLPs compiled (--compile elsewhere).
    two-pass pads users as they come and has logits everywhere; two-pass-sorted pads users of like length and
    padding-free lays prompts side by side, both without the LM head but at answers. llama.cpp only runs the prompts, by
    the 4-bit file of the embedded LLM (needs llama-cpp-python, and all layers).

    Columns: tokens were put through the LLM, padding included. Samples are targets in training and users in inference.
    Utilisation is useful work (every token of trunks and branches once; in training a frozen LLM's matrices twice,
    attention three times, and the LM head at answers, forward and backward) over time and the matrix-product peak
    measured in the same run; empty where an LLM's FLOPs cannot be known. Peak memory is the largest of all repeats,
    absolute: on CUDA of tensors, on a CPU of the whole process, weights and libraries included, after freed memory was
    given back to the system.
    Writes tables/throughput.csv under --out.

    Args:
        settings: Data and model; the whole LLM unless --layers says otherwise, bce unless --loss does.
            --batch-size is the batch of two-pass and of an optimiser step, 16 if left open.
        timed_users: Users to measure with; "none": 8, in preset smoke 3.
        repeats: Timed runs; "none": 3, in preset smoke 1.
        path_seconds: Give up further repeats of a path and phase once its timed runs took so long.
        phases: Some of train-one, train-all, inference.
        paths: Some of two-pass, two-pass-sorted, padding-free, released-style, llama.cpp, engine, engine-compiled.
    """
    _check("--phases", phases, tuple(PHASES))
    _check("--paths", paths, PATHS)
    smoke = settings.preset == "smoke"
    timed_users = (3 if smoke else 8) if timed_users is None else timed_users
    repeats = (1 if smoke else 3) if repeats is None else repeats
    if min(timed_users, repeats) < 1:
        raise InputError("--timed-users and --repeats: give at least 1")
    if COMPILED in paths and current_plan() is None:  # to try takes longer than all of a plan
        try:
            check_compiler(torch.device(settings.torch_device()).type)
        except InputError as error:
            logger.warning("%s is left out: %s", COMPILED, error)
            paths = tuple(path for path in paths if path != COMPILED)
    beside = _ran(phases, paths)
    options = replace(
        settings.resolved().training(), loss=settings.loss or "bce", batch_size=settings.batch_size or 16
    )
    if options.loss == "ce" and RELEASED_STYLE in paths and "train-one" in phases:
        raise InputError("--loss ce: the released code has none; leave released-style out of --paths")
    # Compiled is a path of its own.
    bench = Bench(ABOUT, replace(settings, compile=False), whole_llm=True)
    workspace, settings = bench.workspace, bench.settings
    users, lengths = choose_users(workspace.dataset, timed_users)
    if LLAMA_CPP in beside.get("inference", ()):
        try:
            gguf_file(workspace.backbone)
        except InputError as error:
            logger.warning("%s is left out: %s", LLAMA_CPP, error)
            beside = _ran(phases, tuple(path for path in paths if path != LLAMA_CPP))
    config = {
        "seed": 0,
        "dataset": {"name": workspace.dataset.name, "fingerprint": workspace.dataset.fingerprint},
        "llm": workspace.backbone.describe(),
        "encoders": workspace.encoder_identities(("image", *HEADS)),
        "device": workspace.device,
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "heads": HEADS,
        "context": settings.context,
        "instruction": settings.instruction,
        "loss": options.loss,
        "answer_tokens": options.answer_tokens,
        "batch_size": options.batch_size,
        "token_budget": options.token_budget,
        "users": [str(workspace.dataset.user_ids[user]) for user in users],
        "lengths": lengths,
        "repeats": repeats,
        "path_seconds": path_seconds,
    }
    cells = [
        Cell(
            experiment=EXPERIMENT,
            version=VERSION,
            # The paths that took turns belong to the key: ratios hold within one run.
            config={**config, "method": path, "phase": phase, "beside": ran},
            method=path,
            seed=0,
            dataset=workspace.dataset.statistics(),
            label=f"{phase} {path}",
        )
        for phase, ran in beside.items()
        for path in ran
    ]
    with scratch_folder() as folder:
        compute = compute_throughput(
            workspace,
            users=users,
            lengths=lengths,
            options=options,
            repeats=repeats,
            path_seconds=path_seconds,
            folder=folder,
        )
        records = bench.run(cells, compute, work=expected_work)
    for record in records:
        if "scoring_share" in record.results:
            logger.info(
                "scoring %s encoded users, 100 candidates each, takes %.2f %% of the time, encoding the rest",
                f"{SCORED_USERS:,}",
                100 * record.results["scoring_share"],
            )
    table = throughput_frame(records)
    bench.write(table)
    bench.show(table, f"Throughput on {workspace.dataset.name}, {workspace.backbone.name}")
    return bench.finish()


def expected_work(cell: Cell) -> Work:
    """Return what a cell takes: of the engine each user's prompt once, of the others one for each target."""
    config, runs = cell.config, 1 + cell.config["repeats"]
    whole: tuple[Prompts, ...] = tuple(("illmrec", length, runs) for length in config["lengths"])
    each = tuple(("illmrec", items, runs) for length in config["lengths"] for items in range(1, length + 1))
    if config["phase"] == "inference":
        return Work(read=whole)
    alone = config["phase"] == "train-all" and cell.method not in (ENGINE, COMPILED)
    return Work(trained=each if alone else whole)


def _check(option: str, given: Sequence[str], valid: Sequence[str]) -> None:
    for name in given:
        if name not in valid:
            raise InputError(f"{option} {name}: {nearest(name, valid)}")
    if not given:
        raise InputError(f"{option}: give at least one of {', '.join(valid)}")


def _ran(phases: Sequence[str], paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the paths of each phase that are run beside each other.

    Raises:
        InputError: If a phase has none.
    """
    beside = {phase: [path for path in PHASES[phase] if path in paths] for phase in PHASES if phase in phases}
    for phase, ran in beside.items():
        if not ran:
            which = f"{paths[0]} has no such phase" if paths else "no path is left"
            raise InputError(f"--phases {phase}: {which}; add {ENGINE} to --paths")
    return beside


def choose_users(dataset: Dataset, count: int) -> tuple[np.ndarray, list[int]]:
    """Draw users whose histories can be cut to lengths spread evenly over 2 to 20 items.

    A history of n items needs n + 3 interactions: with its last three as target, validation and test item, training
    at ``targets=all`` reads n items, too.

    Returns:
        Int64 [count], row numbers of the users, and the lengths, the shortest first.

    Raises:
        InputError: If too few users have so long a sequence.
    """
    lengths = np.linspace(SHORTEST, LONGEST, count).round().astype(int).tolist()
    order = np.random.default_rng(0).permutation(dataset.n_users)
    chosen: list[int] = []
    for length in reversed(lengths):
        free = order[(dataset.lengths[order] >= length + 3) & ~np.isin(order, chosen)]
        if not len(free):
            raise InputError(
                f"--timed-users {count}: too few users of {dataset.name} have {length + 3} interactions; "
                "lower it or take a data set with longer sequences"
            )
        chosen.append(int(free[0]))
    return np.array(chosen[::-1]), lengths


def cut_dataset(dataset: Dataset, users: np.ndarray, lengths: Sequence[int]) -> Dataset:
    """Return a data set of some users and the last n + 3 interactions of each; the items stay."""
    kept = [length + 3 for length in lengths]
    sequences = [dataset.sequence(int(user))[-n:] for user, n in zip(users, kept, strict=True)]
    return replace(
        dataset,
        user_ids=dataset.user_ids[users],
        sequence_items=np.concatenate(sequences),
        offsets=np.concatenate([[0], np.cumsum(kept)]),
    )


def compute_throughput(
    workspace: Workspace,
    *,
    users: np.ndarray,
    lengths: Sequence[int],
    options: TrainingOptions,
    repeats: int,
    path_seconds: float,
    folder: Path,
) -> Callable[[Cell], Outcome]:
    """Return the function that computes a throughput cell: a phase is measured once, for all of its paths.

    Args:
        workspace: Data, features and LLM.
        users: From :func:`choose_users`.
        lengths: From :func:`choose_users`.
        options: Training options; ``targets`` is the phase's.
        repeats: Timed runs.
        path_seconds: Timed seconds of a path and phase after which it is not repeated.
        folder: An empty folder for the items' files.
    """

    @cache
    def peak() -> float:
        return matmul_peak(workspace.backbone.dtype, workspace.backbone.device)

    @cache
    def race() -> Race:
        representation = REPRESENTATIONS["illmrec"]
        model = untrained_model(workspace, representation, heads=HEADS, history_length=LONGEST)
        write_item_files(model, folder)
        return Race(
            model=model,
            split=leave_one_out(cut_dataset(workspace.dataset, users, lengths)),
            lengths=lengths,
            negatives=workspace.negatives(0)[users],
            options=options,
            folder=folder,
        )

    @cache
    def measured(phase: str, beside: tuple[str, ...]) -> dict[str, Outcome]:
        return measure(
            *race().contenders(phase, beside),
            phase=phase,
            users=len(users),
            repeats=repeats,
            path_seconds=path_seconds,
            model=race().model,
            peak_gflops=peak(),
            progress=workspace.settings.progress,
        )

    def compute(cell: Cell) -> Outcome:
        phase = cell.config["phase"]
        outcome = measured(phase, tuple(cell.config["beside"]))[cell.method]
        if phase == "inference" and cell.method == ENGINE:
            scoring = race().scoring_seconds(SCORED_USERS)
            encoding = SCORED_USERS / outcome.results["samples_per_second"]
            share = {"scoring_share": scoring / (scoring + encoding)}
            outcome = replace(outcome, results={**outcome.results, **share})
        return outcome

    return compute


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.throughput"))
