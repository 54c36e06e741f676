"""The state of an unfinished training on disk: tensors, and what else a run goes on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from illmrec import checksums
from illmrec.errors import DamagedError

logger = logging.getLogger(__name__)

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
