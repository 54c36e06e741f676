"""Collaborative models that see items' content, by name: their options, what they read, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.bm3 import BM3, BM3Options
from baselines.factor_training import FactorModel, FactorScorer, train_factors
from baselines.generative.quantiser import quantise, side_by_side
from baselines.generative.tiger import Tiger, TigerOptions
from baselines.generative.tiger_model import TigerModel, TigerScorer
from baselines.generative.tiger_training import train_tiger
from baselines.vbpr import VBPR, VBPROptions
from bench.harness.methods import MULTIMODAL
from bench.harness.workspace import Workspace
from bench.meters.drawn_codes import drawn_codes
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
    cell: Cell,
    workspace: Workspace,
    *,
    checkpoint: Path | None = None,
    look: Callable[[int, float], None] | None = None,
) -> tuple[FactorModel | TigerModel, dict[str, Any]]:
    """Return a model, trained, and what its training reported.

    Args:
        cell: Its accuracy cell.
        workspace: Data and features.
        checkpoint: Folder for the state of an unfinished training, or ``None``; it is left there at the end.
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
        "checkpoint": checkpoint,
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


def untrained_multimodal(
    method: str, config: Mapping[str, Any], workspace: Workspace
) -> FactorScorer | TigerScorer:
    """Return a model with parameters as they are drawn, which costs what a trained one costs.

    Args:
        method: Its name.
        config: What :func:`described_multimodal` returned.
        workspace: Data and features.

    Raises:
        UnsupportedError: If no item has a picture.
    """
    options = _OPTIONS[method](**config["training"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if method != "tiger":
            build, _ = _factor_network(method, workspace, config["features"], options, seed=0)
            return FactorScorer(build().to(workspace.device))
        n_items = workspace.dataset.n_items
        codes = drawn_codes(n_items, options.quantiser(n_items).codebook, levels=options.levels)
        return TigerScorer(Tiger(codes=codes, options=options).to(workspace.device), options=options)


def _trained_factors(
    cell: Cell, workspace: Workspace, arguments: Mapping[str, Any]
) -> tuple[FactorModel, dict[str, Any]]:
    build, without_image = _factor_network(
        cell.method, workspace, cell.config["features"], arguments["options"], seed=cell.base_seed
    )
    model = train_factors(build, name=cell.method, **arguments)
    return model, {"items_without_image": without_image}


def _factor_network(
    method: str, workspace: Workspace, names: Sequence[str], options: Any, *, seed: int
) -> tuple[Callable[[], VBPR | BM3], int]:
    """Return what builds an untrained network, and of how many items there is no picture."""
    split = workspace.split
    tables, has_image = workspace.features(names, seed=seed)
    features = {name: np.asarray(table.values) for name, table in tables.items()}
    without_image = int((~has_image).sum())
    if method == "bm3":
        present = {"image": has_image, "text": np.asarray(tables["text"].present)}
        return partial(BM3, features=features, present=present, split=split, options=options), without_image
    known = split.history_lengths("valid") > 0
    image = features["image"]
    return partial(VBPR, features=image, has_image=has_image, known=known, options=options), without_image


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
