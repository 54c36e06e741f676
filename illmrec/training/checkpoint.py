"""The state of an unfinished training on disk: tensors, and what else a run goes on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from illmrec import checksums
from illmrec.errors import DamagedError

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120.0
"""How much of a training may be lost, about."""

_STATE, _TENSORS = "state.json", "state.safetensors"


def write_checkpoint(folder: Path, *, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the state of a run, whole or not at all, in place of an earlier one.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    with checksums.sealed_directory(folder) as temporary:
        save_file(
            {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()},
            temporary / _TENSORS,
        )
        (temporary / _STATE).write_text(json.dumps(state))


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return the state and the tensors of a run; None where there are none, or where the log says they are damaged."""
    if not (folder / _STATE).exists():
        return None
    try:
        checksums.check(folder, remedy="starting anew")
        return checksums.read_json(folder / _STATE), load_file(folder / _TENSORS)
    except (OSError, DamagedError, SafetensorError) as error:
        said = str(error).partition("; ")[0]
        logger.warning(
            "%s: an unfinished training that cannot be continued (%s); starting anew", folder, said
        )
        return None


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser keeps of each parameter, by ``adam.NUMBER.NAME``."""
    states = optimiser.state_dict()["state"].items()
    return {
        f"adam.{number}.{name}": torch.as_tensor(value)
        for number, state in states
        for name, value in state.items()
    }


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser what :func:`optimiser_tensors` returned; other tensors are passed over."""
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in under("adam.", tensors).items():
        number, key = name.split(".", 1)
        states.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": states})


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
