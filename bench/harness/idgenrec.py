"""IDGenRec by name: what it is, and how it is trained or found trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from baselines.generative.identifiers import COLUMNS, keyword_identifiers
from baselines.generative.idgenrec import IDGenRec
from baselines.generative.idgenrec_training import IDGenRecOptions, IDGenRecTrainer, idgenrec_options
from bench.harness.workspace import Workspace
from bench.harness.writing import BEAMS, own_backbone, trained_or_found, trainer_arguments
from bench.store.cell import Cell
from illmrec.training import TrainingOptions


def described_idgenrec(
    workspace: Workspace, *, training: TrainingOptions | None, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a model is, for a cell's configuration.

    Args:
        workspace: Data, LLM and settings.
        training: How LLM methods are trained; None as the settings say.
        parameters: Of its search space, in place of defaults.
    """
    settings = workspace.settings
    own = {field.name for field in fields(IDGenRecOptions)}
    options = IDGenRecOptions(**{name: value for name, value in parameters.items() if name in own})
    trained = idgenrec_options(training or settings.training())
    rate = parameters.get("llm_learning_rate", trained.learning_rate_of_llm())
    return {
        "idgenrec": asdict(options),
        "training": replace(trained, llm_learning_rate=rate).described(),
        "llm": workspace.backbone.describe(),
        "columns": list(COLUMNS),
        "history_length": parameters.get("history_length", settings.history_length),
        "context": settings.context,
    }


def built_idgenrec(cell: Cell, workspace: Workspace) -> IDGenRec:
    """Return the untrained model of a cell."""
    config = cell.config
    model = IDGenRec(
        backbone=own_backbone(cell, workspace),
        identifiers=keyword_identifiers(workspace.dataset.items, **config["idgenrec"]),
        history_length=config["history_length"],
        beams=config["evaluation"].get("beams", BEAMS),
        context=config["context"],
    )
    model.engine.checkpointing = workspace.settings.checkpointing
    return model


def idgenrec_trainer(
    cell: Cell,
    workspace: Workspace,
    model: IDGenRec,
    *,
    checkpoint: Path | None = None,
    look: Callable[[int, float], None] | None = None,
) -> IDGenRecTrainer:
    """Return what trains the model of a cell.

    Args:
        cell: The cell.
        workspace: Data.
        model: What :func:`built_idgenrec` returned.
        checkpoint: Folder for the state of an unfinished training, or ``None``.
        look: Is told the number and the validation NDCG@10 of each epoch.
    """
    return IDGenRecTrainer(
        model=model, **trainer_arguments(cell, workspace, checkpoint=checkpoint, look=look)
    )


def trained_idgenrec(cell: Cell, workspace: Workspace, directory: Path) -> tuple[IDGenRec, dict[str, Any]]:
    """Return a model, trained or found in a folder, and what its training reported.

    Args:
        cell: Its accuracy cell.
        workspace: Data and LLM.
        directory: Where its parameters are kept.
    """
    model = built_idgenrec(cell, workspace)
    training = trained_or_found(
        model,
        lambda checkpoint: idgenrec_trainer(cell, workspace, model, checkpoint=checkpoint),
        workspace=workspace,
        directory=directory,
        about={"tokens_per_item": round(model.tokens_per_item, 2)},
    )
    return model, training


def described_untrained_idgenrec() -> dict[str, Any]:
    """Return what cost depends on, for a cell's configuration."""
    return {**asdict(IDGenRecOptions()), "beams": BEAMS}


def untrained_idgenrec(workspace: Workspace, *, history_length: int) -> IDGenRec:
    """Return a model that writes the items' identifiers and has learnt nothing: cost does not depend on that.

    Args:
        workspace: Data and LLM.
        history_length: Items of history that are read.
    """
    return IDGenRec(
        backbone=workspace.backbone,
        identifiers=keyword_identifiers(workspace.dataset.items, **asdict(IDGenRecOptions())),
        history_length=history_length,
        beams=BEAMS,
        context=workspace.settings.context,
    ).eval()
