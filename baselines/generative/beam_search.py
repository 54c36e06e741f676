"""Beam search for items: only what is in the trie is written, whatever network writes it.

All users' beams of a step go to the network as one flat batch, each with the row of the step before that it goes on
from. What a beam may not write is masked before the softmax, so that a step's probabilities are those among what it
may write and the probabilities of a catalogue's items sum to one. With as many beams as items the search is exact.

Cost: a step asks the network for at most ``users * beams`` tokens, one fewer step than tokens of the longest item,
and looks at no more logits than the trie has children.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from baselines.generative.trie import Trie
from illmrec.errors import DivergedError, InputError
from illmrec.retrieval.exact import first_largest

Masking = Literal["before", "after"]


class Writer(Protocol):
    """A network that writes, one token a step for each beam."""

    def begin(self) -> Tensor:
        """Return the logits of every user's first token, float [users, vocabulary]."""

    def step(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits after one more token, float [beams, vocabulary].

        Args:
            parents: Int64 [beams], the row that each beam goes on from: of :meth:`begin` the first time, of the last
                call from then on; users stand one after the other.
            tokens: Int64 [beams], what it has written since.
        """


@dataclass(frozen=True, kw_only=True)
class BeamResult:
    """The items that were found for each user, the best first.

    Attributes:
        items: Int64 [users, results], item rows; -1 where fewer were found.
        scores: Float32 [users, results], their log-probabilities; minus infinity where fewer were found.
    """

    items: np.ndarray
    scores: np.ndarray

    def by_item(self, n_items: int) -> np.ndarray:
        """Return float32 [users, n_items], minus infinity for an item that was not found."""
        found = np.full((len(self.items), n_items), -np.inf, dtype=np.float32)
        users, places = np.nonzero(self.items >= 0)
        found[users, self.items[users, places]] = self.scores[users, places]
        return found


def beam_search(
    writer: Writer,
    trie: Trie,
    *,
    users: int,
    beams: int,
    results: int | None = None,
    masking: Masking = "before",
) -> BeamResult:
    """Find the items that a network is most likely to write.

    Args:
        writer: The network, which knows its users.
        trie: What may be written.
        users: How many.
        beams: Unfinished beams and finished items of a user that are kept after each step.
        results: Items of a user at the end; more than ``beams`` are taken from what the last step could write, at no
            cost of the network. None takes ``beams``.
        masking: Whether what may not be written is masked ``before`` the softmax or ``after`` it, as transformers'
            ``generate`` does unless it is told to renormalise.

    Raises:
        InputError: If ``beams`` or ``results`` are below 1, or the logits are too few for the trie's tokens.
        DivergedError: If a logit that counts is not finite.
    """
    results = beams if results is None else results
    if beams < 1 or results < 1:
        raise InputError(f"beams {beams}, results {results}: give at least 1")
    alive = _Beams(
        user=np.arange(users),
        node=np.zeros(users, dtype=np.int64),
        score=np.zeros(users, dtype=np.float32),
        row=np.arange(users),
    )
    done = alive.of(np.zeros(0, dtype=np.int64))
    logits = writer.begin()
    for depth in range(trie.longest):
        if depth:
            device = logits.device
            logits = writer.step(
                torch.from_numpy(alive.row).to(device),
                torch.from_numpy(trie.tokens[alive.node - 1]).to(device),
            )
        written = _written(logits, alive, trie, masking)
        last = depth == trie.longest - 1
        kept = _best(written.joined(done), users=users, k=results if last else beams)
        finished = trie.items[kept.node] >= 0
        done, alive = kept.of(np.flatnonzero(finished)), kept.of(np.flatnonzero(~finished))
        if not len(alive.node):
            break
    return _result(done, trie, users=users, results=results)


def candidate_scores(
    writer: Writer, trie: Trie, candidates: np.ndarray, *, masking: Masking = "before"
) -> np.ndarray:
    """Return the log-probability of some items for each user, float32 [users, n]: exact, no beam is dropped.

    What several candidates of a user begin with is written once. Where one item of the catalogue goes on alone, nothing
    is: with masking before the softmax the rest is certain.

    Args:
        writer: The network, which knows its users.
        trie: What may be written.
        candidates: Int [users, n], item rows.
        masking: As in :func:`beam_search`.

    Raises:
        DivergedError: If a logit that counts is not finite.
    """
    users, n_nodes = len(candidates), trie.n_nodes
    paths = trie.paths(candidates.reshape(-1)).reshape(*candidates.shape, trie.longest)
    scores = np.zeros(candidates.shape, dtype=np.float32)
    own = np.broadcast_to(np.arange(users)[:, None], candidates.shape) * n_nodes
    # What has been written of each user: user and node as one number, ascending, a row of logits for each.
    written, at = np.arange(users) * n_nodes, own
    going = np.ones(candidates.shape, dtype=bool)
    goes_on = trie.items_below > 1 if masking == "before" else trie.items < 0
    logits = writer.begin()
    for depth in range(trie.longest):
        here = paths[:, :, depth]
        there = going & (here >= 0)
        row = np.searchsorted(written, at[there])
        scores[there] += _log_probabilities(logits, written % n_nodes, row, here[there], trie, masking)
        going = there & goes_on[here]
        if not going.any():
            break
        at = own + here
        following, first = np.unique(at[going], return_index=True)
        came_from = np.searchsorted(written, (own + (paths[:, :, depth - 1] if depth else 0))[going][first])
        written, device = following, logits.device
        logits = writer.step(
            torch.from_numpy(came_from).to(device),
            torch.from_numpy(trie.tokens[following % n_nodes - 1]).to(device),
        )
    return scores


@dataclass(kw_only=True)
class _Beams:
    """Beams side by side: whose, the node each has come to, its log-probability, and the row of logits it came from."""

    user: np.ndarray
    node: np.ndarray
    score: np.ndarray
    row: np.ndarray

    def of(self, rows: np.ndarray) -> _Beams:
        return _Beams(user=self.user[rows], node=self.node[rows], score=self.score[rows], row=self.row[rows])

    def joined(self, other: _Beams) -> _Beams:
        if not len(other.node):
            return self
        return _Beams(
            **{name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in vars(self)}
        )


def _written(logits: Tensor, alive: _Beams, trie: Trie, masking: Masking) -> _Beams:
    """Return everything that the beams may write next."""
    parent, _, nodes = trie.children(alive.node)
    step = _log_probabilities(logits, alive.node, parent, nodes, trie, masking)
    return _Beams(user=alive.user[parent], node=nodes, score=alive.score[parent] + step, row=parent)


def _log_probabilities(
    logits: Tensor, at: np.ndarray, row: np.ndarray, nodes: np.ndarray, trie: Trie, masking: Masking
) -> np.ndarray:
    """Return the log-probabilities of some next nodes, float32 [n].

    Args:
        logits: Float [rows, vocabulary].
        at: Int64 [rows], the node that each row has come to.
        row: Int64 [n], the row that each next node follows.
        nodes: Int64 [n], the next nodes.
        trie: What may be written.
        masking: As in :func:`beam_search`.
    """
    device = logits.device
    parent, tokens, _ = trie.children(at)
    if tokens.max() >= logits.shape[1]:
        raise InputError(
            f"the network has {logits.shape[1]} tokens and an item is written by token {int(tokens.max())}"
        )
    if masking == "before":
        owner = torch.from_numpy(parent).to(device)
        legal = logits[owner, torch.from_numpy(tokens).to(device)].float()
        normaliser = segment_logsumexp(legal, owner, len(at))
    else:
        normaliser = logits.float().logsumexp(dim=1)
    rows = torch.from_numpy(row).to(device)
    wanted = logits[rows, torch.from_numpy(trie.tokens[nodes - 1]).to(device)].float()
    found: np.ndarray = (wanted - normaliser[rows]).cpu().numpy()
    if not np.isfinite(found).all():
        raise DivergedError("a logit is not finite: the model diverged or its features hold NaN")
    return found


def segment_logsumexp(values: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Return the logarithm of the sum of exponentials of each segment's values, float32 [segments].

    Args:
        values: Float32 [n].
        segment: Int64 [n], whose each is; every segment has one or more.
        segments: How many.
    """
    largest = values.new_full((segments,), -torch.inf).scatter_reduce(0, segment, values, "amax")
    sums = values.new_zeros(segments).index_add(0, segment, (values - largest[segment]).exp())
    return largest + sums.log()


def _best(beams: _Beams, *, users: int, k: int) -> _Beams:
    """Return the k best of each user, users one after the other, nodes in ascending order.

    Of equal scores the first nodes, those of smaller tokens, are taken.
    """
    if (np.diff(beams.user) < 0).any() or ((np.diff(beams.user) == 0) & (np.diff(beams.node) < 0)).any():
        beams = beams.of(np.lexsort((beams.node, beams.user)))
    counts = np.bincount(beams.user, minlength=users)
    column = np.arange(len(beams.user)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((users, max(int(counts.max(initial=0)), 1)), -np.inf, dtype=np.float32)
    table[beams.user, column] = beams.score
    rows = np.full(table.shape, -1, dtype=np.int64)
    rows[beams.user, column] = np.arange(len(beams.user))
    chosen = first_largest(torch.from_numpy(table), k).numpy()
    found = np.take_along_axis(rows, chosen, axis=1).reshape(-1)
    return beams.of(found[found >= 0])


def _result(done: _Beams, trie: Trie, *, users: int, results: int) -> BeamResult:
    order = np.lexsort((done.node, -done.score, done.user))
    user = done.user[order]
    counts = np.bincount(user, minlength=users)
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    items = np.full((users, results), -1, dtype=np.int64)
    scores = np.full((users, results), -np.inf, dtype=np.float32)
    items[user, column] = trie.items[done.node[order]]
    scores[user, column] = done.score[order]
    return BeamResult(items=items, scores=scores)
