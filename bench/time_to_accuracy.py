"""How fast training is: validation accuracy against seconds, targets and FLOPs, by strategy, in one run."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.frames.time_to_accuracy import ABOUT, CURVE, EXPERIMENT, VERSION, curves, levels
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import check_features, check_llm_methods
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.training import built_model
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome
from bench.store.provenance import machine
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.cost import forward_flops, training_flops
from illmrec.model.tuning import Strategy
from illmrec.states.encoding import rows_of
from illmrec.temporary import scratch_folder
from illmrec.training import CachedTrainer, Trainer, TrainingOptions
from illmrec.training.examples import Examples
from illmrec.training.projectors import projector_flops

_PROBE_STEPS = 6
_LOOKS = 8
"""Times that validation is looked at while a model is trained jointly."""

STRATEGIES: tuple[Strategy, ...] = ("frozen", "two-stage", "cached")


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = ("illmrec", "tallrec"),
    strategies: tuple[Strategy, ...] = STRATEGIES,
    features: tuple[str, ...] = ("image", "text"),
    seconds: float | None = None,
    sasrec: bool = True,
) -> int:
    """Train by several strategies and record validation NDCG@10 against wall-clock seconds, targets and FLOPs.

    Joint training gets as many steps as fit into --seconds, by its first steps; its validation is not counted. Stored
    states are encoded anew, and their time holds everything: warm-up, encoding, projectors and all validation. All
    validate on the same users. Writes tables/time_to_accuracy.csv, and tables/time_to_levels.csv with the seconds to
    reach what joint training has at its best, under --out. Time nothing else meanwhile.

    Args:
        settings: Data, model and training; --warm-up and other options of stored states need --strategy cached.
        methods: LLM methods to train.
        strategies: Some of frozen, two-stage, cached.
        features: Feature types that score items.
        seconds: Wall-clock seconds of joint training; "none" takes 600, and 4 with the preset smoke.
        sasrec: Train SASRec beside them; needs RecBole.
    """
    chosen = check_llm_methods(methods, why="have training strategies")
    heads = check_features(features)
    for name in strategies:
        if name not in STRATEGIES:
            raise InputError(f"--strategies {name}: give some of {', '.join(STRATEGIES)}")
    if not strategies:
        raise InputError(f"--strategies: give at least one of {', '.join(STRATEGIES)}")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"--seconds {seconds}: must be above 0")
    bench = Bench(ABOUT, settings)
    workspace = bench.workspace
    budget = seconds or (4.0 if settings.preset == "smoke" else 600.0)
    cells = [
        training_cell(workspace, method, strategy, seed=seed, heads=heads, seconds=budget)
        for seed in bench.settings.seeds
        for method in chosen
        for strategy in dict.fromkeys(strategies)
    ]
    if sasrec:
        cells += [sasrec_cell(workspace, seed=seed) for seed in bench.settings.seeds]
    records = bench.run(cells, compute_curve(workspace), work=expected_work)
    table = curves(records, bench.store)
    bench.write(table)
    reached = levels(table)
    bench.write(reached, "time_to_levels")
    last = table.groupby(["method", "strategy", "seed"], sort=False).tail(1)
    bench.show(
        last[["method", "strategy", "seed", *CURVE]],
        f"Training on {workspace.dataset.name}: what was spent and reached in the end",
    )
    if not reached.empty:
        shown = ["method", "level", "seed", "strategy", "seconds", "against_seconds", "speedup"]
        bench.show(reached[shown], "Seconds to validation NDCG@10 that joint training reaches")
    return bench.finish()


def expected_work(cell: Cell) -> Work | None:
    """Return what a training takes that an option bounds; the others say it themselves."""
    bound = cell.config.get("budget_seconds")
    return None if bound is None else Work(seconds=bound)


def training_cell(
    workspace: Workspace, method: str, strategy: Strategy, *, seed: int, heads: list[str], seconds: float
) -> Cell:
    """Return the cell of one training: what an accuracy cell depends on, and where it was timed."""
    options = workspace.settings.training()
    options = replace(options, strategy=strategy, cached=options.cached if strategy == "cached" else None)
    cell = accuracy_cell(workspace, method, seed=seed, features=heads, training=options)
    config = {
        **{name: value for name, value in cell.config.items() if name != "evaluation"},
        "strategy": strategy,
        "budget_seconds": None if strategy == "cached" else seconds,
        **_place(workspace),
    }
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config=config,
        method=method,
        seed=seed,
        dataset=cell.dataset,
        label=f"training of {method}, {strategy}, seed {seed}",
    )


def sasrec_cell(workspace: Workspace, *, seed: int) -> Cell:
    """Return the cell of SASRec's training."""
    cell = accuracy_cell(workspace, "sasrec", seed=seed)
    config = {name: value for name, value in cell.config.items() if name != "evaluation"}
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config={**config, "strategy": "recbole", **_place(workspace)},
        method="sasrec",
        seed=seed,
        dataset=cell.dataset,
        label=f"training of sasrec, seed {seed}",
    )


def _place(workspace: Workspace) -> dict[str, Any]:
    return {"device": workspace.device, "machine": machine(), "threads": torch.get_num_threads()}


def compute_curve(workspace: Workspace) -> Callable[[Cell], Outcome]:
    """Return the function that trains and records; all cells that one of them computes are one session."""
    session = uuid.uuid4().hex[:12]

    def compute(cell: Cell) -> Outcome:
        if cell.method == "sasrec":
            curve, results = _sasrec(cell, workspace)
        elif cell.config["strategy"] == "cached":
            curve, results = _cached(cell, workspace)
        else:
            curve, results = _joint(cell, workspace)
        frame = pd.DataFrame(curve, columns=list(CURVE)).astype(float)
        return Outcome(
            results={"session": session, "best": float(frame["valid_ndcg@10"].max()), **results},
            frames={"curve": frame},
        )

    return compute


class _TimedTrainer(Trainer):
    """Counts seconds and FLOPs of its steps, and looks at validation every so many seconds; looks are not counted.

    Args:
        every: Seconds of training between two looks.
        users: Users whose validation items are looked at.
        options: Those of :class:`Trainer`, like all others; epochs are not validated.
    """

    def __init__(self, *, every: float, users: int, options: TrainingOptions, **arguments: Any) -> None:
        super().__init__(options=replace(options, validation_users=0, patience=None), **arguments)
        self.spent, self.gflops, self._looked = 0.0, 0.0, 0.0
        self.curve: list[tuple[float, float, float, float]] = []
        self._every, self._users = every, users

    def _train_step(self) -> None:
        began = time.perf_counter()
        super()._train_step()
        self.spent += time.perf_counter() - began
        if self.step > self.first_stage and self.spent - self._looked >= self._every:
            self.look()

    def look(self) -> None:
        """Add a point to the curve."""
        self._looked = self.spent
        self.curve.append((self.spent, self.targets, self.gflops, self.validate(self._users)))

    def _pass(self, examples: Examples) -> dict[str, torch.Tensor]:
        packed = examples.pack(self.model.prompts)
        read = self.trunks.missing(packed) if self.model.constant_trunks else None
        flops = training_flops(self.model.engine.backbone, packed, read=read)
        self.gflops += float("nan") if flops is None else flops / 1e9
        return super()._pass(examples)


def _joint(cell: Cell, workspace: Workspace) -> tuple[Sequence[tuple[float, ...]], dict[str, Any]]:
    options = TrainingOptions(**cell.config["training"])
    model, budget = built_model(cell, workspace), cell.config["budget_seconds"]
    arguments: dict[str, Any] = {
        "model": model,
        "split": workspace.split,
        "seed": cell.seed,
        "negatives": workspace.negatives(cell.seed, "valid"),
        "users": options.validation_users,
        "every": budget / _LOOKS,
    }
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    steps = 2 * _PROBE_STEPS
    probe = _TimedTrainer(
        options=replace(options, epochs=steps, max_steps=steps), progress=False, **arguments
    )
    for step in range(_PROBE_STEPS):
        probe._train_step()
        if not step:
            probe.spent = 0.0  # the first one prepares
    model.load_state_dict(initial)
    steps = max(2, int(budget * (_PROBE_STEPS - 1) / probe.spent))
    training = _TimedTrainer(
        options=replace(options, epochs=steps, max_steps=steps),
        progress=workspace.settings.progress,
        **arguments,
    )
    training.run()
    training.look()
    return training.curve, {"steps": steps, "converged": False}


def _cached(cell: Cell, workspace: Workspace) -> tuple[Sequence[tuple[float, ...]], dict[str, Any]]:
    options = TrainingOptions(**cell.config["training"])
    cached = options.cached
    if cached is None:
        raise ValueError("a cell of stored states has options of stored states")
    users = min(options.validation_users or cached.validation_users, cached.validation_users)
    options = replace(options, cached=replace(cached, validation_users=users))
    model = built_model(cell, workspace)
    # In a folder of their own: states that are there already would cost nothing.
    with scratch_folder(workspace.settings.out) as folder:
        training = CachedTrainer(
            model=model,
            split=workspace.split,
            options=options,
            seed=cell.seed,
            negatives=workspace.negatives(cell.seed, "valid"),
            cache=folder,
            progress=workspace.settings.progress,
        )
        report = training.run()
        train, valid, _ = training.states()
    read = [forward_flops(model.engine.backbone, row) for row in rows_of(model, train, valid)]
    gflops = float("nan") if None in read else sum(flops or 0.0 for flops in read) / 1e9
    epoch = projector_flops(model, targets=report.positions, batch_size=cached.batch_size) / 1e9
    curve: list[tuple[float, ...]] = []
    targets = spent = 0.0
    for part in report.rounds:
        targets += 0 if part.joint is None else part.joint.targets
        spent += gflops
        curve += [
            (
                part.began + row["seconds"],
                targets + row["targets"],
                spent + number * epoch,
                row["valid_ndcg@10"],
            )
            for number, row in enumerate(part.projectors.epochs, start=1)
        ]
        targets += part.projectors.epochs[-1]["targets"]
        spent += len(part.projectors.epochs) * epoch
    return curve, {
        "converged": report.projectors.converged,
        "encoding_seconds": sum(part.encoding["seconds"] for part in report.rounds),
        "warm_up_seconds": sum(part.seconds for part in report.joint),
        "positions": report.positions,
    }


def _sasrec(cell: Cell, workspace: Workspace) -> tuple[Sequence[tuple[float, ...]], dict[str, Any]]:
    from baselines.recbole_models import RecBoleRecommender  # RecBole is an extra

    model = RecBoleRecommender(options=workspace.recbole_options("sasrec"), device=workspace.device)
    record = model.fit(
        workspace.dataset,
        workspace.split,
        seed=cell.seed,
        negatives=workspace.negatives(cell.seed, "valid"),
        progress=workspace.settings.progress,
    )
    epochs = np.arange(1, record.epochs + 1)
    per_epoch = record.seconds / record.epochs
    curve = [
        (epoch * per_epoch, epoch * record.targets_per_epoch, float("nan"), value)
        for epoch, value in zip(epochs.tolist(), record.validation_ndcg10, strict=True)
    ]
    return curve, {"converged": record.epochs > record.best_epoch}


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.time_to_accuracy"))
