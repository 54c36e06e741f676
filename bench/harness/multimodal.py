"""Collaborative models that see items' content, by name: their options, what they read, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from baselines.bm3 import BM3, BM3Options
from baselines.factor_training import FactorModel, train_factors
from baselines.vbpr import VBPR, VBPROptions
from bench.harness.methods import MULTIMODAL
from bench.harness.workspace import Workspace
from bench.store.cell import Cell

_OPTIONS: dict[str, type[Any]] = {"vbpr": VBPROptions, "bm3": BM3Options}


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
) -> tuple[FactorModel, dict[str, Any]]:
    """Return a model, trained, and what its training reported.

    Args:
        cell: Its accuracy cell.
        workspace: Data and features.
        look: Is told the number and the validation NDCG@10 of each epoch.

    Raises:
        UnsupportedError: If no item has a picture.
    """
    split, options = workspace.split, _OPTIONS[cell.method](**cell.config["training"])
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

    model = train_factors(
        build,
        name=cell.method,
        split=split,
        options=options,
        seed=cell.base_seed,
        negatives=workspace.negatives(cell.base_seed, "valid"),
        device=workspace.device,
        progress=workspace.settings.progress and look is None,
        look=look,
    )
    record = model.record
    return model, {
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "converged": model.converged,
        "parameters": model.parameters,
        "targets": record.epochs * record.targets_per_epoch,
        "seconds": record.seconds,
        "valid_ndcg@10": record.validation_ndcg10[record.best_epoch - 1],
        "items_without_image": int((~has_image).sum()),
    }
