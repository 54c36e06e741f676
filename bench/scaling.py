"""How time grows with the number of users, the length of the history and the size of the catalogue."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bench.frames.scaling import ABOUT, AXES, EXPERIMENT, VERSION, scaling_frame
from bench.harness.bench import Bench
from bench.harness.methods import REPRESENTATIONS
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.timed_methods import untrained_model
from bench.harness.workspace import Workspace
from bench.meters.time_and_memory import Timer
from bench.store.cell import Cell, Outcome
from bench.store.provenance import machine
from illmrec.command_line import run
from illmrec.data.dataset import Dataset
from illmrec.errors import InputError
from illmrec.model.illmrec import ILLMRec
from illmrec.retrieval import exact_top_k

logger = logging.getLogger(__name__)

HEADS = ("image", "text")
"""Feature types that score items."""

ITEMS_READ = 10
"""Items of history while the number of users changes."""

USERS_READ = 8
"""Users while the length of the history changes."""

USERS_RANKED, K, WIDTH = 64, 10, 256
"""Users, items returned and width of the projections while the catalogue grows."""


def main(
    settings: Settings,
    *,
    user_counts: tuple[int, ...] | None = None,
    lengths: tuple[int, ...] | None = None,
    catalogues: tuple[int, ...] | None = None,
    repeats: int = 3,
) -> int:
    """Measure seconds against users, items of history and items of the catalogue, and fit exponents.

    Users and history: the engine's inference from item ids to scores of the data set's catalogue, with 10 items of
    history, and with the same 8 users. Catalogue: 64 users against random projections of width 256, scores and exact
    top 10, without the LLM. The exponent of seconds = factor * value ^ exponent is fitted to the medians over repeats
    by least squares on logarithms. Writes tables/scaling.csv under --out.

    Args:
        settings: Data and model; the whole LLM unless --layers says otherwise.
        user_counts: Numbers of users; "none": 4,8,16,32, in preset smoke 2,4,8.
        lengths: Items of history; "none": 2,4,8,16,32, in preset smoke 2,4,8.
        catalogues: Items of the catalogue; "none": 1,000 to 1,000,000, in preset smoke to 16,000.
        repeats: Timed runs, after one that is not counted.
    """
    smoke = settings.preset == "smoke"
    values = {
        "users": user_counts or ((2, 4, 8) if smoke else (4, 8, 16, 32)),
        "history": lengths or ((2, 4, 8) if smoke else (2, 4, 8, 16, 32)),
        "catalogue": catalogues or ((1000, 4000, 16_000) if smoke else (1000, 10_000, 100_000, 1_000_000)),
    }
    for option, axis in zip(("--user-counts", "--lengths", "--catalogues"), AXES, strict=True):
        if min(values[axis]) < 1:
            raise InputError(f"{option}: give numbers of at least 1")
    if repeats < 1:
        raise InputError("--repeats: give at least 1")
    bench = Bench(ABOUT, settings, whole_llm=True)
    workspace, settings = bench.workspace, bench.settings
    longest = max(ITEMS_READ, *values["history"])
    chosen = {
        "users": long_histories(workspace.dataset, length=ITEMS_READ, count=max(values["users"])),
        "history": long_histories(workspace.dataset, length=max(values["history"]), count=USERS_READ),
    }
    shared = {"method": "engine", "seed": 0, "machine": machine(), "threads": torch.get_num_threads()}
    model_config = {
        "dataset": {"name": workspace.dataset.name, "fingerprint": workspace.dataset.fingerprint},
        "llm": workspace.backbone.describe(),
        "encoders": workspace.encoder_identities(("image", *HEADS)),
        "heads": HEADS,
        "context": settings.context,
        "instruction": settings.instruction,
        "token_budget": settings.training().token_budget,
    }
    cells = [
        Cell(
            experiment=EXPERIMENT,
            version=VERSION,
            config={
                **shared,
                "device": workspace.device,
                "axis": axis,
                "value": value,
                "repeats": repeats,
                **(
                    {"users": USERS_RANKED, "k": K, "width": WIDTH}
                    if axis == "catalogue"
                    else {**model_config, "users": [str(workspace.dataset.user_ids[u]) for u in chosen[axis]]}
                ),
            },
            method="engine",
            seed=0,
            dataset=workspace.dataset.statistics(),
            label=f"{value:,} {axis}",
        )
        for axis in AXES
        for value in values[axis]
    ]
    records = bench.run(cells, compute_scaling(workspace, chosen, history_length=longest), work=expected_work)
    table = scaling_frame(records)
    bench.write(table)
    bench.show(table, f"Scaling on {workspace.dataset.name}, {workspace.backbone.name}")
    return bench.finish()


def expected_work(cell: Cell) -> Work:
    """Return what a cell takes."""
    axis, value, runs = cell.config["axis"], cell.config["value"], 1 + cell.config["repeats"]
    if axis == "catalogue":
        return Work(gflops=2e-9 * runs * USERS_RANKED * WIDTH * value)
    users, items = (value, ITEMS_READ) if axis == "users" else (USERS_READ, value)
    return Work(read=(("illmrec", items, runs * users),))


def long_histories(dataset: Dataset, *, length: int, count: int) -> np.ndarray:
    """Draw users with at least ``length`` items before their test item, int64 [count].

    Raises:
        InputError: If there are too few.
    """
    enough = np.flatnonzero(dataset.lengths > length)
    if len(enough) < count:
        raise InputError(
            f"{len(enough)} users of {dataset.name} have a history of {length} items and {count} are needed; "
            "lower --lengths or --user-counts"
        )
    return np.random.default_rng(0).permutation(enough)[:count]


def compute_scaling(
    workspace: Workspace, chosen: dict[str, np.ndarray], *, history_length: int
) -> Callable[[Cell], Outcome]:
    """Return the function that computes a scaling cell in this workspace.

    Args:
        workspace: Data, features and LLM.
        chosen: Row numbers of the users of the axes ``users`` and ``history``.
        history_length: The longest history of any cell.
    """

    @cache
    def model() -> ILLMRec:
        representation = REPRESENTATIONS["illmrec"]
        return untrained_model(workspace, representation, heads=HEADS, history_length=history_length)

    def histories(axis: str, value: int) -> list[np.ndarray]:
        users, length = (chosen[axis][:value], ITEMS_READ) if axis == "users" else (chosen[axis], value)
        return [workspace.split.history(int(user), "test")[-length:] for user in users]

    def compute(cell: Cell) -> Outcome:
        axis, value = cell.config["axis"], cell.config["value"]
        if axis == "catalogue":
            users, dtype = USERS_RANKED, torch.float32
            call = ranking(value, workspace.device)
        else:
            read, catalogue = histories(axis, value), model().catalogue()
            users, dtype = len(read), workspace.backbone.dtype
            budget = cell.config["token_budget"]

            def call() -> Any:
                return model().score(read, catalogue=catalogue, token_budget=budget)

        seconds = []
        runs = tqdm(
            range(1 + cell.config["repeats"]),
            desc=cell.label,
            unit="run",
            leave=False,
            disable=not workspace.settings.progress,
        )
        for run_number in runs:
            with Timer(workspace.device) as timer:
                call()
            if run_number:
                seconds.append(timer.seconds)
        return Outcome(
            results={
                "axis": axis,
                "value": value,
                "users": users,
                "device": workspace.device,
                "dtype": str(dtype).removeprefix("torch."),
                "seconds_median": float(np.median(seconds)),
            },
            frames={"timings": pd.DataFrame({"repeat": range(len(seconds)), "seconds": seconds})},
        )

    return compute


def ranking(items: int, device: str) -> Callable[[], Any]:
    """Return a function that scores a random catalogue of so many items for 64 users and keeps the best 10."""
    generator = torch.Generator(device=device).manual_seed(0)
    users = torch.randn(USERS_RANKED, WIDTH, generator=generator, device=device)
    catalogue = torch.randn(items, WIDTH, generator=generator, device=device)
    return lambda: exact_top_k(users, catalogue, k=K)


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.scaling"))
