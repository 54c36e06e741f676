"""TIGER: its probabilities against transformers' own loss and generation, its examples, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.floors.popularity import Popularity
from baselines.generative.beam_search import beam_search, candidate_scores
from baselines.generative.tiger import Tiger, TigerOptions, TigerWriter
from baselines.generative.tiger_model import TigerLists, TigerModel, TigerScorer
from baselines.generative.tiger_training import Examples, train_tiger
from baselines.generative.trie import build_trie
from bench.protocol.evaluation import ListScorer, evaluate
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import InputError
from illmrec.ranking import mean_ndcg

N_ITEMS, N_USERS = 36, 50
CODES = np.array([[item % 4, item // 12, item // 4 % 3] for item in range(N_ITEMS)])
"""The colour comes first, as where it is what features are about."""
HISTORIES = [np.array([3, 7, 11, 2, 30]), np.array([5]), np.array([9, 1, 14]), np.arange(12)]


def make_dataset(sequences: list[np.ndarray]) -> Dataset:
    return Dataset(
        name="tiny",
        items=pd.DataFrame(
            {column: [f"{column} {row}" for row in range(N_ITEMS)] for column in ITEM_COLUMNS}
        ),
        user_ids=np.array([f"u{user}" for user in range(len(sequences))], dtype=object),
        sequence_items=np.concatenate(sequences).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(sequence) for sequence in sequences])]).astype(np.int64),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


def tastes(seed: int = 0) -> list[np.ndarray]:
    """Users who take items of one colour alone; an item's colour is its number modulo 4."""
    generator = np.random.default_rng(seed)
    return [user % 4 + 4 * generator.choice(N_ITEMS // 4, 8, replace=False) for user in range(N_USERS)]


def options(**changes: Any) -> TigerOptions:
    usual = {"epochs": 12, "patience": 12, "learning_rate": 1e-2, "batch_size": 32, "width": 16, "heads": 2}
    return TigerOptions(**{**usual, "layers": 1, "warm_up": 5, "max_length": 6, **changes})


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(make_dataset(tastes()))


@pytest.fixture(scope="module")
def network() -> Tiger:
    """With random weights, two blocks, and biases that matter."""
    torch.manual_seed(0)
    found = Tiger(codes=CODES, options=options(layers=2)).eval()
    with torch.no_grad():
        for stack in (found.t5.encoder, found.t5.decoder):
            stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_()
    return found


def fitted(split: Split, *, seed: int = 0, **changes: Any) -> TigerModel:
    negatives = draw_negatives(split.dataset, seed=0, n=10)
    more = {"look": changes.pop("look")} if "look" in changes else {}
    return train_tiger(
        CODES, split=split, options=options(**changes), seed=seed, negatives=negatives, progress=False, **more
    )


@torch.no_grad()
def own_inputs(network: Tiger, history: np.ndarray) -> torch.Tensor:
    """Return the token ids of a history, without padding."""
    return network.tokens[torch.from_numpy(history[-6:])].reshape(1, -1)


@torch.no_grad()
def test_log_probabilities_are_those_of_transformers_own_loss(network: Tiger) -> None:
    """Padded and with beams side by side here, one item at a time there."""
    items = np.array([[0, 5, 35, 17], [1, 2, 3, 4], [9, 9, 10, 13], [22, 0, 34, 35]])
    trie = build_trie(network.tokens.numpy())
    found = candidate_scores(TigerWriter(network, HISTORIES), trie, items, masking="after")
    for user, history in enumerate(HISTORIES):
        inputs = own_inputs(network, history)
        for place, item in enumerate(items[user]):
            loss = network.t5(input_ids=inputs, labels=network.tokens[[item]]).loss
            assert found[user, place] == pytest.approx(-3 * loss.item(), abs=1e-4)


@torch.no_grad()
def test_training_reads_what_scoring_reads(network: Tiger) -> None:
    """The loss of a padded batch is that of its users one by one."""
    histories, lengths = np.zeros((4, 6), dtype=np.int64), np.array([min(6, len(each)) for each in HISTORIES])
    for row, history in enumerate(HISTORIES):
        histories[row, : lengths[row]] = history[-6:]
    targets = torch.tensor([4, 8, 35, 0])
    loss = network.loss(torch.from_numpy(histories), torch.from_numpy(lengths), targets)
    alone = [
        network.t5(input_ids=own_inputs(network, history), labels=network.tokens[target[None]]).loss
        for history, target in zip(HISTORIES, targets, strict=True)
    ]
    assert loss.item() == pytest.approx(torch.stack(alone).mean().item(), abs=1e-5)


def test_the_whole_catalogue_is_scored_as_candidates_are(network: Tiger) -> None:
    scorer = TigerScorer(network, options=options())
    scores = scorer.score(HISTORIES)
    assert scorer.exact and scores.dtype == np.float32
    everything = np.tile(np.arange(N_ITEMS), (len(HISTORIES), 1))
    np.testing.assert_allclose(scores, scorer.score_candidates(HISTORIES, everything), atol=1e-5)
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1.0, atol=1e-5)
    for row, history in enumerate(HISTORIES):
        np.testing.assert_allclose(scorer.score([history])[0], scores[row], atol=1e-5)
    assert scorer.tokens_per_user == 1 + 4 + 12  # all items share their first code, and their second


@torch.no_grad()
def test_beams_are_those_of_transformers_generate(network: Tiger) -> None:
    trie, tokens = build_trie(network.tokens.numpy()), network.tokens.numpy()
    own = beam_search(TigerWriter(network, HISTORIES), trie, users=len(HISTORIES), beams=6)

    def allowed(_: int, written: torch.Tensor) -> list[int]:
        (node,) = trie.walk(written[1:].numpy()[None])
        return trie.children(np.array([node]))[1].tolist()

    for user, history in enumerate(HISTORIES):
        theirs = network.t5.generate(
            own_inputs(network, history), num_beams=6, num_return_sequences=6, max_new_tokens=3, do_sample=False,
            prefix_allowed_tokens_fn=allowed, renormalize_logits=True, length_penalty=0.0,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        np.testing.assert_array_equal(tokens[own.items[user]], theirs.sequences[:, 1:].numpy())
        np.testing.assert_allclose(own.scores[user], theirs.sequences_scores.numpy(), atol=1e-4)


def test_large_catalogues_are_ranked_by_lists(network: Tiger, split: Split) -> None:
    exact = TigerScorer(network, options=options())
    few = TigerScorer(network, options=options(exact_items=N_ITEMS - 1, beams=5))
    assert not few.exact and few.tokens_per_user == 1 + 5 * 2
    scores, all_scores = few.score(HISTORIES), exact.score(HISTORIES)
    found = np.isfinite(scores)
    for row, history in zip(found, HISTORIES, strict=True):
        listed = np.setdiff1d(np.flatnonzero(row), history)
        alone = np.flatnonzero(np.isfinite(few.score([history])[0]))  # whoever is beside them
        assert len(listed) == 5 and listed.tolist() == np.setdiff1d(alone, history).tolist()
    np.testing.assert_allclose(scores[found], all_scores[found], atol=1e-5)
    whole = TigerScorer(network, options=options(exact_items=0, beams=N_ITEMS)).score(HISTORIES)
    np.testing.assert_allclose(whole, all_scores, atol=1e-5)
    model = fitted(split, epochs=1, exact_items=0, beams=5)
    assert type(model) is TigerLists and isinstance(model, ListScorer)
    negatives = draw_negatives(split.dataset, seed=0, n=10)
    ranks = evaluate(model, split.dataset, split, negatives=negatives, progress=False)
    lists = model.score([split.history(user, "test") for user in range(N_USERS)])
    outside = ~np.isfinite(lists[np.arange(N_USERS), split.targets("test")])
    # What is outside a list ties, and sampled candidates are ranked by their own scores all the same.
    assert outside.any() and (ranks["rank_full"][outside] == N_ITEMS - 7).all()
    assert (ranks["rank_sampled"] < 11).mean() > 0.6


def test_it_learns_tastes(split: Split) -> None:
    candidates = draw_negatives(split.dataset, seed=1, n=10)

    def ndcg(method: Any) -> float:
        ranks = evaluate(method, split.dataset, split, negatives=candidates, progress=False)
        return mean_ndcg(ranks["rank_sampled"].to_numpy(), 10)

    told: list[tuple[int, float]] = []
    model = fitted(split, look=lambda epoch, value: told.append((epoch, value)))
    assert type(model) is TigerModel and model.parameters > 0
    record = model.record
    assert record.training_loss[-1] < record.training_loss[0]
    assert record.validation_ndcg10[record.best_epoch - 1] == max(record.validation_ndcg10)
    assert told == list(enumerate(record.validation_ndcg10, start=1))
    assert ndcg(model) > 0.75 > ndcg(Popularity(split=split, seed=0))


def test_seeds_reproduce_and_leave_the_process_generators_alone(split: Split) -> None:
    everyone = [split.history(user, "test") for user in range(N_USERS)]
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    first = fitted(split, epochs=2).score(everyone)
    assert torch.rand(1).item() == expected
    assert first.shape == (N_USERS, N_ITEMS) and first.dtype == np.float32
    np.testing.assert_array_equal(fitted(split, epochs=2).score(everyone), first)
    assert not np.allclose(fitted(split, epochs=2, seed=1).score(everyone), first)


def test_what_must_not_be_seen_does_not_train() -> None:
    clean = tastes(seed=2)
    poisoned = [np.append(sequence[:-2], [3, 5]) for sequence in clean]
    negatives = draw_negatives(make_dataset(clean), seed=0, n=10)
    found = []
    for sequences in (clean, poisoned):
        model = train_tiger(
            CODES, split=leave_one_out(make_dataset(sequences)), options=options(epochs=1), seed=0,
            negatives=negatives, progress=False,
        )  # fmt: skip
        found.append(model.score(HISTORIES))
    np.testing.assert_array_equal(*found)


def test_an_epoch_has_every_training_target_after_what_came_before_it() -> None:
    generator = np.random.default_rng(3)
    sequences = [generator.permutation(N_ITEMS)[:length] for length in (3, 4, 12, 9)]
    split = leave_one_out(make_dataset(sequences))
    examples = Examples(split, options=options(batch_size=4), random=np.random.default_rng(0))
    wanted = {
        (*sequence[max(0, place - 6) : place].tolist(), "then", int(sequence[place]))
        for sequence in sequences
        for place in range(1, len(sequence) - 2)
    }
    assert examples.per_epoch == len(wanted) == 1 + 9 + 6
    for _ in range(2):
        seen = []
        for histories, lengths, targets in examples.batches():
            assert len(targets) <= 4 and histories.shape == (len(targets), lengths.max())
            for history, length, target in zip(histories, lengths, targets, strict=True):
                seen.append((*history[:length].tolist(), "then", int(target)))
        assert len(seen) == len(wanted) and set(seen) == wanted


def test_an_epoch_draws_some_of_many_targets() -> None:
    split = leave_one_out(make_dataset([np.arange(N_ITEMS), np.arange(5)]))
    examples = Examples(split, options=options(targets_per_user=4), random=np.random.default_rng(0))
    assert examples.per_epoch == 4 + 2
    drawn = [examples.draw() for _ in range(60)]
    assert all(np.bincount(users, minlength=2).tolist() == [4, 2] for users, _ in drawn)
    places = np.concatenate([places[users == 0] for users, places in drawn])
    assert set(places.tolist()) == set(range(1, 34))  # of training items, all but the first


def test_bad_input(network: Tiger) -> None:
    for changes, message in [
        ({"width": 0}, "width is 0; give 1 or more"),
        ({"width": 10, "heads": 4}, "width 10 does not divide into 4 heads"),
        ({"dropout": 1.0}, "dropout is 1.0; give 0 to below 1"),
        ({"levels": 17}, "levels is 17; give at most 16"),
        ({"levels": 1}, "levels 1: must be at least 2"),
        ({"codebook": 1}, "codebook 1: must be at least 2"),
        ({"beams": 0}, "beams is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give more than 0"),
    ]:
        with pytest.raises(InputError, match=message):
            options(**changes)
    with pytest.raises(InputError, match="history 1 is empty: tiger needs one item"):
        TigerScorer(network, options=options()).score([np.array([1]), np.array([], dtype=np.int64)])
