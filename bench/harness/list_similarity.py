"""How alike the items of recommended lists are, by the features that methods of the run score items by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

import numpy as np

from bench.frames.beyond_accuracy import EXPERIMENT, SIMILARITIES, VERSION
from bench.harness.bench import Bench
from bench.harness.workspace import Workspace
from bench.protocol.lists import intra_list_similarity
from bench.store.cell import Cell, Outcome, Record

logger = logging.getLogger(__name__)


def list_similarities(bench: Bench, accuracy: Sequence[Record]) -> list[Record]:
    """Compare the items of the lists of accuracy cells with each other, or find that done.

    They are compared by the features that a method among them scores items by, which are there. What no method reads
    is not encoded for this, and the log says so.

    Args:
        bench: The experiment at work.
        accuracy: Its accuracy cells; those without lists are left out.
    """
    read = {name for record in accuracy for name in record.config.get("features", ())}
    names = [name for name in SIMILARITIES if name in read]
    lacking = [name for name in SIMILARITIES if name not in read]
    if accuracy and lacking:
        logger.info(
            "no compared method scores items by %s features: how alike the items of lists are by them is left out",
            " or ".join(lacking),
        )
    cells: list[Cell] = []
    records: dict[str, Record] = {}
    for record in accuracy if names else ():
        if "lists" not in record.results:
            continue
        cell = similarity_cell(bench.workspace, record, names)
        # What was restored from a gallery has no lists.
        if bench.store.has_frame(record, "lists") or bench.store.find(cell) is not None:
            cells.append(cell)
            records[cell.key] = record

    @cache
    def features() -> dict[str, np.ndarray]:
        return _features(bench.workspace, names)

    def compute(cell: Cell) -> Outcome:
        lists = bench.store.read_frame(records[cell.key], "lists").to_numpy()
        return Outcome(results={"users": len(lists), "similarity": intra_list_similarity(lists, features())})

    return bench.run(cells, compute, progress=False)


def similarity_cell(workspace: Workspace, record: Record, names: Sequence[str]) -> Cell:
    """Return the cell that compares the items of an accuracy cell's lists.

    Args:
        workspace: Where the accuracy cell was computed.
        record: The accuracy cell.
        names: Feature types, of ``SIMILARITIES``.
    """
    encoders = workspace.encoder_identities(names)
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config={
            "method": record.method,
            "seed": record.seed,
            "dataset": record.config["dataset"],
            "accuracy": record.key,
            "encoders": {name: encoders[name] for name in names},
        },
        method=record.method,
        seed=record.seed,
        dataset=record.dataset,
        label=f"lists of {record.method} seed {record.seed}",
    )


def _features(workspace: Workspace, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return features by name, zeros where an item has none: what stands in for a missing picture is none."""
    tables, has_image = workspace.features(names, seed=workspace.settings.seeds[0])  # content has no seed
    values = {name: table.values for name, table in tables.items()}
    if "image" in values and not has_image.all():
        values["image"] = np.where(has_image[:, None], values["image"], 0)
    return values
