"""Table 1 of the paper: the methods side by side under one protocol."""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd

from bench.harness.accuracy import accuracy_cell, compute_accuracy
from bench.harness.methods import FEATURES, METHODS, check_features, check_method
from bench.harness.runner import run_cells
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.results import accuracy_rows, build_report, print_table, write_table
from bench.store.store import Store
from illmrec.command_line import run

COLUMNS = (
    "dataset", "method", "seed", "candidates", "users",
    "hit@5", "ndcg@5", "hit@10", "ndcg@10", "hit@20", "ndcg@20", "mrr",
)  # fmt: skip


def main(
    settings: Settings, *, methods: tuple[str, ...] = METHODS, features: tuple[str, ...] = FEATURES
) -> int:
    """Train and evaluate methods under one protocol (Table 1), each once per seed.

    Writes tables/comparison.csv under --out. Trained models are shared with the ablation.

    Args:
        settings: Data, model and training.
        methods: illmrec, illmrec+, tallrec, trsr, full-description, title, sasrec, gru4rec, popularity, random, or
            your own representation as package.module:Class.
        features: Feature types that score items (RERI) in LLM methods; without RecBole, image,text.
    """
    names = [check_method(name) for name in methods]
    scoring = check_features(features)
    settings = settings.resolved()
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    cells = [
        accuracy_cell(workspace, name, seed=seed, features=scoring)
        for seed in settings.seeds
        for name in names
    ]
    done = run_cells(
        cells,
        compute_accuracy(workspace, store),
        store,
        overwrite=settings.overwrite,
        progress=settings.progress,
    )
    rows: list[dict[str, Any]] = []
    for record in done.records:
        labels = {"dataset": workspace.dataset.name, "method": record.method, "seed": record.seed}
        rows += accuracy_rows(record, {**labels, "users": record.results["users"]})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_table(table, store, "comparison")
    mean = table.groupby(["candidates", "method"], sort=False)[list(COLUMNS[5:])].mean()
    mean = mean.sort_values(["candidates", "ndcg@10"], ascending=False).reset_index()
    print_table(mean, title=f"Methods on {workspace.dataset.name}")
    if settings.report:
        build_report(settings.out)
    return done.status


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.comparison"))
