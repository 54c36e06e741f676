"""VBPR: scores and gradients by their formulas, pictures count where they should, and it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.factor_training import FactorModel, train_factors
from baselines.floors.popularity import Popularity
from baselines.unseen_items import UnseenItems
from baselines.vbpr import VBPR, VBPROptions, centred
from bench.protocol.evaluation import UserScorer, evaluate
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import DivergedError, InputError
from illmrec.ranking import mean_ndcg

N_ITEMS, N_USERS, WIDTH = 40, 60, 6


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


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset(tastes())


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Pictures that show the colour, and noise."""
    generator = np.random.default_rng(1)
    found = 0.3 * generator.normal(size=(N_ITEMS, WIDTH))
    found[np.arange(N_ITEMS), np.arange(N_ITEMS) % 4] += 1.0
    return found.astype(np.float32)


def options(**changes: Any) -> VBPROptions:
    usual = {"epochs": 15, "patience": 15, "learning_rate": 2e-2, "batch_size": 64, "factors": 4}
    return VBPROptions(**{**usual, "visual_factors": 4, **changes})


def network(features: np.ndarray, chosen: VBPROptions, **changes: Any) -> VBPR:
    arguments = {
        "features": features,
        "has_image": np.ones(N_ITEMS, dtype=bool),
        "known": np.ones(N_USERS, dtype=bool),
    }
    return VBPR(**{**arguments, **changes}, options=chosen)


def fitted(
    split: Split, features: np.ndarray, chosen: VBPROptions, *, seed: int = 0, **more: Any
) -> FactorModel:
    negatives = draw_negatives(split.dataset, seed=0, n=10)
    return train_factors(
        lambda: network(features, chosen),
        name="vbpr", split=split, options=chosen, seed=seed, negatives=negatives, progress=False, **more,
    )  # fmt: skip


def parts(model: VBPR) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in model.named_parameters()}


def test_scores_and_gradients_are_those_of_the_formula(features: np.ndarray) -> None:
    """In NumPy, with the gradients of the paper's update rule written out."""
    torch.manual_seed(0)
    model = network(features, options(regularisation=0.3))
    with torch.no_grad():
        model.item_bias.normal_()
        model.visual_bias.normal_()
    f = centred(features, np.ones(N_ITEMS, dtype=bool)).astype(np.float64)
    p = parts(model)

    def score(user: int, item: int) -> float:
        return float(
            p["item_bias"][item]
            + p["user_factors"][user] @ p["item_factors"][item]
            + p["visual_factors"][user] @ (p["projection"].T @ f[item])
            + p["visual_bias"] @ f[item]
        )

    triples = np.array([[0, 1, 2], [3, 4, 5], [0, 5, 4]])
    users, items, others = triples.T
    by_user, by_item, bias = (part.detach().numpy() for part in model.factors())
    wanted = np.array([[score(user, item) for item in range(N_ITEMS)] for user in range(N_USERS)])
    np.testing.assert_allclose(by_user @ by_item.T + bias, wanted, rtol=1e-4, atol=1e-5)

    loss = model.loss(*(torch.from_numpy(part) for part in (users, items, others)))
    loss.backward()
    expected, gradients = 0.0, {name: np.zeros_like(value) for name, value in p.items()}
    for user, item, other in triples:
        difference = wanted[user, item] - wanted[user, other]
        expected += np.log1p(np.exp(-difference)) / 3
        push = -1 / (1 + np.exp(difference)) / 3
        gradients["user_factors"][user] += push * (p["item_factors"][item] - p["item_factors"][other])
        gradients["visual_factors"][user] += push * (f[item] - f[other]) @ p["projection"]
        gradients["projection"] += push * np.outer(f[item] - f[other], p["visual_factors"][user])
        gradients["visual_bias"] += push * (f[item] - f[other])
        for row, sign in ((item, 1), (other, -1)):
            gradients["item_factors"][row] += push * sign * p["user_factors"][user]
            gradients["item_bias"][row] += push * sign
        for name, row in (
            ("user_factors", user), ("visual_factors", user), ("item_factors", item),
            ("item_factors", other), ("item_bias", item), ("item_bias", other),
        ):  # fmt: skip
            expected += 0.15 * float((p[name][row] ** 2).sum()) / 3
            gradients[name][row] += 0.3 * p[name][row] / 3
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_allclose(
            parameter.grad.numpy(), gradients[name], rtol=1e-3, atol=1e-5, err_msg=name
        )


def test_it_learns_tastes_and_pictures_say_more_of_rare_items(dataset: Dataset, features: np.ndarray) -> None:
    split = leave_one_out(dataset)
    candidates = draw_negatives(dataset, seed=1, n=10)

    def ndcg(method: Any) -> float:
        ranks = evaluate(method, dataset, split, negatives=candidates, progress=False)
        return mean_ndcg(ranks["rank_sampled"].to_numpy(), 10)

    model = fitted(split, features, options())
    assert isinstance(model, UserScorer) and model.parameters > 0
    record = model.record
    assert record.training_loss[-1] < record.training_loss[0]
    assert record.validation_ndcg10[record.best_epoch - 1] == max(record.validation_ndcg10)
    assert ndcg(model) > 0.8 > ndcg(Popularity(split=split, seed=0))
    # A picture tells what nobody has taken in training: the items of the first colour but one are never seen.
    rare = [sequence[sequence > 3] for sequence in tastes()]
    small = make_dataset([sequence for sequence in rare if len(sequence) > 3])
    unseen = np.setdiff1d(np.arange(N_ITEMS), leave_one_out(small).train_items())
    assert {0, 1, 2, 3} <= set(unseen)
    trained = fitted(leave_one_out(small), features, options(factors=1)).score_users(np.arange(40), [])
    best = trained[:, :4].argmax(axis=1)
    colours = np.array([sequence[0] % 4 for sequence in rare if len(sequence) > 3])[:40]
    assert (best == colours).mean() > 0.8


def test_what_has_no_picture_has_no_visual_part(features: np.ndarray) -> None:
    has_image = np.ones(N_ITEMS, dtype=bool)
    has_image[[3, 7]] = False
    strange = features.copy()
    strange[[3, 7]] = 1e6
    torch.manual_seed(0)
    model = network(strange, options(), has_image=has_image)
    _, items, _ = model.factors()
    assert not items[[3, 7], 4:].any() and items[[2, 6], 4:].all()
    lengths = (model.visual[has_image] ** 2).sum(1)
    assert lengths.mean().item() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(model.visual[has_image].mean(0).numpy(), 0.0, atol=1e-6)


def test_unknown_users_are_scored_by_biases_alone(features: np.ndarray) -> None:
    known = np.ones(N_USERS, dtype=bool)
    known[[2, 5]] = False
    users, _, _ = network(features, options(), known=known).factors()
    assert not users[[2, 5]].any() and users[known].any(dim=1).all()


def test_seeds_reproduce_and_leave_the_process_generators_alone(
    dataset: Dataset, features: np.ndarray
) -> None:
    split, chosen = leave_one_out(dataset), options(epochs=3)
    everyone = np.arange(N_USERS)
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    first = fitted(split, features, chosen).score_users(everyone, [])
    assert torch.rand(1).item() == expected
    assert first.shape == (N_USERS, N_ITEMS) and first.dtype == np.float32
    np.testing.assert_array_equal(fitted(split, features, chosen).score_users(everyone, []), first)
    assert not np.allclose(fitted(split, features, chosen, seed=1).score_users(everyone, []), first)


def test_what_must_not_be_seen_does_not_train(features: np.ndarray) -> None:
    clean = tastes(seed=2)
    poisoned = [np.append(sequence[:-2], [3, 5]) for sequence in clean]
    negatives = draw_negatives(make_dataset(clean), seed=0, n=10)
    found = []
    for sequences in (clean, poisoned):
        chosen = options(epochs=1)
        model = train_factors(
            lambda chosen=chosen: network(features, chosen),
            name="vbpr", split=leave_one_out(make_dataset(sequences)), options=chosen, seed=0,
            negatives=negatives, progress=False,
        )  # fmt: skip
        found.append(model.score_users(np.arange(N_USERS), []))
    np.testing.assert_array_equal(*found)


def test_training_stops_without_gain_and_tells_every_epoch(dataset: Dataset, features: np.ndarray) -> None:
    told: list[tuple[int, float]] = []
    model = fitted(
        leave_one_out(dataset), features, options(epochs=60, patience=2, learning_rate=0.5),
        look=lambda epoch, value: told.append((epoch, value)),
    )  # fmt: skip
    record = model.record
    assert record.epochs == record.best_epoch + 2 < 60 and model.converged
    assert told == list(enumerate(record.validation_ndcg10, start=1))


def test_a_learning_rate_at_which_it_diverges_is_told(dataset: Dataset, features: np.ndarray) -> None:
    with pytest.raises(DivergedError, match="a lower learning rate may help"):
        fitted(leave_one_out(dataset), features, options(learning_rate=1e30, epochs=3))


def test_negatives_are_what_a_user_never_met() -> None:
    users, items = np.array([0, 0, 0, 1]), np.array([0, 1, 3, 2])
    unseen = UnseenItems(users=users, items=items, n_items=5)
    drawn = unseen.draw(np.repeat([0, 1, 2], 400), np.random.default_rng(0)).reshape(3, 400)
    assert [set(row) for row in drawn.tolist()] == [{2, 4}, {0, 1, 3, 4}, {0, 1, 2, 3, 4}]
    assert np.bincount(drawn[0], minlength=5)[[2, 4]].min() > 150
    with pytest.raises(InputError, match="no negative to sample"):
        UnseenItems(users=np.zeros(3, dtype=int), items=np.arange(3), n_items=3)


def test_bad_input() -> None:
    for changes, message in [
        ({"factors": 0}, "factors is 0; give 1 or more"),
        ({"visual_factors": 0}, "visual_factors is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; give more than 0"),
        ({"regularisation": -0.1}, "regularisation is -0.1; give 0 or more"),
    ]:
        with pytest.raises(InputError, match=message):
            options(**changes)
