"""What of a history is projected: its ``[REC]`` states, the features of its items, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Readout = Literal["last", "last+mean", "features", "last+features"]
READOUTS: tuple[str, ...] = get_args(Readout)


def reads_llm(readout: Readout) -> bool:
    """Return whether a readout has states of the LLM in it."""
    return readout != "features"


def reads_features(readout: Readout) -> bool:
    """Return whether a readout has the features of the history's items in it."""
    return readout in ("features", "last+features")


def width_of(readout: Readout, *, states: int, features: int) -> int:
    """Return how many numbers are read out.

    Args:
        readout: Which.
        states: Width of the LLM's states.
        features: Width of all feature types that are read, together.
    """
    widths = {"last": states, "last+mean": 2 * states, "features": 2 * features}
    return states + 2 * features if readout == "last+features" else widths[readout]


def read_states(states: Tensor, branches: np.ndarray, readout: Readout) -> Tensor:
    """Return what the projectors get of the LLM at each retrieval branch.

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
    if readout != "last+mean":
        return states
    means = [part.cumsum(0) / _counts(part) for part in states.split(branches.tolist())]
    return torch.cat([states, torch.cat(means) if means else states], dim=1)


def read_features(items: Sequence[Tensor], boundaries: Sequence[np.ndarray]) -> Tensor:
    """Return what the projectors get of a history's items, no LLM asked: their features' mean, and those of the last.

    Args:
        items: For each history, float32 [items, width], the features of its items, the most recent last.
        boundaries: Per history, int [boundaries]: it is read after so many items; zeros after none.

    Returns:
        Float32 [all boundaries, 2 * width], history by history.
    """
    parts = []
    for values, ends in zip(items, boundaries, strict=True):
        at = torch.from_numpy(np.asarray(ends, dtype=np.int64)).to(values.device)
        nothing = values.new_zeros(1, values.shape[1])
        sums = torch.cat([nothing, values.cumsum(0)])[at]
        parts.append(torch.cat([sums / at.clamp_min(1)[:, None], torch.cat([nothing, values])[at]], dim=1))
    return torch.cat(parts)


def _counts(part: Tensor) -> Tensor:
    return torch.arange(1, len(part) + 1, device=part.device)[:, None]
