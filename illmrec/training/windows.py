"""Training examples: which stretch of a user's training part is read, and which items are targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from illmrec.data.splits import Split


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The examples of one step: per user the trunk's items and the target at each boundary."""

    trunks: list[np.ndarray]
    boundaries: list[np.ndarray]
    targets: list[np.ndarray]


def draw_windows(
    split: Split,
    users: np.ndarray,
    generator: np.random.Generator,
    *,
    targets: Literal["one", "all"],
    length: int,
) -> Windows:
    """Draw one window of the training part for each user; the paper does not say how (section 3.2).

    ``one``: a uniformly random position is the target and the ``length`` items before it are the history.
    ``all``: a random stretch of ``length + 1`` items (the whole training part where it is shorter) gives a target
    at each boundary. Nothing of validation or test is ever a target or part of a trunk.

    Args:
        split: Leave-one-out split.
        users: Int [n], of those who have two training items or more.
        generator: Source of randomness.
        targets: ``one`` or ``all``.
        length: L, items of history.
    """
    starts = split.train_offsets[users]
    lengths = split.train_offsets[users + 1] - starts
    lowest = np.ones(len(users), dtype=np.int64) if targets == "one" else np.minimum(length, lengths - 1)
    target = generator.integers(lowest, lengths)
    first = np.maximum(0, target - length)
    items = split.train_items()
    trunks = [items[s + a : s + b] for s, a, b in zip(starts, first, target, strict=True)]
    if targets == "one":
        return Windows(
            trunks=trunks,
            boundaries=[np.array([len(trunk)]) for trunk in trunks],
            targets=[items[s + b : s + b + 1] for s, b in zip(starts, target, strict=True)],
        )
    return Windows(
        trunks=trunks,
        boundaries=[np.arange(1, len(trunk) + 1) for trunk in trunks],
        targets=[items[s + a + 1 : s + b + 1] for s, a, b in zip(starts, first, target, strict=True)],
    )
