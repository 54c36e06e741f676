"""LC-Rec by name: what it is, and how it is trained or found trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from baselines.generative.lcrec import LCRec
from baselines.generative.lcrec_training import LCRecOptions, LCRecTrainer
from baselines.generative.quantiser import quantise, side_by_side, usual_codebook
from bench.harness.workspace import Workspace
from bench.harness.writing import BEAMS, own_backbone, trained_or_found, trainer_arguments
from bench.meters.drawn_codes import drawn_codes
from bench.store.cell import Cell
from illmrec.training import TrainingOptions


def joint_options(options: TrainingOptions) -> TrainingOptions:
    """Return how a method without projectors is trained: where others train those on stored states, jointly.

    Args:
        options: How LLM methods are trained.
    """
    if options.cached is not None:
        options = replace(options, strategy=options.tunes, cached=None)
    options = replace(options, adaptor_start="drawn")
    return options if options.strategy == "two-stage" else replace(options, risa=False)


def described_lcrec(
    workspace: Workspace, *, training: TrainingOptions | None, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a model is, for a cell's configuration; ``beams`` of its evaluation are told apart.

    Args:
        workspace: Data, encoders, LLM and settings.
        training: How LLM methods are trained; None as the settings say.
        parameters: Of its search space, in place of defaults.
    """
    settings = workspace.settings
    own = {field.name for field in fields(LCRecOptions)}
    options = LCRecOptions(**{name: value for name, value in parameters.items() if name in own})
    described = joint_options(training or settings.training()).described()
    described |= {name: value for name, value in parameters.items() if name in described}
    return {
        "lcrec": asdict(options),
        "training": described,
        "llm": workspace.backbone.describe(),
        "features": list(options.features),
        "encoders": {
            name: identity
            for name, identity in workspace.encoder_identities(options.features).items()
            if name in options.features
        },
        "history_length": parameters.get("history_length", settings.history_length),
        "context": settings.context,
    }


def described_untrained_lcrec() -> dict[str, Any]:
    """Return what cost depends on, for a cell's configuration."""
    return {**asdict(LCRecOptions()), "beams": BEAMS}


def untrained_lcrec(workspace: Workspace, *, history_length: int) -> LCRec:
    """Return a model with drawn codes: cost does not depend on which they are.

    Args:
        workspace: Data and LLM.
        history_length: Items of history that are read.
    """
    codebook = usual_codebook(workspace.dataset.n_items)
    return LCRec(
        backbone=workspace.backbone,
        codes=drawn_codes(workspace.dataset.n_items, codebook),
        codebook=codebook,
        history_length=history_length,
        beams=BEAMS,
        context=workspace.settings.context,
    ).eval()


def built_lcrec(cell: Cell, workspace: Workspace) -> tuple[LCRec, dict[str, Any]]:
    """Return the untrained model of a cell, and how its items became codes.

    Raises:
        UnsupportedError: If the quantiser collapses, or there are no such features.
    """
    config = cell.config
    lcrec = LCRecOptions(**config["lcrec"])
    tables, _ = workspace.features(lcrec.features, seed=cell.base_seed)
    features = {name: np.asarray(tables[name].values) for name in lcrec.features}
    ids = quantise(side_by_side(features), options=lcrec.quantiser(), seed=cell.base_seed)
    model = LCRec(
        backbone=own_backbone(cell, workspace),
        codes=ids.codes,
        codebook=ids.codebook,
        history_length=config["history_length"],
        beams=config["evaluation"].get("beams", BEAMS),
        context=config["context"],
        tied=lcrec.tied,
        seed=cell.base_seed,
    )
    model.engine.checkpointing = workspace.settings.checkpointing
    return model, {"codebook": ids.codebook, **ids.report.described()}


def lcrec_trainer(
    cell: Cell,
    workspace: Workspace,
    model: LCRec,
    *,
    checkpoint: Path | None = None,
    look: Callable[[int, float], None] | None = None,
) -> LCRecTrainer:
    """Return what trains the model of a cell.

    Args:
        cell: The cell.
        workspace: Data.
        model: What :func:`built_lcrec` returned.
        checkpoint: Folder for the state of an unfinished training, or ``None``.
        look: Is told the number and the validation NDCG@10 of each epoch.
    """
    lcrec = LCRecOptions(**cell.config["lcrec"])
    return LCRecTrainer(
        model=model, lcrec=lcrec, **trainer_arguments(cell, workspace, checkpoint=checkpoint, look=look)
    )


def trained_lcrec(cell: Cell, workspace: Workspace, directory: Path) -> tuple[LCRec, dict[str, Any]]:
    """Return a model, trained or found in a folder, and what its training reported.

    Args:
        cell: Its accuracy cell.
        workspace: Data, features and LLM.
        directory: Where its parameters are kept.
    """
    model, codes = built_lcrec(cell, workspace)
    training = trained_or_found(
        model,
        lambda checkpoint: lcrec_trainer(cell, workspace, model, checkpoint=checkpoint),
        workspace=workspace,
        directory=directory,
        about={"codes": codes},
    )
    return model, training
