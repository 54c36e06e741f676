"""What is read out of the ``[REC]`` states of a history before it is projected."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Readout = Literal["last", "last+mean"]
READOUTS: tuple[str, ...] = get_args(Readout)


def width_of(readout: Readout, width: int) -> int:
    """Return how many numbers are read out of an LLM whose states have a width."""
    return width if readout == "last" else 2 * width


def read_out(states: Tensor, branches: np.ndarray, readout: Readout) -> Tensor:
    """Return what the projectors get at each retrieval branch.

    ``last`` is the branch's own state (the paper, section 3.3). ``last+mean`` puts beside it the mean of the states of
    the history's branches up to this one, its own included: with a branch at every item, the mean of what the LLM
    would have said after each.

    Args:
        states: Float32 [branches, width], user by user, a user's in the order of the history.
        branches: Int [users], branches of each; at every item boundary from the first on for ``last+mean``.
        readout: Which.

    Returns:
        Float32 [branches, width] or [branches, 2 * width].
    """
    if readout == "last":
        return states
    means = [part.cumsum(0) / _counts(part) for part in states.split(branches.tolist())]
    return torch.cat([states, torch.cat(means) if means else states], dim=1)


def _counts(part: Tensor) -> Tensor:
    return torch.arange(1, len(part) + 1, device=part.device)[:, None]
