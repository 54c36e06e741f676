"""How many users and training runs a difference between two methods needs, said before anything is trained."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.frames.power import (
    ABOUT,
    EXPERIMENT,
    NOT_KNOWN,
    STAND_IN,
    VERSION,
    Pairs,
    frame,
    needed_frame,
    source,
    spreads,
    stored_pairs,
)
from bench.frames.selection import ACCURACY, CANDIDATES
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import check_method
from bench.harness.plan import Work
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol.metrics import by_user
from bench.protocol.variance import LEVEL, variances
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError

logger = logging.getLogger(__name__)


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = ("illmrec", "tallrec"),
    difference: float = 0.01,
    power: float = 0.8,
) -> int:
    """Tell how many users and seeds a difference of NDCG@10 between two methods needs; nothing is trained.

    The mean paired difference varies with the users, with the training runs (seeds) and with both together. How much is
    taken from what is stored of the two methods on these data, with the LLM that was run last. Where nothing is stored,
    two floors that learn nothing rank all users, and their differences stand in. What another training run changes is
    known from two stored seeds on; with fewer, numbers are for users alone. The test is two-sided, of level .05. Writes
    tables/power.csv and tables/power_needed.csv under --out.

    Args:
        settings: Data, and the store under --out.
        methods: The two methods, such as illmrec,tallrec.
        difference: The true difference of NDCG@10 that is to be found.
        power: The probability with which it is to be found.
    """
    names = [check_method(name) for name in methods]
    if len(names) != 2 or names[0] == names[1]:
        raise InputError(f"--methods {','.join(names)}: give two different methods, such as illmrec,tallrec")
    if not 0 < difference <= 1:
        raise InputError(f"--difference {difference}: give a difference of NDCG@10, above 0 and at most 1")
    if not 0 < power < 1:
        raise InputError(f"--power {power}: give a probability between 0 and 1, such as 0.8")
    bench = Bench(ABOUT, settings)
    first, second = names
    fingerprint = bench.workspace.dataset.fingerprint
    pairs = stored_pairs(bench.store.records(ACCURACY), (first, second), fingerprint=fingerprint)
    keys = [[left.key, right.key] for left, right in pairs]
    if not pairs:
        floors, pairs = _floors(bench, first, second)
        keys = [[cell.key for cell in floors]]
        if not pairs and not bench.planning:
            logger.warning("without %s and %s there is nothing to tell", *STAND_IN)
            return bench.finish()
    records = bench.run(
        [power_cell(bench.workspace, (first, second), pairs, keys=keys, difference=difference, power=power)],
        compute_power(bench.workspace, bench.store, pairs),
        work=lambda cell: Work(),
    )
    for record in records:
        _tell(record)
    table, needed = frame(records), needed_frame(records)
    bench.write(table)
    bench.write(needed, "power_needed")
    shown = table.drop(columns=["dataset", "first", "second", "from", "difference"])
    bench.show(shown, f"NDCG@10 of {first} against {second}: what is found of a difference of {difference:g}")
    bench.show(needed, f"Users needed to find it with probability {power:g}")
    return bench.finish()


def power_cell(
    workspace: Workspace,
    methods: tuple[str, str],
    pairs: Pairs,
    *,
    keys: Sequence[Sequence[str]],
    difference: float,
    power: float,
) -> Cell:
    """Return the cell of two methods and a wanted difference: everything that its numbers depend on.

    Args:
        workspace: The data.
        methods: The two methods.
        pairs: Accuracy cells whose differences are used, a pair for each seed; none where floors are yet to be ranked.
        keys: Keys of these cells, those of the floors included.
        difference: The wanted difference.
        power: The wanted probability.
    """
    first, second = methods
    dataset = workspace.dataset
    llms = [record.config["llm"] for pair in pairs for record in pair if record.config.get("llm")]
    config: dict[str, Any] = {
        "method": first,
        "seed": 0,
        "against": second,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "of": [record.method for record in pairs[0]] if pairs else list(STAND_IN),
        "cells": [list(pair) for pair in keys],
        "difference": difference,
        "power": power,
        "level": LEVEL,
    }
    if llms:
        config["llm"] = llms[0]
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config=config,
        method=first,
        seed=0,
        dataset=dataset.statistics(),
        label=f"power of {first} against {second}",
    )


def compute_power(workspace: Workspace, store: Store, pairs: Pairs) -> Callable[[Cell], Outcome]:
    """Return the function that takes variances from the ranks of accuracy cells.

    Args:
        workspace: The data, for how many users they have.
        store: Where the ranks are.
        pairs: The cells, a pair for each seed.
    """

    def compute(cell: Cell) -> Outcome:
        values = paired_differences(store, pairs)
        evaluated = values[CANDIDATES[0]].shape[1]
        if evaluated < 2:
            raise InputError(f"{cell.label}: {evaluated} user is stored of both methods, and two are needed")
        found = {candidates: asdict(variances(values[candidates])) for candidates in CANDIDATES}
        users = len(workspace.split.users("test"))
        return Outcome(results={"users": users, "evaluated": evaluated, "runs": len(pairs), **found})

    return compute


def paired_differences(store: Store, pairs: Pairs) -> dict[str, np.ndarray]:
    """Return NDCG@10 of the first method minus that of the second, by candidates.

    Args:
        store: Where the ranks are.
        pairs: Accuracy cells of two methods, a pair for each seed.

    Returns:
        Float64 [seeds, users], NaN where a seed did not evaluate a user.

    Raises:
        InputError: If ranks cannot be read.
    """
    of_seeds: dict[str, dict[int, pd.Series]] = {candidates: {} for candidates in CANDIDATES}
    for pair in pairs:
        first, second = (store.read_frame(record, "ranks") for record in pair)
        for candidates, by_seed in of_seeds.items():
            by_seed[pair[0].seed] = (by_user(first, candidates) - by_user(second, candidates)).dropna()
    return {
        candidates: pd.DataFrame(by_seed).to_numpy(dtype=np.float64).T
        for candidates, by_seed in of_seeds.items()
    }


def _floors(bench: Bench, first: str, second: str) -> tuple[list[Cell], Pairs]:
    """Rank all users by the floors that stand in; return their cells, and the pair where both have a result."""
    logger.info(
        "no seed of both %s and %s is stored on these data: differences of %s and %s stand in for theirs",
        first,
        second,
        *STAND_IN,
    )
    everyone = bench.workspace.derive(variant={}, settings=replace(bench.settings, eval_users=None))
    cells = [accuracy_cell(everyone, name, seed=bench.settings.seeds[0]) for name in STAND_IN]
    records = bench.accuracy((everyone, cell) for cell in cells)
    return cells, [(records[0], records[1])] if len(records) == len(cells) else []


def _tell(record: Record) -> None:
    """Say what the numbers come from."""
    known = True
    for candidates, spread in spreads(record).items():
        known = spread.runs is not None
        logger.info(
            "%s, %s candidates: variance between users %.3g, between training runs %s, of both together %s",
            source(record),
            candidates,
            spread.users,
            f"{spread.runs:.3g}" if known else NOT_KNOWN,
            f"{spread.both:.3g}" if known else NOT_KNOWN,
        )
    if not known:
        logger.info(
            "the variance between training runs is not known, which takes two stored seeds of both methods: "
            "numbers are for users alone"
        )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.power"))
