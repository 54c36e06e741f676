"""Sampled candidates: the items that each user's target is ranked among, drawn once and stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from illmrec import checksums
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Part
from illmrec.errors import DamagedError, InputError
from illmrec.files import loaded_npy

_STREAM: dict[Part, list[int]] = {"test": [], "valid": [1]}
_CHUNK = 8192  # users at a time; part of the drawing: another size gives other numbers


def negatives(dataset: Dataset, *, seed: int, n: int = 100, part: Part = "test", cache: Path) -> np.ndarray:
    """Return n items for each user that the user never interacted with, in any part of the split.

    Uniform and without replacement, in random order. Drawn once for a (data set, seed, n), stored under
    ``cache`` and read from there afterwards, so that every method ranks the same candidates. A file that is damaged is
    named in the log and drawn again, the same.

    Args:
        dataset: The data set; validation and test items count as interacted with.
        seed: Of the drawing.
        n: Items for each user.
        part: Whose targets are ranked among them. Validation has candidates of its own: an epoch that was chosen among
            those of the test would be chosen for them.
        cache: Folder to store them in.

    Returns:
        int32 [n_users, n].

    Raises:
        InputError: If some user leaves fewer than n items, or the folder cannot be written.
    """
    name = f"{dataset.fingerprint}-seed{seed}-n{n}{'' if part == 'test' else f'-{part}'}"
    path = cache / "candidates" / name / "negatives.npy"
    if path.exists():
        try:
            return _stored(path, shape=(dataset.n_users, n))
        except DamagedError as error:
            checksums.renew(path.parent, error)
    drawn = draw_negatives(dataset, seed=seed, n=n, part=part)
    with checksums.sealed_directory(path.parent) as folder:
        np.save(folder / path.name, drawn, allow_pickle=False)
    return drawn


def draw_negatives(dataset: Dataset, *, seed: int, n: int = 100, part: Part = "test") -> np.ndarray:
    """Draw what :func:`negatives` stores; depends on sequences, catalogue size, seed and part alone."""
    if n < 1:
        raise InputError(f"the number of sampled candidates is {n}: give 1 or more")
    users = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    seen = np.unique(
        users * dataset.n_items + dataset.sequence_items
    )  # sorted by user, then item; repeats once
    seen_user, seen_item = np.divmod(seen, dataset.n_items)
    n_seen = np.bincount(seen_user, minlength=dataset.n_users)
    free = dataset.n_items - n_seen
    if free.min() < n:
        user = int(free.argmin())
        raise InputError(
            f"{dataset.name}: user {dataset.user_ids[user]!r} leaves {int(free[user])} of {dataset.n_items} "
            f"items never interacted with, fewer than {n} candidates; "
            f"give --negatives {int(free[user])} or less, or bring more items"
        )
    # The r-th free item of a user is r + (number of seen items that come before it). The j-th seen item s_j
    # has s_j - j free items before it, so that number is found by a binary search in s_j - j, for all users
    # at once.
    start = np.cumsum(n_seen) - n_seen
    free_before = seen_item - (np.arange(len(seen)) - start[seen_user])
    keys = seen_user * (dataset.n_items + 1) + free_before
    drawn = np.empty((dataset.n_users, n), dtype=np.int32)
    for first in range(0, dataset.n_users, _CHUNK):
        chunk = np.arange(first, min(first + _CHUNK, dataset.n_users))
        ranks = _distinct_ranks(free[chunk], n=n, rng=np.random.default_rng([seed, first, *_STREAM[part]]))
        wanted = chunk[:, None] * (dataset.n_items + 1) + ranks
        drawn[chunk] = ranks + np.searchsorted(keys, wanted, side="right") - start[chunk, None]
    return drawn


def _distinct_ranks(free: np.ndarray, *, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n distinct numbers below ``free[u]`` for each row u, all sets and orders alike: int64 [rows, n].

    Floyd's algorithm, a column at a time: no set of ``free[u]`` numbers is ever written out, so the cost does
    not depend on the catalogue's size.
    """
    ranks = np.empty((len(free), n), dtype=np.int64)
    for column in range(n):
        top = free - n + column
        draw = rng.integers(0, top, endpoint=True)
        taken = (ranks[:, :column] == draw[:, None]).any(axis=1)
        ranks[:, column] = np.where(taken, top, draw)
    return rng.permuted(ranks, axis=1)  # Floyd's sets are uniform, its orders are not


def _stored(path: Path, *, shape: tuple[int, int]) -> np.ndarray:
    """Return stored candidates.

    Raises:
        DamagedError: If they are not those that were written.
    """
    remedy = "delete the file to draw them again"
    checksums.check(path.parent, path.name, remedy=remedy)
    try:
        stored = loaded_npy(path)
    except checksums.ARRAY_ERRORS as error:
        raise DamagedError(f"{path}: the stored candidates cannot be read; {remedy}") from error
    if stored.shape != shape or stored.dtype != np.int32:
        raise DamagedError(f"{path}: holds {stored.dtype} {stored.shape} and not int32 {shape}; {remedy}")
    return np.asarray(stored)
