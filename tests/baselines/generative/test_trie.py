"""The trie: what it allows and where it leads, beside a set of prefixes."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.generative.trie import build_trie
from illmrec.errors import InputError

END = 9


def equal_length() -> list[list[int]]:
    generator = np.random.default_rng(0)
    rows = np.unique(generator.integers(0, 4, size=(60, 3)), axis=0)
    return generator.permutation(rows).tolist()


def with_an_end() -> list[list[int]]:
    """Words of one to four tokens, some of which begin others, each with an end token."""
    generator = np.random.default_rng(1)
    words = {tuple(generator.integers(0, 3, size=generator.integers(1, 5)).tolist()) for _ in range(40)}
    return [[*word, END] for word in sorted(words, key=lambda word: hash((word, 7)))]


@pytest.mark.parametrize("sequences", [equal_length(), with_an_end()], ids=["equal", "different"])
def test_it_allows_what_begins_an_item_and_nothing_else(sequences):
    trie = build_trie([np.array(sequence) for sequence in sequences])
    begun = {tuple(sequence[:n]) for sequence in sequences for n in range(len(sequence) + 1)}
    assert trie.n_nodes == len(begun) and trie.n_items == len(sequences)
    assert trie.longest == max(map(len, sequences))
    asked = [prefix for prefix in begun if len(prefix) < trie.longest]
    asked += [(*prefix, token) for prefix in asked for token in range(10) if len(prefix) + 1 < trie.longest]
    padded = np.full((len(asked), trie.longest), -1)
    for row, prefix in enumerate(asked):
        padded[row, : len(prefix)] = prefix
    nodes = trie.walk(padded)
    assert [node >= 0 for node in nodes] == [prefix in begun for prefix in asked]
    mask = trie.allowed(nodes, vocabulary=10)
    for prefix, row, node in zip(asked, mask, nodes, strict=True):
        assert set(np.flatnonzero(row)) == {
            token for token in range(10) if (*prefix, token) in begun and prefix in begun
        }
        if node >= 0:
            assert trie.depth[node] == len(prefix)
            whole = sequences.index(list(prefix)) if list(prefix) in sequences else -1
            assert trie.items[node] == whole


@pytest.mark.parametrize("sequences", [equal_length(), with_an_end()], ids=["equal", "different"])
def test_paths_lead_to_the_items(sequences):
    trie = build_trie([np.array(sequence) for sequence in sequences])
    asked = np.array([3, 0, 3, len(sequences) - 1])
    paths = trie.paths(asked)
    for item, path in zip(asked, paths, strict=True):
        nodes = path[path >= 0]
        assert trie.items[nodes[-1]] == item
        assert trie.tokens[nodes - 1].tolist() == sequences[item]
        assert len(nodes) == len(sequences[item]) and (path[len(nodes) :] == -1).all()


def test_children_stand_side_by_side():
    trie = build_trie(np.array([[1, 5], [0, 7], [1, 2]]))
    parent, tokens, nodes = trie.children(np.array([0, 2, 1]))
    assert parent.tolist() == [0, 0, 1, 1, 2]
    assert tokens.tolist() == [0, 1, 2, 5, 7]
    assert trie.items[nodes].tolist() == [-1, -1, 2, 0, 1]
    assert trie.step(np.array([-1, 0, 3]), np.array([0, 4, 7])).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("sequences", [equal_length(), with_an_end()], ids=["equal", "different"])
def test_items_below_a_node_are_those_that_begin_so(sequences):
    trie = build_trie([np.array(sequence) for sequence in sequences])
    paths = trie.paths(np.arange(len(sequences)))
    assert trie.items_below[0] == len(sequences)
    for item, sequence in enumerate(sequences):
        for length in range(1, len(sequence) + 1):
            begun = sum(other[:length] == sequence[:length] for other in sequences)
            assert trie.items_below[paths[item, length - 1]] == begun


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "no item has tokens"),
        ([[1], []], "item 1 has no tokens"),
        ([[1, 2], [3, 4], [1, 2]], "items 0 and 2 have the same tokens"),
        ([[3, 4], [1, 2, 3], [1, 2]], "tokens of item 2 begin those of another item"),
        ([[1, -2]], "a token is below 0"),
    ],
)
def test_bad_sequences(sequences, message):
    with pytest.raises(InputError, match=message):
        build_trie([np.array(sequence, dtype=np.int64) for sequence in sequences])
