"""The positions whose states are stored: every training target, and the histories of validation and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from illmrec.data.splits import Part, Split


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Windows of users' sequences and the item boundaries at which a state is read.

    Attributes:
        trunks: Per window, int32 item row numbers, the most recent last.
        boundaries: Per window, int64 [positions], ascending: a state is read after so many items of it.
        targets: Int64 [all positions], the item that comes next, window by window.
        users: Int64 [all positions], whose they are.
    """

    trunks: list[np.ndarray]
    boundaries: list[np.ndarray]
    targets: np.ndarray
    users: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def starts(self) -> np.ndarray:
        """Int64 [windows], the number of each window's first position."""
        counts = np.array([len(ends) for ends in self.boundaries], dtype=np.int64)
        return np.cumsum(counts) - counts


def training_positions(split: Split, *, length: int, last: int | None = None) -> Positions:
    """Return every target of the training part, in windows of up to ``length`` items.

    The rule: the first window of a user begins with the first item and has a target after each of its items. Each
    further window begins ``length // 2`` items before its first target. So a target has all items before it where
    these are no more than half of the length, and else between half of the length and the whole.

    Args:
        split: Leave-one-out split; nothing of validation or test is a target or part of a window.
        length: L, items that are read.
        last: Take the last so many targets of each user; ``None`` takes all.

    Raises:
        InputError: If no user has two training items.
    """
    trunks, boundaries, targets, users = [], [], [], []
    for user in split.learners.tolist():
        sequence = split.train(user)
        target = 1 if last is None else max(1, len(sequence) - last)
        while target < len(sequence):
            begin = max(0, target - max(1, length // 2))
            end = min(len(sequence) - 1, begin + length)
            trunks.append(sequence[begin:end])
            boundaries.append(np.arange(target - begin, end - begin + 1))
            targets.append(sequence[target : end + 1])
            users.append(np.full(end + 1 - target, user))
            target = end + 1
    return Positions(
        trunks=trunks,
        boundaries=boundaries,
        targets=np.concatenate(targets).astype(np.int64),
        users=np.concatenate(users),
    )


def evaluation_positions(
    split: Split, part: Part, *, length: int, users: np.ndarray | None = None
) -> Positions:
    """Return one position a user: after the last ``length`` items before the target of validation or test.

    Args:
        split: Leave-one-out split.
        part: Which target.
        length: L, items that are read.
        users: Int [selected]; ``None`` takes all who have a target.
    """
    chosen = split.users(part) if users is None else users
    trunks = [split.history(int(user), part)[-length:] for user in chosen]
    return Positions(
        trunks=trunks,
        boundaries=[np.array([len(trunk)]) for trunk in trunks],
        targets=split.targets(part)[chosen].astype(np.int64),
        users=np.asarray(chosen),
    )
