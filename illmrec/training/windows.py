"""Training examples: which stretch of a user's training part is read, and which items are targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from illmrec.data.splits import Split

_SHORT = 4
"""Items of the longest window in that half of the draws which is shorter."""


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
    windows: Literal["full", "short"] = "full",
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
        windows: ``short`` draws the number of items for each user, of 2 to 4 in half of the draws and of 2 to
            ``length - 1`` in the others, then where the stretch begins. A training part that is no longer than that is
            taken whole, its last item the target. With ``all`` the items of the stretch are targets, too.
    """
    starts = split.train_offsets[users]
    lengths = split.train_offsets[users + 1] - starts
    if windows == "short":
        first, target = _short(lengths, generator, length=length)
    else:
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


def _short(
    lengths: np.ndarray, generator: np.random.Generator, *, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return where each user's stretch begins and where its target stands, int64 [users] both."""
    longest = np.where(generator.random(len(lengths)) < 0.5, min(_SHORT, length - 1), length - 1)
    wanted = generator.integers(min(2, length), np.maximum(longest, min(2, length)) + 1)
    items = np.minimum(wanted, lengths - 1)
    first = generator.integers(0, lengths - items)
    return first, first + items
