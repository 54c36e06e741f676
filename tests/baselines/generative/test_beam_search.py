"""Beam search: the best items by enumeration, a beam search written out, and bad networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.generative.beam_search import beam_search, candidate_scores
from baselines.generative.trie import Trie, build_trie
from illmrec.errors import InputError

VOCABULARY, END, USERS = 8, 7, 3


class Drawn:
    """Logits drawn for each user and what was written; notes how many rows each step had."""

    def __init__(self, *, flat: float = 1.0) -> None:
        self.flat = flat
        self.written: list[tuple[int, ...]] = []
        self.rows: list[int] = []

    def logits_of(self, written: tuple[int, ...]) -> np.ndarray:
        drawn = np.random.default_rng(written).normal(size=VOCABULARY) * 2 * self.flat
        return drawn.astype(np.float32)

    def begin(self) -> Tensor:
        self.written = [(user,) for user in range(USERS)]
        return self._logits()

    def step(self, parents: Tensor, tokens: Tensor) -> Tensor:
        self.written = [
            (*self.written[parent], token)
            for parent, token in zip(parents.tolist(), tokens.tolist(), strict=True)
        ]
        self.rows.append(len(self.written))
        assert [row[0] for row in self.written] == sorted(row[0] for row in self.written)
        return self._logits()

    def _logits(self) -> Tensor:
        return torch.from_numpy(np.stack([self.logits_of(written) for written in self.written]))


def equal_length() -> list[list[int]]:
    generator = np.random.default_rng(0)
    return generator.permutation(np.unique(generator.integers(0, 5, size=(50, 3)), axis=0)).tolist()


def with_an_end() -> list[list[int]]:
    generator = np.random.default_rng(1)
    words = {tuple(generator.integers(0, 3, size=generator.integers(1, 5)).tolist()) for _ in range(40)}
    return [[*word, END] for word in sorted(words)]


SEQUENCES = {"equal": equal_length(), "different": with_an_end()}
BOTH = pytest.mark.parametrize("kind", SEQUENCES)


def trie_of(kind: str) -> Trie:
    return build_trie([np.array(sequence) for sequence in SEQUENCES[kind]])


def log_probabilities(written: tuple[int, ...], sequences: list[list[int]], masking: str) -> dict[int, float]:
    """What may follow, from the items' tokens alone."""
    so_far = list(written[1:])
    legal = {row[len(so_far)] for row in sequences if row[: len(so_far)] == so_far and len(row) > len(so_far)}
    logits = Drawn().logits_of(written).astype(np.float64)
    among = sorted(legal) if masking == "before" else range(VOCABULARY)
    total = np.log(np.exp(logits[list(among)]).sum())
    return {token: logits[token] - total for token in legal}


def enumerated(user: int, sequences: list[list[int]], masking: str) -> np.ndarray:
    """The log-probability of every item, token by token."""
    return np.array(
        [
            sum(log_probabilities((user, *row[:n]), sequences, masking)[token] for n, token in enumerate(row))
            for row in sequences
        ]
    )


def narrow(user: int, sequences: list[list[int]], beams: int) -> dict[int, float]:
    """A beam search over tuples, finished items kept among the beams."""
    kept: dict[tuple[int, ...], float] = {(): 0.0}
    for _ in range(max(map(len, sequences))):
        grown = {}
        for written, score in kept.items():
            if list(written) in sequences:
                grown[written] = score
                continue
            for token, log in log_probabilities((user, *written), sequences, "before").items():
                grown[(*written, token)] = score + log
        kept = dict(sorted(grown.items(), key=lambda pair: -pair[1])[:beams])
    return {sequences.index(list(written)): score for written, score in kept.items()}


@BOTH
@pytest.mark.parametrize("masking", ["before", "after"])
def test_with_as_many_beams_as_items_it_is_exact(kind, masking):
    sequences = SEQUENCES[kind]
    found = beam_search(Drawn(), trie_of(kind), users=USERS, beams=len(sequences), masking=masking)
    for user in range(USERS):
        wanted = enumerated(user, sequences, masking)
        assert found.items[user].tolist() == np.argsort(-wanted, kind="stable").tolist()
        np.testing.assert_allclose(found.scores[user], np.sort(wanted)[::-1], rtol=1e-4, atol=1e-5)
        if masking == "before":
            assert np.exp(found.scores[user]).sum() == pytest.approx(1, abs=1e-4)
    matrix = found.by_item(len(sequences) + 1)
    assert np.isneginf(matrix[:, -1]).all() and np.isfinite(matrix[:, :-1]).all()


@BOTH
@pytest.mark.parametrize("beams", [1, 2, 4])
def test_with_few_beams_it_is_the_search_written_out(kind, beams):
    writer = Drawn()
    found = beam_search(writer, trie_of(kind), users=USERS, beams=beams)
    for user in range(USERS):
        wanted = narrow(user, SEQUENCES[kind], beams)
        assert found.items[user].tolist() == list(wanted)
        np.testing.assert_allclose(found.scores[user], list(wanted.values()), rtol=1e-4)
    assert len(writer.rows) <= trie_of(kind).longest - 1
    assert max(writer.rows) <= USERS * beams


def test_more_results_than_beams_are_what_the_last_step_could_write():
    trie, sequences = trie_of("equal"), SEQUENCES["equal"]
    writer = Drawn()
    found = beam_search(writer, trie, users=USERS, beams=2, results=6)
    assert writer.rows == [USERS * 2, USERS * 2]
    for user in range(USERS):
        exact = enumerated(user, sequences, "before")
        assert found.items[user, :2].tolist() == list(narrow(user, sequences, 2))
        items = found.items[user][found.items[user] >= 0]
        assert len(items) > 2 and len(set(items)) == len(items)
        np.testing.assert_allclose(found.scores[user, : len(items)], exact[items], rtol=1e-4)
        assert np.isneginf(found.scores[user, len(items) :]).all()


@BOTH
@pytest.mark.parametrize("masking", ["before", "after"])
def test_candidates_are_scored_exactly_and_what_they_share_once(kind, masking):
    sequences, trie = SEQUENCES[kind], trie_of(kind)
    generator = np.random.default_rng(2)
    candidates = np.stack([generator.permutation(len(sequences))[:9] for _ in range(USERS)])
    candidates[1, 1] = candidates[1, 0]
    writer = Drawn()
    scores = candidate_scores(writer, trie, candidates, masking=masking)
    for user in range(USERS):
        wanted = enumerated(user, sequences, masking)[candidates[user]]
        np.testing.assert_allclose(scores[user], wanted, rtol=1e-4, atol=1e-5)
    begun = {
        (user, *sequences[item][:n])
        for user in range(USERS)
        for item in candidates[user]
        for n in range(1, len(sequences[item]))
    }
    if masking == "before":  # what a single item goes on from is certain
        every = [tuple(sequence[:n]) for sequence in sequences for n in range(len(sequence))]
        begun = {row for row in begun if every.count(row[1:]) > 1}
    assert sum(writer.rows) == len(begun)


def test_equal_scores_go_to_the_smaller_tokens():
    sequences = np.array([[1, 0], [0, 1], [0, 0], [1, 1]])
    found = beam_search(Drawn(flat=0.0), build_trie(sequences), users=USERS, beams=3)
    assert found.items.tolist() == [[2, 1, 0]] * USERS


def test_bad_networks_and_widths():
    trie = trie_of("equal")
    with pytest.raises(InputError, match="beams 0, results 3: give at least 1"):
        beam_search(Drawn(), trie, users=USERS, beams=0, results=3)
    with pytest.raises(ValueError, match="not finite"):
        beam_search(Drawn(flat=float("inf")), trie, users=USERS, beams=2)
    with pytest.raises(ValueError, match="not finite"):
        candidate_scores(Drawn(flat=float("nan")), trie, np.zeros((USERS, 1), dtype=int))
    with pytest.raises(InputError, match="the network has 8 tokens and an item is written by token 11"):
        beam_search(Drawn(), build_trie(np.array([[1, 11], [2, 0]])), users=USERS, beams=1)
