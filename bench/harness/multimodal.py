"""Collaborative models that see items' content, by name: their options, what they read, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from baselines.bm3 import BM3, BM3Options
from baselines.factor_training import FactorModel, train_factors
from baselines.generative.quantiser import quantise, side_by_side
from baselines.generative.tiger import TigerOptions
from baselines.generative.tiger_model import TigerModel
from baselines.generative.tiger_training import train_tiger
from baselines.vbpr import VBPR, VBPROptions
from bench.harness.methods import MULTIMODAL
from bench.harness.workspace import Workspace
from bench.store.cell import Cell

_OPTIONS: dict[str, type[Any]] = {"vbpr": VBPROptions, "bm3": BM3Options, "tiger": TigerOptions}


def described_multimodal(
    method: str, workspace: Workspace, *, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a model is, for a cell's configuration.

    Args:
        method: Its name.
        workspace: Data, encoders and settings.
        parameters: Of its search space, in place of its options' defaults.
    """
    options = _OPTIONS[method](**{"epochs": workspace.settings.cf_epochs, **parameters})
    features = MULTIMODAL[method]
    encoders = workspace.encoder_identities(features)
    return {
        "training": asdict(options),
        "features": list(features),
        # No text stands in for a picture here: another text encoder changes nothing where texts are not read.
        "encoders": {name: encoders[name] for name in features},
    }


def trained_multimodal(
    cell: Cell, workspace: Workspace, *, look: Callable[[int, float], None] | None = None
) -> tuple[FactorModel | TigerModel, dict[str, Any]]:
    """Return a model, trained, and what its training reported.

    Args:
        cell: Its accuracy cell.
        workspace: Data and features.
        look: Is told the number and the validation NDCG@10 of each epoch.

    Raises:
        UnsupportedError: If no item has a picture, or the features tell too few items apart for semantic IDs.
    """
    arguments: dict[str, Any] = {
        "split": workspace.split,
        "options": _OPTIONS[cell.method](**cell.config["training"]),
        "seed": cell.base_seed,
        "negatives": workspace.negatives(cell.base_seed, "valid"),
        "device": workspace.device,
        "progress": workspace.settings.progress and look is None,
        "look": look,
    }
    train = _trained_tiger if cell.method == "tiger" else _trained_factors
    model, own = train(cell, workspace, arguments)
    record = model.record
    return model, {
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "converged": model.converged,
        "parameters": model.parameters,
        "targets": record.epochs * record.targets_per_epoch,
        "seconds": record.seconds,
        "valid_ndcg@10": record.validation_ndcg10[record.best_epoch - 1],
        **own,
    }


def _trained_factors(
    cell: Cell, workspace: Workspace, arguments: Mapping[str, Any]
) -> tuple[FactorModel, dict[str, Any]]:
    split, options = arguments["split"], arguments["options"]
    tables, has_image = workspace.features(cell.config["features"], seed=cell.base_seed)
    features = {name: np.asarray(table.values) for name, table in tables.items()}

    def build() -> VBPR | BM3:
        if cell.method == "bm3":
            present = {"image": has_image, "text": np.asarray(tables["text"].present)}
            return BM3(features=features, present=present, split=split, options=options)
        return VBPR(
            features=features["image"],
            has_image=has_image,
            known=split.history_lengths("valid") > 0,
            options=options,
        )

    model = train_factors(build, name=cell.method, **arguments)
    return model, {"items_without_image": int((~has_image).sum())}


def _trained_tiger(
    cell: Cell, workspace: Workspace, arguments: Mapping[str, Any]
) -> tuple[TigerModel, dict[str, Any]]:
    tables, _ = workspace.features(cell.config["features"], seed=cell.base_seed)
    vectors = side_by_side({name: np.asarray(table.values) for name, table in tables.items()})
    options = arguments["options"].quantiser(len(vectors))
    ids = quantise(vectors, options=options, seed=cell.base_seed)
    model = train_tiger(ids.codes, **arguments)
    scorer = model.scorer
    return model, {
        "semantic_ids": {"codebook": ids.codebook, **ids.report.described()},
        "scores": "exact" if scorer.exact else "beam search",
        "tokens_per_user": scorer.tokens_per_user,
    }
