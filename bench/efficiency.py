"""Figures 1(a) and 3 of the paper: what a representation costs, in tokens, time, memory and FLOPs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from bench.accuracy import REPRESENTATIONS, check_llm_methods
from bench.cell import Cell, Outcome
from bench.meters import PeakMemory, Timer, matmul_peak
from bench.provenance import machine
from bench.results import build_report, print_table, write_table
from bench.runner import run_cells
from bench.settings import Settings
from bench.store import Store
from bench.workspace import Workspace
from illmrec.assembly import ModelConfig, build_model, load_representation
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.cost import forward_flops
from illmrec.model.illmrec import ILLMRec

logger = logging.getLogger(__name__)

EXPERIMENT = "efficiency"
VERSION = 2

COLUMNS = (
    "method", "history_length", "users", "tokens_per_item", "prompt_tokens", "latency_ms_median", "latency_ms_p95",
    "users_per_second", "peak_memory_mb", "model_gflops", "utilisation",
)  # fmt: skip


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = tuple(REPRESENTATIONS),
    lengths: tuple[int, ...] = (2, 5, 10, 15, 20),
    group_users: int = 4,
    batch_users: int = 2,
    repeats: int = 3,
) -> int:
    """Measure what each representation costs at inference, by length of the history (Figures 1(a) and 3).

    Users with at least |S_u| items of history are read with exactly their last |S_u|: the same users and batches
    for every method. Timed is everything from item ids to scores of the whole catalogue; features are computed
    before, as in the paper (E.5), and their time is logged. Parameters are untrained: cost does not depend on them.
    Writes tables/efficiency.csv under --out.

    Args:
        settings: Data and model; the whole LLM unless --layers says otherwise.
        methods: Representations to measure.
        lengths: Lengths of history |S_u|.
        group_users: Users of each length.
        batch_users: Users in one batch.
        repeats: Timed runs over the batches, after a first batch that is not counted.
    """
    names = check_llm_methods(methods, why="have prompts to measure")
    if min(lengths, default=0) < 1 or min(group_users, batch_users, repeats) < 1:
        raise InputError("--lengths, --group-users, --batch-users and --repeats: give at least 1")
    resolved = settings.resolved()
    # Presets shorten the LLM to train faster; here its cost is what is measured.
    settings = resolved if settings.preset == "smoke" else replace(resolved, layers=settings.layers)
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    groups = user_groups(workspace, lengths, group_users)
    cells = [
        efficiency_cell(workspace, name, length, groups[length], batch_users=batch_users, repeats=repeats)
        for name in names
        for length in groups
    ]
    done = run_cells(
        cells,
        compute_cost(workspace, groups),
        store,
        overwrite=settings.overwrite,
        progress=settings.progress,
    )
    table = pd.DataFrame([record.results for record in done.records], columns=list(COLUMNS))
    write_table(table, store, "efficiency")
    print_table(table, title=f"Efficiency on {workspace.dataset.name}, {workspace.backbone.name}")
    if settings.report:
        build_report(settings.out)
    return done.status


def efficiency_cell(
    workspace: Workspace, method: str, length: int, users: np.ndarray, *, batch_users: int, repeats: int
) -> Cell:
    """Return the cell that measures a method at a length of history.

    Args:
        workspace: Data, features and LLM.
        method: Name of the method.
        length: Items of history that are read.
        users: Whose.
        batch_users: Users in one batch.
        repeats: Timed runs.
    """
    settings, dataset = workspace.settings, workspace.dataset
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config={
            "seed": 0,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "llm": workspace.backbone.describe(),
            "encoders": workspace.encoder_identities(("image",)),
            "context": settings.context,
            "instruction": settings.instruction,
            "device": workspace.device,
            "machine": machine(),
            "group_users": len(users),
            "batch_users": batch_users,
            "repeats": repeats,
            "method": method,
            **workspace.shown(REPRESENTATIONS.get(method, method)),
            "history_length": length,
            "users": [str(dataset.user_ids[user]) for user in users],
        },
        method=method,
        seed=0,
        dataset=dataset.statistics(),
        label=f"{method} |S_u| = {length}",
    )


def user_groups(workspace: Workspace, lengths: Sequence[int], group_users: int) -> dict[int, np.ndarray]:
    """Draw users for each length of history, int64 [group_users]; a length that too few users have is an error."""
    history_lengths = workspace.dataset.lengths - 1
    generator = np.random.default_rng(0)
    groups = {}
    for length in sorted(set(lengths)):
        enough = np.flatnonzero(history_lengths >= length)
        if len(enough) < group_users:
            raise InputError(
                f"--lengths {length}: {len(enough)} users of {workspace.dataset.name} have so long a history and "
                f"{group_users} are needed; leave that length out or lower --group-users"
            )
        groups[length] = np.sort(generator.choice(enough, group_users, replace=False))
    return groups


def cost_groups(workspace: Workspace, cost_users: int) -> dict[int, np.ndarray]:
    """Draw the users whose prompts are timed: with L items of history, or as many as that many users have."""
    longest = np.sort(workspace.dataset.lengths - 1)[::-1]
    count = min(cost_users, len(longest))
    length = min(workspace.settings.history_length, int(longest[count - 1]))
    return user_groups(workspace, [length], count)


def compute_cost(workspace: Workspace, groups: dict[int, np.ndarray]) -> Callable[[Cell], Outcome]:
    """Return the function that measures an efficiency cell in this workspace."""

    @cache
    def model_of(representation: str) -> ILLMRec:
        loaded = load_representation(representation)
        features, has_image = workspace.features(sorted({"image", *loaded.slots}), seed=0)
        config = ModelConfig(
            representation=representation,
            heads=("image",),
            context=workspace.settings.context,
            instruction=workspace.settings.instruction,
            history_length=max(groups),
        )
        return build_model(
            config,
            dataset=workspace.dataset_of(loaded),
            backbone=workspace.backbone,
            features=features,
            has_image=has_image,
        ).eval()

    @cache
    def peak() -> float:
        return matmul_peak(workspace.backbone.dtype, workspace.backbone.device)

    def compute(cell: Cell) -> Outcome:
        model = model_of(cell.config["representation"])
        return measure(
            model, workspace, cell=cell, users=groups[cell.config["history_length"]], peak_gflops=peak()
        )

    return compute


def measure(
    model: ILLMRec, workspace: Workspace, *, cell: Cell, users: np.ndarray, peak_gflops: float
) -> Outcome:
    """Time a model on batches of users and count its tokens and FLOPs."""
    config = cell.config
    length, size = config["history_length"], config["batch_users"]
    histories = [workspace.split.history(int(user), "test")[-length:] for user in users]
    batches = [histories[start : start + size] for start in range(0, len(histories), size)]
    fitted = [[model.prompts.fit(history) for history in batch] for batch in batches]
    tokens = sum(int(model.prompts.token_counts(batch).sum()) for batch in fitted)
    packed = [model.prompts.pack(batch) for batch in fitted]
    flops = forward_flops(model.engine.backbone, *packed)
    catalogue = model.catalogue().detach()
    device = model.engine.backbone.device
    timings: list[dict[str, Any]] = []
    with PeakMemory(device) as memory:
        model.score(batches[0], catalogue=catalogue)  # warm-up: not counted
        for repeat in range(config["repeats"]):
            for number, batch in enumerate(batches):
                with Timer(device) as timer:
                    model.score(batch, catalogue=catalogue)
                timings.append(
                    {"repeat": repeat, "batch": number, "users": len(batch), "seconds": timer.seconds}
                )
    timed = pd.DataFrame(timings)
    latency = 1e3 * timed["seconds"] / timed["users"]
    median_seconds = float(timed.groupby("batch")["seconds"].median().sum())
    return Outcome(
        results={
            "method": cell.method,
            "history_length": length,
            "users": len(users),
            "tokens_per_item": float(model.prompts.items.lengths[np.concatenate(histories)].mean()),
            "prompt_tokens": tokens / len(users),
            "latency_ms_median": float(latency.median()),
            "latency_ms_p95": float(latency.quantile(0.95)),
            "users_per_second": len(users) / median_seconds,
            "peak_memory_mb": memory.peak_mb,
            "model_gflops": None if flops is None else flops / 1e9 / len(users),
            "utilisation": None if flops is None else flops / 1e9 / median_seconds / peak_gflops,
            "peak_gflops": peak_gflops,
        },
        frames={"timings": timed},
    )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.efficiency"))
