"""What methods that write the next item share: trained or found trained, and what their prompts and lists cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from baselines.generative.written_items import WritingModel, WritingTrainer
from bench.harness.workspace import Workspace
from illmrec.files import atomic_directory, parsed_json
from illmrec.model import processes

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
        model.load_state_dict(load_file(directory / _PARAMETERS, device=workspace.device))
        found: dict[str, Any] = parsed_json((directory / _TRAINING).read_text())
        return found
    training = trainer(directory.with_name(f"{directory.name}.unfinished"))
    report: dict[str, Any] = {
        **training.run().described(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **about,
    }
    if processes.is_main():
        with atomic_directory(directory) as folder:
            tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
            save_file(tensors, folder / _PARAMETERS)
            (folder / _TRAINING).write_text(json.dumps(report))
    training.discard_checkpoint()
    return report


def writing_costs(model: WritingModel, workspace: Workspace, users: np.ndarray) -> dict[str, float]:
    """Return per user, on average, tokens of the prompt, and how many more are written at most to list items.

    Args:
        model: The model.
        workspace: Data.
        users: Int [users], whose histories are read.
    """
    histories = [workspace.split.history(int(user), "test") for user in users]
    return {
        "tokens": float(model.prompt_tokens(histories).mean()),
        "written_tokens": float(model.written_tokens),
    }
