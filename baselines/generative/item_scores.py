"""The exact probability of every item that a network writes: a beginning is written once for a user, level by level.

Where one item goes on alone, the rest is certain, as what may not be written is masked before the softmax, and the
network is not asked. So a user costs the network one token for each beginning that two items or more share, however
long items are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from baselines.generative.beam_search import Writer, segment_logsumexp
from baselines.generative.trie import Trie
from illmrec.errors import DivergedError


class CatalogueScores:
    """Scores a catalogue by the probability that a network writes each item.

    Args:
        trie: What may be written.

    Attributes:
        steps: Tokens that a user costs the network.
        widest: Tokens of its largest step.
    """

    def __init__(self, trie: Trie) -> None:
        below = trie.items_below
        levels = [np.zeros(1, dtype=np.int64)]
        self._levels: list[_Level] = []
        while len(levels[-1]):
            parent, tokens, nodes = trie.children(levels[-1])
            on = np.flatnonzero(below[nodes] > 1)
            self._levels.append(_Level(parent=parent, tokens=tokens, nodes=nodes, on=on))
            levels.append(nodes[on])
        self.steps = sum(map(len, levels))
        self.widest = max(map(len, levels))
        self._n_nodes = trie.n_nodes
        # An item has the probability of the first node on its way that no other item shares.
        items = np.arange(trie.n_items)
        paths = trie.paths(items)
        alone = (paths >= 0) & (below[paths] == 1)
        self._of_item = paths[items, alone.argmax(axis=1)]

    @torch.no_grad()
    def of(self, writer: Writer, *, users: int) -> np.ndarray:
        """Return the log-probability of every item for each user, float32 [users, n_items].

        Args:
            writer: The network, which knows its users.
            users: How many.

        Raises:
            DivergedError: If a logit that counts is not finite.
        """
        logits = writer.begin()
        device = logits.device
        scores = torch.zeros(users, self._n_nodes, device=device)
        came = torch.zeros(users, 1, device=device)
        first_row = torch.arange(users, device=device)[:, None]
        for level in self._levels:
            width = came.shape[1]
            parent, tokens, on = (
                torch.from_numpy(part).to(device) for part in (level.parent, level.tokens, level.on)
            )
            step = _log_softmax(logits.view(users, width, -1)[:, parent, tokens].float(), parent, width)
            reached = came[:, parent] + step
            scores[:, torch.from_numpy(level.nodes).to(device)] = reached
            if len(on):
                came = reached[:, on]
                logits = writer.step((first_row * width + parent[on]).flatten(), tokens[on].repeat(users))
        found: np.ndarray = scores[:, torch.from_numpy(self._of_item).to(device)].cpu().numpy()
        if not np.isfinite(found).all():
            raise DivergedError("a logit is not finite: the model diverged or its features hold NaN")
        return found


class _Level:
    """What may follow the beginnings of one length, and which of it other items share.

    Args:
        parent: Int64 [nodes], the beginning that each follows.
        tokens: Int64 [nodes].
        nodes: Int64 [nodes], their numbers in the trie.
        on: Int64, places of those from which two items or more go on.
    """

    def __init__(self, *, parent: np.ndarray, tokens: np.ndarray, nodes: np.ndarray, on: np.ndarray) -> None:
        self.parent, self.tokens, self.nodes, self.on = parent, tokens, nodes, on


def listed_besides(scores: np.ndarray, histories: Sequence[np.ndarray], *, most: int) -> np.ndarray:
    """Return scores of lists, in place, with minus infinity for all but the best besides what a user knows.

    Args:
        scores: Float32 [users, n_items], minus infinity for what no search found.
        histories: Items that each user knows, which take no place in a list.
        most: Items of a list at most.
    """
    for row, history in zip(scores, histories, strict=True):
        listed = np.flatnonzero(np.isfinite(row))
        listed = listed[~np.isin(listed, history)]
        row[listed[np.argsort(-row[listed], kind="stable")[most:]]] = -np.inf
    return scores


def _log_softmax(logits: Tensor, parent: Tensor, parents: int) -> Tensor:
    """Return the logarithm of the softmax among the children of each parent, float32 [users, children].

    Args:
        logits: Float32 [users, children].
        parent: Int64 [children], ascending.
        parents: How many.
    """
    users = len(logits)
    segment = (torch.arange(users, device=logits.device)[:, None] * parents + parent).flatten()
    normaliser = segment_logsumexp(logits.flatten(), segment, users * parents).view(users, parents)
    return logits - normaliser[:, parent]
