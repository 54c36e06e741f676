"""What methods that write the next item share: trained or found trained, and what their prompts and lists cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from baselines.generative.written_items import WritingModel, WritingTrainer
from bench.harness.training import unfinished
from bench.harness.workspace import Workspace
from bench.store.cell import Cell
from illmrec import checksums
from illmrec.errors import DamagedError
from illmrec.model import processes
from illmrec.model.backbone import Backbone
from illmrec.model.tuning import tuned_backbone
from illmrec.training import TrainingOptions

BEAMS = 20
"""Beams of the search, as LC-Rec and TIGER have them; fewer would list fewer items than the metrics look at."""

_TRAINING = "training.json"
_PARAMETERS = "parameters.safetensors"


def trained_or_found(
    model: WritingModel,
    trainer: Callable[[Path], WritingTrainer],
    *,
    workspace: Workspace,
    directory: Path,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Train a model in place, or give it the parameters that a folder keeps; return what its training reported.

    Args:
        model: The untrained model.
        trainer: Returns what trains it, from the folder for the state of an unfinished training.
        workspace: Says where the model is.
        directory: Where its parameters are kept.
        about: What is reported besides: what its items are written as.
    """
    if processes.of_main([(directory / _TRAINING).exists()])[0]:
        remedy = f"delete the folder {directory} to train it again"
        checksums.check(directory, remedy=remedy)
        try:
            model.load_state_dict(load_file(directory / _PARAMETERS, device=workspace.device))
        except (OSError, SafetensorError) as error:
            raise DamagedError(f"{directory / _PARAMETERS}: damaged ({error}); {remedy}") from error
        return checksums.read_json(directory / _TRAINING, remedy=remedy)
    training = trainer(unfinished(directory))
    report: dict[str, Any] = {
        **training.run().described(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **about,
    }
    if processes.is_main():
        with checksums.sealed_directory(directory) as folder:
            tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
            save_file(tensors, folder / _PARAMETERS)
            (folder / _TRAINING).write_text(json.dumps(report))
    training.discard_checkpoint()
    return report


def own_backbone(cell: Cell, workspace: Workspace) -> Backbone:
    """Return the LLM of a cell's model, which its strategy may train."""
    options = TrainingOptions(**cell.config["training"])
    return tuned_backbone(
        workspace.backbone,
        strategy=options.tunes,
        lora_rank=options.lora_rank,
        lora_alpha=options.lora_alpha,
        seed=cell.base_seed,
    )


def trainer_arguments(
    cell: Cell, workspace: Workspace, *, checkpoint: Path | None, look: Callable[[int, float], None] | None
) -> dict[str, Any]:
    """Return what a trainer is given for a cell besides the model.

    Args:
        cell: The cell.
        workspace: Data.
        checkpoint: Folder for the state of an unfinished training, or ``None``.
        look: Is told the number and the validation NDCG@10 of each epoch.
    """
    return {
        "split": workspace.split,
        "options": TrainingOptions(**cell.config["training"]),
        "seed": cell.base_seed,
        "negatives": workspace.negatives(cell.base_seed, "valid"),
        "checkpoint": checkpoint,
        "progress": workspace.settings.progress and look is None,
        "look": look,
    }


def writing_costs(
    model: WritingModel, workspace: Workspace, users: np.ndarray, *, history_length: int
) -> dict[str, float]:
    """Return per user, on average, tokens of the prompt, how many more are written at most, and items without room.

    Args:
        model: The model.
        workspace: Data.
        users: Int [users], whose histories are read.
        history_length: Items of a history that were to be read; a model whose LLM has no room reads fewer.
    """
    histories = [workspace.split.history(int(user), "test")[-history_length:] for user in users]
    return {
        "tokens": float(model.prompt_tokens(histories).mean()),
        "written_tokens": float(model.written_tokens),
        "dropped_items": float(np.mean([max(0, len(h) - model.history_length) for h in histories])),
    }
