"""What may be written: a trie over the items' token sequences, as arrays.

Nodes are numbered from the root, 0, level by level; the children of a node stand side by side, in the order of their
tokens, and those of the next node follow. So a child's number is that of its edge plus one, and three arrays hold
everything. Every
item is a leaf: where sequences have different lengths, each ends with a token of its own kind, an end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from illmrec.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Trie:
    """The token sequences of a catalogue.

    Attributes:
        offsets: Int64 [nodes + 1], node ``n`` has the edges ``offsets[n]`` to ``offsets[n + 1]``, none in a leaf.
        tokens: Int64 [nodes - 1], the token of each edge, ascending within a node; edge ``e`` ends in node ``e + 1``.
        items: Int64 [nodes], the item of a leaf, -1 elsewhere.
        depth: Int64 [nodes], tokens from the root.
    """

    offsets: np.ndarray
    tokens: np.ndarray
    items: np.ndarray
    depth: np.ndarray

    @property
    def n_nodes(self) -> int:
        """Number of nodes, the root included."""
        return len(self.items)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int((self.items >= 0).sum())

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return int(self.depth.max())

    @cached_property
    def items_below(self) -> np.ndarray:
        """How many items each node leads to, int64 [nodes]; a leaf to 1."""
        found = (self.items >= 0).astype(np.int64)
        parents = np.searchsorted(self.offsets, np.arange(self.n_nodes - 1), side="right") - 1
        starts = np.searchsorted(self.depth, np.arange(self.longest + 2))
        for depth in range(self.longest, 0, -1):
            nodes = np.arange(starts[depth], starts[depth + 1])
            np.add.at(found, parents[nodes - 1], found[nodes])
        return found

    def children(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what may follow some nodes, one node after the other.

        Args:
            nodes: Int [n].

        Returns:
            Each int64 [children of all]: the index into ``nodes`` of the parent, the token, and the child's number.
        """
        starts, counts = self.offsets[nodes], self.offsets[nodes + 1] - self.offsets[nodes]
        parent = np.repeat(np.arange(len(nodes)), counts)
        edges = np.arange(len(parent)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        return parent, self.tokens[edges], edges + 1

    def allowed(self, nodes: np.ndarray, *, vocabulary: int) -> np.ndarray:
        """Return bool [n, vocabulary], the tokens that may follow each node: none where it is a leaf or -1.

        Args:
            nodes: Int [n], as :meth:`walk` returns.
            vocabulary: Number of tokens.
        """
        mask = np.zeros((len(nodes), vocabulary), dtype=bool)
        inside = np.flatnonzero(nodes >= 0)
        parent, tokens, _ = self.children(nodes[inside])
        mask[inside[parent], tokens] = True
        return mask

    def step(self, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the node that each token leads to, int64 [n]; -1 where there is none.

        Args:
            nodes: Int [n]; from -1 nothing leads on.
            tokens: Int [n].
        """
        inside = np.maximum(nodes, 0)
        low, high = self.offsets[inside].copy(), self.offsets[inside + 1].copy()
        end = high.copy()
        # All searches at once, each in its node's own stretch of ascending tokens.
        while (low < high).any():
            middle = (low + high) // 2
            open_ = low < high
            less = open_ & (self.tokens[np.minimum(middle, len(self.tokens) - 1)] < tokens)
            low, high = np.where(less, middle + 1, low), np.where(open_ & ~less, middle, high)
        found = (nodes >= 0) & (low < end)
        found &= self.tokens[np.minimum(low, len(self.tokens) - 1)] == tokens
        return np.where(found, low + 1, -1)

    def walk(self, prefixes: np.ndarray) -> np.ndarray:
        """Return the node that each prefix leads to from the root, int64 [n]; -1 where no item begins so.

        Args:
            prefixes: Int [n, length], tokens; a negative one ends a prefix that is shorter.
        """
        nodes = np.zeros(len(prefixes), dtype=np.int64)
        for tokens in np.asarray(prefixes).T:
            nodes = np.where(tokens < 0, nodes, self.step(nodes, tokens))
        return nodes

    def paths(self, items: np.ndarray) -> np.ndarray:
        """Return the nodes on the way to some items, int64 [n, longest], from depth 1 on; -1 after the leaf.

        Args:
            items: Int [n], item rows.
        """
        leaves = np.empty(self.n_items, dtype=np.int64)
        leaf_nodes = np.flatnonzero(self.items >= 0)
        leaves[self.items[leaf_nodes]] = leaf_nodes
        node = leaves[items]
        parents = np.searchsorted(self.offsets, np.arange(self.n_nodes - 1), side="right") - 1
        found = np.full((len(node), self.longest), -1, dtype=np.int64)
        rows = np.arange(len(node))
        while len(rows):
            found[rows, self.depth[node[rows]] - 1] = node[rows]
            node[rows] = parents[node[rows] - 1]
            rows = rows[node[rows] > 0]
        return found


def build_trie(sequences: np.ndarray | Sequence[np.ndarray]) -> Trie:
    """Build the trie of a catalogue.

    Args:
        sequences: Int [n_items, length], or one int array for each item, tokens of 0 or more; the row is the item.

    Raises:
        InputError: If there is no item, one has no tokens, two have the same, or the tokens of one begin those of
            another.
    """
    rows = _padded(sequences)
    order = np.lexsort(rows.T[::-1])
    rows = rows[order]
    node = np.zeros(len(rows), dtype=np.int64)  # where each row has come to
    new = np.zeros(len(rows), dtype=bool)  # its prefix is not that of the row before
    new[0] = True
    parents, tokens = [], []
    count = 1
    for column in rows.T:
        new[1:] |= column[1:] != column[:-1]
        going = np.flatnonzero(column >= 0)
        first = new[going]
        parents.append(node[going][first])
        tokens.append(column[going][first])
        node[going] = count + np.cumsum(first) - 1
        count += int(first.sum())
    parent = np.concatenate(parents)
    items = np.full(count, -1, dtype=np.int64)
    items[node] = order
    same = np.flatnonzero(node[1:] == node[:-1])
    if len(same):
        first_item, second = sorted(order[same[0] : same[0] + 2].tolist())
        raise InputError(
            f"items {first_item} and {second} have the same tokens ({len(same)} such pairs); give every item its own"
        )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=count))])
    inside = node[offsets[node] < offsets[node + 1]]
    if len(inside):
        raise InputError(
            f"the tokens of item {items[inside[0]]} begin those of another item ({len(inside)} such items); end every "
            "sequence with an end token"
        )
    depth = np.repeat(np.arange(1, len(parents) + 1), [len(part) for part in parents])
    return Trie(
        offsets=offsets,
        tokens=np.concatenate(tokens),
        items=items,
        depth=np.concatenate([[0], depth]),
    )


def _padded(sequences: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Return int64 [n_items, longest], -1 after the end of a sequence."""
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    if not len(lengths):
        raise InputError("no item has tokens to be written by")
    if not lengths.all():
        raise InputError(f"item {int(np.flatnonzero(lengths == 0)[0])} has no tokens")
    padded = np.full((len(lengths), lengths.max()), -1, dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate(list(sequences))
    inside = np.arange(padded.shape[1]) < lengths[:, None]
    if (padded[inside] < 0).any():
        raise InputError("a token is below 0; tokens are numbers from 0 on")
    return padded
