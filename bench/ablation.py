"""Table 2 of the paper: what RISA and each feature type of RERI are worth."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.frames.selection import OURS
from bench.harness.accuracy import accuracy_cell, compute_accuracy
from bench.harness.methods import FEATURES, check_llm_methods, trains_risa
from bench.harness.runner import run_cells
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol.metrics import per_user
from bench.protocol.statistics import paired_permutation
from bench.store.cell import Record
from bench.store.results import accuracy_rows, build_report, print_table, published, write_table
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError, nearest

logger = logging.getLogger(__name__)

ROWS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "a": (False, ("image",)),
    "b": (True, ("image",)),
    "c": (True, ("cf",)),
    "d": (True, ("image", "cf")),
    "e": (True, ("image", "cf", "text")),
}
"""Per row of Table 2: is RISA trained, and which feature types score items."""

METRICS = ("hit@5", "ndcg@5", "hit@10", "ndcg@10")

COLUMNS = (
    "dataset", "method", "row", "risa", "image", "cf", "text", "seed", "candidates", *METRICS,
)  # fmt: skip


def parse_rows(text: str) -> list[str]:
    """Return the rows of ``a-e``, ``a,c,e`` or a mixture, in the table's order.

    Raises:
        InputError: If a row is unknown or a range is empty.
    """
    chosen: set[str] = set()
    names = list(ROWS)
    for part in text.lower().replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        for name in (first, last) if dash else (first,):
            if name not in ROWS:
                raise InputError(f"--rows {text}: unknown row '{name}': {nearest(name, names)}")
        stop = last if dash else first
        if names.index(stop) < names.index(first):
            raise InputError(f"--rows {text}: '{part}' is empty; write '{stop}-{first}'")
        chosen.update(names[names.index(first) : names.index(stop) + 1])
    return [name for name in names if name in chosen]


def main(settings: Settings, *, methods: tuple[str, ...] = (OURS,), rows: str = "a-e") -> int:
    """Train and evaluate rows of the ablation (Table 2), each once per seed, and print them beside the paper's.

    With several seeds, mean and standard deviation over them are printed. p is that of a paired permutation test over
    users between the NDCG@10 of a row, averaged over seeds, and of the last row that is run. Where a frozen LLM reads
    no slots, nothing learns from RISA: rows (a) and (b) of such a method are one model, trained once. Writes
    tables/ablation.csv under --out. What is stored already is not computed again; a run that was interrupted goes on
    where it stopped.

    Args:
        settings: Data, model and training.
        methods: LLM methods to train without RISA and with each set of features; the paper's rows are I-LLMRec's.
        rows: Rows of the table: a-e, or some, such as a,c,e. (a) image only, no RISA; (b) a + RISA; (c) RISA + CF;
            (d) RISA + image + CF; (e) RISA + image + CF + text.
    """
    chosen = check_llm_methods(methods, why="are trained by RISA")
    names = parse_rows(rows)
    settings = settings.resolved()
    store = Store(settings.out)
    store.check_writable()
    workspace = Workspace(settings)
    cells = {
        (method, name, seed): accuracy_cell(
            workspace, method, seed=seed, risa=trains_risa(method, ROWS[name][0]), features=ROWS[name][1]
        )
        for seed in settings.seeds
        for method in chosen
        for name in names
    }
    untaught = [method for method in chosen if trains_risa(method, False)]
    if untaught and {"a", "b"} <= set(names):
        logger.info("%s: no adaptor learns from RISA; rows (a) and (b) are one model", ", ".join(untaught))
    done = run_cells(
        cells.values(),
        compute_accuracy(workspace, store),
        store,
        overwrite=settings.overwrite,
        progress=settings.progress,
    )
    records = {record.key: record for record in done.records}
    table_rows: list[dict[str, Any]] = []
    cells_of_rows: dict[str, dict[str, list[Record]]] = {method: {} for method in chosen}
    for (method, name, seed), cell in cells.items():
        if cell.key in records:
            risa, features = ROWS[name]
            ticks = {"risa": risa, **{feature: feature in features for feature in FEATURES}}
            labels = {
                "dataset": workspace.dataset.name,
                "method": method,
                "row": name,
                **ticks,
                "seed": seed,
            }
            table_rows += accuracy_rows(records[cell.key], labels)
            cells_of_rows[method].setdefault(name, []).append(records[cell.key])
    table = pd.DataFrame(table_rows, columns=list(COLUMNS)).sort_values(
        ["seed", "candidates", "row"], ascending=[True, False, True], kind="stable"
    )
    write_table(table, store, "ablation")
    print_table(
        _beside_paper(
            table,
            {
                (method, *place): p
                for method, rows_of_method in cells_of_rows.items()
                for place, p in significance(rows_of_method, store).items()
            },
        ),
        title=f"Ablation on {workspace.dataset.name} (paper: Table 2, Sport and Art)",
    )
    if settings.report:
        build_report(settings.out)
    return done.status


def significance(rows: Mapping[str, Sequence[Record]], store: Store) -> dict[tuple[str, str], float]:
    """Return the p value of each row against the last one, by row and kind of candidates.

    Args:
        rows: Accuracy cells by row of the table, one per seed.
        store: The store that holds their ranks.

    Returns:
        Two-sided p of the paired permutation test on NDCG@10: each user's mean over the seeds that both rows have.
        Pairs that no seed has in common have no value.
    """
    if len(rows) < 2:
        return {}
    found = {}
    for candidates in ("sampled", "full"):
        values = {name: _ndcg(records, store, candidates) for name, records in rows.items()}
        *others, last = sorted(values)
        for name in others:
            both = pd.concat([values[name], values[last]], axis="columns", join="inner")
            if not both.empty:
                means = both.groupby(level="user_id").mean()
                found[name, candidates] = paired_permutation(means.iloc[:, 0], means.iloc[:, 1])
    return found


def _ndcg(records: Sequence[Record], store: Store, candidates: str) -> pd.Series:
    """Return NDCG@10 by seed and user_id."""
    parts = {}
    for record in records:
        ranks = store.read_frame(record, "ranks").set_index("user_id")[f"rank_{candidates}"]
        parts[record.seed] = pd.Series(per_user(ranks.to_numpy())["ndcg@10"], index=ranks.index)
    return pd.concat(parts, names=["seed"])


def _beside_paper(table: pd.DataFrame, p_values: Mapping[tuple[str, str, str], float]) -> pd.DataFrame:
    """Return means over seeds, ± their standard deviation, with p and the paper's Hit@5 and NDCG@5 of the same rows."""
    keys = ["method", "row", "risa", "image", "cf", "text", "candidates"]
    by_row = table.groupby(keys, sort=False)[list(METRICS)]
    mean = by_row.mean().reset_index()
    places = list(zip(mean["method"], mean["row"], mean["candidates"], strict=True))
    if table["seed"].nunique() > 1:
        deviation = by_row.std(ddof=1).reset_index()
        for metric in METRICS:
            pairs = zip(mean[metric], deviation[metric], strict=True)
            mean[metric] = [f"{value:.4f} ± {spread:.4f}" for value, spread in pairs]
    if p_values:
        mean[f"p, ndcg@10 vs ({max(table['row'])})"] = [p_values.get(place, float("nan")) for place in places]
    paper = published("table2")
    wide = paper.pivot_table(index="row", columns=["dataset", "metric"], values="value")
    wide.columns = [f"{dataset} {metric}" for dataset, metric in wide.columns]
    # The paper's table is I-LLMRec's, with sampled candidates.
    printed = (mean["method"] == OURS) & (mean["candidates"] == "sampled")
    beside = mean.join(wide, on="row")
    beside.loc[~printed, wide.columns] = float("nan")
    return beside


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.ablation"))
