"""Floors by name: their options, what they read, and how they are fitted."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from baselines.floors.chance import Chance
from baselines.floors.content_knn import ContentKNN, ContentKNNOptions
from baselines.floors.item_knn import ItemKNN, ItemKNNOptions
from baselines.floors.popularity import Popularity
from baselines.floors.recent_popularity import RecentPopularity, RecentPopularityOptions
from baselines.floors.sequential_rules import SequentialRules, SequentialRulesOptions
from bench.harness.workspace import Workspace
from bench.protocol.evaluation import Scorer
from bench.store.cell import Cell
from illmrec.errors import UnsupportedError

_OPTIONS: dict[str, type[Any]] = {
    "item-knn": ItemKNNOptions,
    "sequential-rules": SequentialRulesOptions,
    "content-knn": ContentKNNOptions,
    "recent-popularity": RecentPopularityOptions,
}
CONTENT = ("image", "text")


def described_floor(
    method: str, workspace: Workspace, *, features: tuple[str, ...], parameters: dict[str, Any]
) -> dict[str, Any]:
    """Return what a floor is, for a cell's configuration.

    Args:
        method: Its name.
        workspace: Data and encoders.
        features: Feature types of the run; those of the items' content are read by ``content-knn``.
        parameters: Of its search space, in place of its options' defaults.
    """
    if method == "popularity":
        return {"ties": "drawn"}
    if method not in _OPTIONS:
        return {}
    described: dict[str, Any] = {"training": asdict(_OPTIONS[method](**parameters))}
    if method == "content-knn":
        read = [name for name in features if name in CONTENT]
        described |= {"features": read, "encoders": workspace.encoder_identities(read)}
    return described


def fitted_floor(cell: Cell, workspace: Workspace) -> Scorer:
    """Return a floor, fitted to the training part.

    Raises:
        UnsupportedError: If ``content-knn`` has no feature to read, or ``recent-popularity`` no times.
    """
    split, seed = workspace.split, cell.base_seed
    if cell.method == "random":
        return Chance(n_items=workspace.dataset.n_items, seed=cell.seed)
    if cell.method == "popularity":
        return Popularity(split=split, seed=cell.seed)
    options = _OPTIONS[cell.method](**cell.config["training"])
    if cell.method == "item-knn":
        return ItemKNN(split=split, options=options, seed=seed)
    if cell.method == "sequential-rules":
        return SequentialRules(split=split, options=options, seed=seed)
    if cell.method == "recent-popularity":
        return RecentPopularity(split=split, options=options, seed=seed)
    if not cell.config["features"]:
        raise UnsupportedError("content-knn reads image and text features: --features names neither")
    workspace.check_pictured(method=cell.method, scoring=cell.config["features"])
    tables, _ = workspace.features(cell.config["features"], seed=seed)
    return ContentKNN(features={name: table.values for name, table in tables.items()}, options=options)
