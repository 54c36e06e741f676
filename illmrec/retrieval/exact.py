"""Exact top-k of users x items in bounded memory, for a catalogue of any size (paper section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from illmrec.errors import InputError

Vectors = np.ndarray | Tensor
"""Row vectors [rows, width] of any float type, an array that is memory-mapped included."""

_GROUP = 64  # columns whose largest score stands for all of them; blocks are padded to a multiple of it


@dataclass(frozen=True, kw_only=True)
class TopK:
    """The best items of each user, the best first.

    Attributes:
        items: int64 [users, k], row numbers of the catalogue; -1 where fewer than k items were left.
        scores: float32 [users, k], inner products; -inf where ``items`` is -1.
    """

    items: np.ndarray
    scores: np.ndarray


@torch.inference_mode()
def exact_top_k(
    users: Vectors,
    items: Vectors,
    *,
    k: int,
    exclude: Sequence[np.ndarray] | None = None,
    users_per_block: int = 1024,
    items_per_block: int = 16384,
    progress: bool = False,
) -> TopK:
    """Return the k items with the largest inner product for each user.

    A user's projections side by side times an item's are the sum of affinities (section 3.4), so this is the whole
    of scoring. Equal scores are ordered by row number, so that the result does not depend on the blocks. (Unless
    sums are exact, a matrix product of another shape may round the last bit of a score differently.)

    Cost: ``2 * users * items * width`` operations, and the catalogue is read once. Memory beyond the arguments and
    the result: one block of scores, ``4 * users_per_block * items_per_block`` bytes (64 MiB by default), one block of
    the catalogue, ``4 * items_per_block * width`` bytes where it must be copied, 8 bytes for each excluded
    pair, and some percent of these for the merge, however many items there are.

    Args:
        users: Float [users, width]. The work is done on its device in float32.
        items: Float [items, width], the catalogue; blocks that lie elsewhere are copied to that device.
        k: Items per user; more than the catalogue has leaves -1 at the end.
        exclude: For each user int [any], row numbers that must not be returned, such as the history.
        users_per_block: Rows of a block of scores.
        items_per_block: Columns of a block of scores.
        progress: Show a progress bar over the catalogue.

    Raises:
        InputError: If shapes do not fit, k or a block is below 1, a vector or score is not finite or ``exclude`` names
            a row that the catalogue does not have.
    """
    check_vectors(users, items)
    if min(k, users_per_block, items_per_block) < 1:
        raise InputError(
            f"k {k}, users_per_block {users_per_block}, items_per_block {items_per_block}: give at least 1"
        )
    queries = _float32(users)
    _check_finite(queries, name="users")
    n_users, n_items = len(users), len(items)
    excluded_users, excluded_items = excluded_pairs(exclude, n_users=n_users, n_items=n_items)
    keys = excluded_items // items_per_block * n_users + excluded_users
    by_block = np.argsort(keys, kind="stable")
    keys = keys[by_block]
    scores = queries.new_full((n_users, k), -torch.inf)
    rows = torch.full((n_users, k), -1, dtype=torch.int64, device=queries.device)
    # One buffer for all blocks: fresh memory of this size costs a fifth of the time of the product that fills it.
    buffer_columns = min(items_per_block, n_items) + _GROUP
    buffer = queries.new_empty(min(users_per_block, n_users) * buffer_columns)
    starts = range(0, n_items, items_per_block)
    for number, start in enumerate(tqdm(starts, desc="top-k", unit="block", disable=not progress)):
        block = _float32(items[start : start + items_per_block]).to(queries.device)
        size = len(block)
        # Full groups only: the edge of a matrix product may sum in another order, and equal items would differ.
        if size % _GROUP:
            block = functional.pad(block, (0, 0, 0, -size % _GROUP))
        for first in range(0, n_users, users_per_block):
            part = slice(first, min(first + users_per_block, n_users))
            shape = (part.stop - part.start, len(block))
            products = torch.mm(queries[part], block.T, out=buffer[: shape[0] * shape[1]].view(shape))
            if first == 0 and not torch.isfinite(products[0]).all():
                # Whoever the user is, an item that is not finite has no finite score: one row shows them all.
                _check_finite(block, name="items", first=start)
            products[:, size:] = -torch.inf
            low, high = np.searchsorted(keys, number * n_users + np.array([part.start, part.stop]))
            pairs = by_block[low:high]
            at = torch.from_numpy(np.stack([excluded_users[pairs] - first, excluded_items[pairs] - start]))
            products[tuple(at.to(queries.device))] = -torch.inf
            columns = first_largest(products, k)
            merged = torch.cat([scores[part], products.gather(1, columns)], dim=1)
            merged_rows = torch.cat([rows[part], columns + start], dim=1)
            # Among equals, rows found before come first and those of this block ascend: stable keeps it so.
            merged, order = merged.sort(dim=1, descending=True, stable=True)
            scores[part] = merged[:, :k]
            rows[part] = merged_rows.gather(1, order[:, :k])
    if torch.isnan(scores).any() or torch.isposinf(scores).any():
        raise InputError("a score is not finite: the vectors are too large for float32; scale them down")
    rows[torch.isneginf(scores)] = -1
    return TopK(items=rows.cpu().numpy(), scores=scores.cpu().numpy())


def first_largest(scores: Tensor, k: int) -> Tensor:
    """Return the columns of the k largest values of each row; among equal values the first columns are taken.

    Args:
        scores: Float [rows, columns].
        k: How many.

    Returns:
        Int64 [rows, min(k, columns)], ascending in each row.
    """
    n_rows, n_columns = scores.shape
    if k >= n_columns:
        return torch.arange(n_columns, device=scores.device).expand(n_rows, -1)
    if n_columns % _GROUP == 0 and n_columns >= 8 * k * _GROUP:
        # The k largest lie in the k groups with the largest maxima: one cheap pass leaves k * _GROUP columns.
        maxima = scores.view(n_rows, -1, _GROUP).amax(dim=2)
        groups = first_largest(maxima, k)
        members = groups[:, :, None] * _GROUP + torch.arange(_GROUP, device=scores.device)
        members = members.flatten(1)
        return members.gather(1, first_largest(scores.gather(1, members), k))
    values, columns = scores.topk(k + 1, dim=1)
    columns = columns[:, :k]
    # topk says nothing on which of several equal values it takes; that matters where the cut goes through them.
    tied = torch.nonzero(values[:, k] == values[:, k - 1])[:, 0]
    if len(tied):
        boundary = values[tied, k - 1, None]
        above, equal = scores[tied] > boundary, scores[tied] == boundary
        wanted = k - above.sum(dim=1, keepdim=True)
        chosen = above | (equal & (equal.cumsum(dim=1, dtype=torch.int32) <= wanted))
        columns[tied] = chosen.nonzero()[:, 1].view(-1, k)
    return columns.sort(dim=1).values


def check_vectors(users: Vectors, items: Vectors) -> None:
    """Raise an ``InputError`` unless users and items are row vectors of one width."""
    for name, vectors in (("users", users), ("items", items)):
        if vectors.ndim != 2:
            raise InputError(f"{name}: shape {list(vectors.shape)}; give one vector per row, [{name}, width]")
    if users.shape[1] != items.shape[1]:
        raise InputError(
            f"users are {users.shape[1]} wide and items {items.shape[1]}; project both with the same model"
        )


def excluded_pairs(
    exclude: Sequence[np.ndarray] | None, *, n_users: int, n_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return excluded pairs as two int64 arrays, users ascending and items.

    Raises:
        InputError: If there is not one array for each user, or one is not of row numbers of the catalogue.
    """
    if exclude is None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    if len(exclude) != n_users:
        raise InputError(
            f"exclude: {len(exclude)} lists for {n_users} users; give one per user, empty if need be"
        )
    lists = [np.asarray(rows) for rows in exclude]
    for user, rows in enumerate(lists):
        if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
            raise InputError(
                f"exclude: user {user} has {rows.dtype} {list(rows.shape)}; give a list of row numbers"
            )
    users = np.repeat(np.arange(n_users), [len(rows) for rows in lists])
    items = np.concatenate([rows.astype(np.int64) for rows in lists]) if lists else users
    wrong = np.flatnonzero((items < 0) | (items >= n_items))
    if len(wrong):
        raise InputError(
            f"exclude: row {items[wrong[0]]} of user {users[wrong[0]]}; the catalogue has rows 0 to {n_items - 1}"
        )
    return users, items


def _float32(vectors: Vectors) -> Tensor:
    if isinstance(vectors, Tensor):
        return vectors.detach().float()
    # Torch cannot share memory that is read-only, such as a mapped file: only that is copied.
    return torch.from_numpy(np.require(vectors, dtype=np.float32, requirements=["C", "W"]))


def _check_finite(vectors: Tensor, *, name: str, first: int = 0) -> None:
    finite = torch.isfinite(vectors).all(dim=1)
    if not finite.all():
        row = first + int(torch.nonzero(~finite)[0, 0])
        raise InputError(f"{name}: row {row} is not finite; the model diverged or its features hold NaN")
