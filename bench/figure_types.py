"""Appendix E.11 of the paper: what the pictures show that a method recommends well from, and badly."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from bench.changes.changed_images import images_of
from bench.frames.figure_types import ABOUT, EXPERIMENT, GROUPS, frame
from bench.harness.accuracy import accuracy_cell
from bench.harness.bench import Bench
from bench.harness.methods import check_llm_methods
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.data.dataset import Dataset, ImageSource
from illmrec.data.splits import Split
from illmrec.errors import InputError

logger = logging.getLogger(__name__)

VERSION = 1
TILE = 160
"""Longer side of a thumbnail in pixels."""


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = ("illmrec",),
    top: int = 5,
    cutoff: int = 10,
    candidates: Literal["sampled", "full"] = "sampled",
    min_users: int = 10,
) -> int:
    """Show the items that are most frequent in the histories of users whose test item was hit, and missed (E.11).

    Items are ranked by how often they occur in the histories of the group, as in the paper, so that popular items lead
    in both; the lift beside them is how many times as frequent an item is as in the other group. The ranks are those
    of the comparison. Writes tables/figure_types.csv under --out; the report draws the pictures of these items.

    Args:
        settings: Data, model and training.
        methods: LLM methods; the report shows illmrec, or else the first of them, the table all.
        top: Items of each group.
        cutoff: A user is hit whose test item, or one of several, is among so many first candidates.
        candidates: sampled or full.
        min_users: Users that each group needs.
    """
    names = check_llm_methods(methods, why="read the items of a history")
    if not names:
        raise InputError("--methods: give at least one, such as illmrec")
    for option, value in (("top", top), ("cutoff", cutoff), ("min-users", min_users)):
        if value < 1:
            raise InputError(f"--{option} {value}: must be at least 1")
    bench = Bench(ABOUT, settings)
    workspace, store = bench.workspace, bench.store
    images_of(workspace.dataset, experiment=EXPERIMENT)
    trained = bench.accuracy(
        accuracy_cell(workspace, name, seed=seed) for seed in bench.settings.seeds for name in names
    )
    ranked = {record.key: record for record in trained}
    cells = [figure_cell(record, top=top, cutoff=cutoff, candidates=candidates) for record in trained]
    for cell in cells:
        check_groups(cell, store, ranked, min_users=min_users)
    records = bench.run(
        cells,
        compute_figures(workspace, store, ranked),
        # The ranks were found or computed just now, and counting is cheap.
        overwrite="only-missing" if bench.settings.overwrite == "never" else None,
    )
    table = frame(records, store)
    bench.write(table)
    shown = ["method", "seed", "group", "place", "title", "frequency", "lift"]
    bench.show(table[shown], f"Most frequent items in histories on {workspace.dataset.name} (paper: E.11)")
    return bench.finish()


def figure_cell(record: Record, *, top: int, cutoff: int, candidates: str) -> Cell:
    """Return the cell that describes the users of an accuracy cell."""
    config: dict[str, Any] = {
        "method": record.method,
        "seed": record.seed,
        "dataset": record.config["dataset"],
        "llm": record.config["llm"],
        "accuracy": record.key,
        "history_length": record.config["history_length"],
        "candidates": candidates,
        "cutoff": cutoff,
        "top": top,
        "thumbnail": TILE,
    }
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config=config,
        method=record.method,
        seed=record.seed,
        dataset=record.dataset,
        label=f"figure types of {record.method} seed {record.seed}",
    )


def groups_of_users(cell: Cell, store: Store, ranked: Mapping[str, Record]) -> dict[str, np.ndarray]:
    """Return the ids of the users of each group, str objects [users], from the stored ranks."""
    ranks = store.read_frame(ranked[cell.config["accuracy"]], "ranks")
    best = ranks.groupby("user_id", sort=False)[f"rank_{cell.config['candidates']}"].min()
    hit = (best <= cell.config["cutoff"]).to_numpy()
    users = best.index.to_numpy(dtype=object)
    return dict(zip(GROUPS, (users[hit], users[~hit]), strict=True))


def check_groups(cell: Cell, store: Store, ranked: Mapping[str, Record], *, min_users: int) -> None:
    """Refuse groups that are too small to say anything.

    Raises:
        InputError: If one has fewer than ``min_users`` users.
    """
    for group, users in groups_of_users(cell, store, ranked).items():
        if len(users) < min_users:
            raise InputError(
                f"{cell.config['dataset']['name']}: {cell.method} with seed {cell.seed} has {len(users)} users "
                f"{group} at {cell.config['cutoff']}, and {min_users} are needed; take more users (--eval-users, "
                "--max-users), another --cutoff or a lower --min-users"
            )


def compute_figures(
    workspace: Workspace, store: Store, ranked: Mapping[str, Record]
) -> Callable[[Cell], Outcome]:
    """Return the function that computes a cell of this experiment.

    Results are the numbers of users of each group; frames are ``items`` (the columns of ``bench.frames.figure_types``
    from group on) and ``thumbnails`` (item_id, png).

    Args:
        workspace: The data.
        store: The store with the ranks.
        ranked: Accuracy cells by key.
    """
    dataset = workspace.dataset

    def compute(cell: Cell) -> Outcome:
        config, groups = cell.config, groups_of_users(cell, store, ranked)
        n_users = {group: len(users) for group, users in groups.items()}
        index = pd.Index(dataset.user_ids)
        counts = {
            group: occurrences(workspace.split, index.get_indexer(users), max_items=config["history_length"])
            for group, users in groups.items()
        }
        images = images_of(dataset, experiment=EXPERIMENT)
        tables, shown = [], []
        for group, other in (GROUPS, GROUPS[::-1]):
            rows = most_frequent(counts[group], top=config["top"])
            shown.append(rows)
            frequency = counts[group][rows] / n_users[group]
            elsewhere = counts[other][rows] / n_users[other]
            tables.append(
                pd.DataFrame(
                    {
                        "group": group,
                        "users": n_users[group],
                        "place": 1 + np.arange(len(rows)),
                        "item_id": dataset.items["item_id"].to_numpy()[rows],
                        "title": dataset.items["title"].to_numpy()[rows],
                        "occurrences": counts[group][rows],
                        "frequency": frequency,
                        "other_frequency": elsewhere,
                        "lift": frequency / np.where(elsewhere > 0, elsewhere, np.nan),
                        "image": images.available[rows],
                    }
                )
            )
        pictured = [row for row in np.unique(np.concatenate(shown)).tolist() if images.available[row]]
        return Outcome(
            results=n_users,
            frames={
                "items": pd.concat(tables, ignore_index=True),
                "thumbnails": _thumbnails(dataset, images, pictured),
            },
        )

    return compute


def occurrences(split: Split, users: np.ndarray, *, max_items: int) -> np.ndarray:
    """Count every item in the histories that precede some users' test items.

    Args:
        split: The histories.
        users: Int [n], row numbers.
        max_items: So many of the last items of each history are read.

    Returns:
        Int64 [n_items]; an item that a user has twice counts twice.
    """
    dataset, ends = split.dataset, split.dataset.offsets[:-1] + split.history_lengths("test")
    places = ends[users][:, None] - 1 - np.arange(max_items)
    items = dataset.sequence_items[places[places >= dataset.offsets[:-1][users][:, None]]]
    return np.bincount(items, minlength=dataset.n_items)


def most_frequent(counts: np.ndarray, *, top: int) -> np.ndarray:
    """Return the rows of the highest counts above 0, int64 [at most top], highest first; ties in catalogue order."""
    order = np.argsort(-counts, kind="stable")[:top]
    return order[counts[order] > 0]


def _thumbnails(dataset: Dataset, images: ImageSource, rows: Sequence[int]) -> pd.DataFrame:
    """Return item_id and png, the bytes of a PNG file whose longer side is at most ``TILE``, of some items."""
    pictures = []
    for row in rows:
        small = images.read(row).copy()
        small.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
        content = io.BytesIO()
        small.save(content, format="PNG", optimize=True)
        pictures.append(content.getvalue())
    return pd.DataFrame(
        {"item_id": dataset.items["item_id"].to_numpy()[list(rows)], "png": pd.Series(pictures, dtype=object)}
    )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.figure_types"))
