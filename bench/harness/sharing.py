"""What cells share, so that on many workers it is computed once and before them: features, models, stored states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.cluster.task import Needs
from bench.harness.training import trained_on
from bench.harness.workspace import Workspace
from bench.store.cell import Cell, content
from illmrec.assembly import load_representation
from illmrec.features.grids import image_vectors
from illmrec.files import hash_json

SUMMARIES = "summaries"
_TRAINED = ("cf", "aligned")
_OF_PROJECTORS = ("learning_rate", "schedule", "clip", "epochs", "batch_size", "loss", "negatives_from")
"""Training options that change projectors alone where nothing is trained before states are stored."""


def needs_of(cell: Cell, resources: Mapping[str, float]) -> Needs:
    """Return what a cell needs of others, read from its configuration.

    Args:
        cell: The cell.
        resources: What one that runs an encoder or an LLM asks for of its worker.
    """
    config = cell.config
    heavy = "llm" in config or "encoders" in config
    return Needs(
        parts=_parts(cell) if "representation" in config and "features" in config else {},
        group=_group(cell) if "representation" in config and "training" in config else "",
        resources=dict(resources) if heavy else {},
    )


def prepare(place: Workspace, cell: Cell, part: str) -> None:
    """Compute something that cells share and leave it in the cache.

    Args:
        place: Data, features and LLM of the cell.
        cell: One of the cells that share it.
        part: Its name, one of those that :func:`needs_of` returned for the cell.
    """
    if part == SUMMARIES:
        _ = place.summarised
    else:
        place.features((part,), seed=cell.base_seed)


def _parts(cell: Cell) -> dict[str, str]:
    """Return names and keys of the features and summaries that an LLM method reads."""
    config = content(cell.config)
    representation = load_representation(config["representation"])
    names = dict.fromkeys((*representation.slots, *config["features"]))
    parts = {}
    for name in names:
        if name in _TRAINED:
            trained = {kind: config.get(kind) for kind in ("cf", "alignment", "negatives")}
            identity: list[Any] = [config["dataset"], trained, cell.base_seed]
        elif name == "text" or image_vectors(name):
            identity = [config["dataset"], config["encoders"]]
        else:
            continue
        parts[name] = hash_json([name, *identity])
    if config.get("summarizer"):
        parts[SUMMARIES] = hash_json([SUMMARIES, config["dataset"], config["summarizer"]])
    return parts


def _group(cell: Cell) -> str:
    """Return what stands for the model that a cell evaluates, or for the states that its projectors read."""
    config = {name: value for name, value in content(cell.config).items() if name != "evaluation"}
    config["dataset"] = trained_on(config["dataset"])
    cached = config["training"].get("cached")
    if cached is None:
        return hash_json(["model", config])
    shared = {name: value for name, value in cached.items() if name != "projector_seed"}
    config |= {"training": {**config["training"], "cached": shared}, "seed": cell.base_seed}
    config.pop("base_seed", None)
    if not cached.get("warm_up"):
        # Nothing is trained before states are stored, so that heads and how projectors learn do not matter to them.
        config.pop("features")
        training = {name: value for name, value in config["training"].items() if name not in _OF_PROJECTORS}
        config["training"] = training
    return hash_json(["states", config])
