"""Table 2 of the paper, what RISA and each feature type are worth; and what the switches to the authors' code are."""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from bench.frames import released_code
from bench.frames.ablation import ABOUT, METRICS, ROWS, frame, significance
from bench.frames.selection import OURS
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import check_llm_methods, learns_risa
from bench.harness.pictures import has_pictures
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Record
from bench.store.results import published
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError, UnsupportedError, nearest
from illmrec.training.options import preset_options

RELEASED = "released"
"""Rows of the walk from the paper's settings to the authors' code, in place of the table's."""

logger = logging.getLogger(__name__)


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
                raise InputError(f"--rows {text}: unknown row '{name}': {nearest(name, [*names, RELEASED])}")
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

    With --rows released the rows are a walk from the paper's settings to those of the authors' released code. Each
    switches one thing more: learning rate; its decay and the clipping of gradients; batch size; number of epochs, of
    which the last is kept; the mean of the feature types' losses; negatives from the history; trained word embeddings;
    form of adaptors; form and widths of projectors; dot products as they are; raw inputs; short windows. The first row
    has the settings of --preset paper, the last one those of --preset released-code, whatever --preset says: that
    chooses data and LLM alone, and smoke its few steps. p is that of a row against the one before. Writes
    tables/ablation_released.csv.

    Args:
        settings: Data, model and training.
        methods: LLM methods to train without RISA and with each set of features; the paper's rows are I-LLMRec's.
        rows: Rows of the table: a-e, or some, such as a,c,e. (a) image only, no RISA; (b) a + RISA; (c) RISA + CF;
            (d) RISA + image + CF; (e) RISA + image + CF + text. Or released, the walk to the authors' code.
    """
    chosen = check_llm_methods(methods, why="are trained by RISA", by_features=True)
    if rows.strip().lower() == RELEASED:
        return _walk(settings, chosen)
    names = parse_rows(rows)
    bench = Bench(ABOUT, settings)
    names = scored_rows(bench.workspace, names)
    # Nothing learns from RISA: the cell with it stands for both rows, as in the comparison.
    untaught = [method for method in chosen if not learns_risa(method, bench.settings.training())]
    cells = {
        (method, name, seed): accuracy_cell(
            bench.workspace,
            method,
            seed=seed,
            risa=ROWS[name][0] or method in untaught,
            features=ROWS[name][1],
        )
        for seed in bench.settings.seeds
        for method in chosen
        for name in names
    }
    if untaught and {"a", "b"} <= set(names):
        logger.warning(
            "%s: no adaptor learns from RISA%s; rows (a) and (b) are one model",
            ", ".join(untaught),
            " without --warm-up" if settings.strategy == "cached" else "",
        )
    records = {record.key: record for record in bench.accuracy(cells.values())}
    found = [(place, records[cell.key]) for place, cell in cells.items() if cell.key in records]
    table = frame((row, record) for (_, row, _), record in found)
    bench.write(table)
    p_values = _p_values(((row, record) for (_, row, _), record in found), significance, bench.store)
    bench.show(
        _beside_paper(table, p_values),
        f"Ablation on {bench.workspace.dataset.name} (paper: Table 2, Sport and Art)",
    )
    return bench.finish()


def scored_rows(workspace: Workspace, rows: list[str]) -> list[str]:
    """Return the rows whose features the data have: those without image features where no item has an image.

    Raises:
        UnsupportedError: If there is none.
    """
    left = [name for name in rows if "image" not in ROWS[name][1]]
    lacking = [f"({name})" for name in rows if name not in left]
    if not lacking or has_pictures(workspace.dataset):
        return rows
    reason = (
        f"{workspace.dataset.name}: no item has an image, by which rows {', '.join(lacking)} score items; row (c) "
        "needs none, with --rows c and --methods that show none, and python -m bench.comparison --features cf,text "
        "has the features that there are"
    )
    if not left:
        raise UnsupportedError(reason)
    logger.warning("left out: %s", reason)
    return left


def walked(bench: Bench) -> Iterator[tuple[str, Workspace]]:
    """Yield the rows of the walk to the authors' code, each with the workspace whose settings are the row's.

    Raises:
        InputError: If the user gives an option that the rows switch.
    """
    settings = bench.settings
    given = [name for name in released_code.SWITCHES if getattr(settings, name) is not None]
    if given or settings.tuned:
        option = (given or ["tuned"])[0].replace("_", "-")
        raise InputError(f"--{option}: --rows {RELEASED} has rows that switch it; leave it out")
    steps = settings.max_steps or preset_options(settings.preset).max_steps
    for row in released_code.WALK:
        changes = released_code.switched_up_to(row)
        own = replace(settings, preset="paper", max_steps=steps, **changes)
        variant = {"kind": released_code.KIND, "of": bench.workspace.dataset.fingerprint, "row": row}
        yield row, bench.workspace.derive(variant=variant, settings=own)


def _walk(settings: Settings, methods: Sequence[str]) -> int:
    """Train and evaluate the rows from the paper's settings to the authors' code."""
    bench = Bench(ABOUT, settings)
    places = [
        (place, accuracy_cell(place, method, seed=seed))
        for _, place in walked(bench)
        for seed in bench.settings.seeds
        for method in methods
    ]
    records = bench.accuracy(places)
    table = released_code.frame(records, bench.store)
    bench.write(table, f"{ABOUT.name}_{RELEASED}")
    p_values = _p_values(released_code.cells(records), released_code.significance, bench.store)
    keys = ["method", "row", "switched", "candidates"]
    means = table.groupby(keys, sort=False)[list(METRICS)].mean().reset_index()
    at = zip(means["method"], means["row"], means["candidates"], strict=True)
    means["p, ndcg@10 vs the row before"] = [p_values.get(place, float("nan")) for place in at]
    bench.show(means, f"From the paper's settings to the authors' code on {bench.workspace.dataset.name}")
    return bench.finish()


def _p_values(
    found: Iterable[tuple[str, Record]],
    test: Callable[[Mapping[str, Sequence[Record]], Store], Mapping[tuple[str, str], float]],
    store: Store,
) -> dict[tuple[str, str, str], float]:
    """Return p values by method, row and kind of candidates: a test's over the rows of each method."""
    rows: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row, record in found:
        rows[record.method][row].append(record)
    return {(method, *at): p for method, own in rows.items() for at, p in test(own, store).items()}


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
    paper = published("ablation_table2")
    wide = paper.pivot_table(index="row", columns=["dataset", "metric"], values="value")
    wide.columns = [f"{dataset} {metric}" for dataset, metric in wide.columns]
    # The paper's table is I-LLMRec's, with sampled candidates.
    printed = (mean["method"] == OURS) & (mean["candidates"] == "sampled")
    beside = mean.join(wide, on="row")
    beside.loc[~printed, wide.columns] = float("nan")
    return beside


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.ablation"))
