"""BM3: its loss and gradients against another writing of it, content counts where there is some, and it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_vbpr import N_ITEMS, N_USERS, make_dataset, tastes

from baselines.bm3 import BM3, BM3Options
from baselines.factor_training import train_factors
from baselines.floors.popularity import Popularity
from baselines.vbpr import centred
from bench.protocol.evaluation import evaluate
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import InputError
from illmrec.ranking import mean_ndcg

EVERYTHING = np.ones(N_ITEMS, dtype=bool)


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(make_dataset(tastes()))


@pytest.fixture(scope="module")
def features() -> dict[str, np.ndarray]:
    """Pictures that show an item's colour, texts of noise."""
    generator = np.random.default_rng(1)
    pictures, texts = (0.3 * generator.normal(size=(N_ITEMS, width)) for width in (6, 5))
    pictures[np.arange(N_ITEMS), np.arange(N_ITEMS) % 4] += 1.0
    return {"image": pictures.astype(np.float32), "text": texts.astype(np.float32)}


def options(**changes: Any) -> BM3Options:
    usual = {"epochs": 20, "patience": 20, "learning_rate": 1e-2, "batch_size": 64, "width": 8}
    return BM3Options(**{**usual, **changes})


def network(split: Split, features: dict[str, np.ndarray], chosen: BM3Options, **present: np.ndarray) -> BM3:
    has = {name: present.get(name, EVERYTHING) for name in features}
    return BM3(features=features, present=has, split=split, options=chosen)


def test_the_loss_and_its_gradients_are_those_of_the_paper(
    split: Split, features: dict[str, np.ndarray]
) -> None:
    """With a dense graph, a loop over pairs and explicit constants for targets; without dropout."""
    has_image = EVERYTHING.copy()
    has_image[5] = False
    torch.manual_seed(0)
    chosen = options(layers=2, dropout=0.0, regularisation=0.3, alignment=1.5)
    model = network(split, features, chosen, image=has_image)
    users, items = torch.tensor([0, 3, 3]), torch.tensor([4, 5, 7])
    ours = model.loss(users, items, items)
    ours.backward()
    found = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()

    size = N_USERS + N_ITEMS
    adjacency = torch.zeros(size, size)
    for user in range(N_USERS):
        for item in split.train(user):
            adjacency[user, N_USERS + item] = adjacency[N_USERS + item, user] = 1
    scale = torch.diag(adjacency.sum(1).clamp(min=1e-9) ** -0.5)
    step = scale @ adjacency @ scale
    first = torch.cat([model.user_embedding, model.item_embedding])
    mean = (first + step @ first + step @ step @ first) / 3
    by_user, by_item = mean[:N_USERS], mean[N_USERS:] + model.item_embedding

    def apart(online: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        online, target = F.linear(online, model.predictor.weight, model.predictor.bias), target.detach()
        return 1 - (online @ target) / (online.norm() * target.norm())

    theirs = 0.3 * ((by_user**2).sum() / N_USERS + (by_item**2).sum() / N_ITEMS)
    for user, item in zip(users, items, strict=True):
        theirs = theirs + (apart(by_user[user], by_item[item]) + apart(by_item[item], by_user[user])) / 3
        for name, has in (("image", has_image), ("text", EVERYTHING)):
            if has[item]:
                values = torch.from_numpy(centred(features[name], has))[item]
                projected = F.linear(values, model.projections[name].weight, model.projections[name].bias)
                both = apart(projected, by_item[item]) + apart(projected, projected)
                theirs = theirs + 1.5 * both / int(has[items.numpy()].sum())
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    theirs.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-6)
    users_factors, items_factors, bias = model.eval().factors()
    torch.testing.assert_close(users_factors, model.predictor(by_user), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(items_factors, model.predictor(by_item), rtol=1e-4, atol=1e-5)
    assert not bias.any()


def test_targets_have_dropout_in_training_alone(split: Split, features: dict[str, np.ndarray]) -> None:
    model = network(split, features, options(dropout=0.5))
    users, items = torch.tensor([0, 3, 3]), torch.tensor([4, 5, 7])
    drawn = {model.loss(users, items, items).item() for _ in range(3)}
    assert len(drawn) == 3
    model.eval()
    assert len({model.loss(users, items, items).item() for _ in range(3)}) == 1


def test_it_learns_tastes_and_seeds_reproduce(split: Split, features: dict[str, np.ndarray]) -> None:
    candidates = draw_negatives(split.dataset, seed=1, n=10)
    chosen = options()

    def fitted(seed: int) -> Any:
        return train_factors(
            lambda: network(split, features, chosen),
            name="bm3", split=split, options=chosen, seed=seed,
            negatives=draw_negatives(split.dataset, seed=0, n=10), progress=False,
        )  # fmt: skip

    def ndcg(method: Any) -> float:
        ranks = evaluate(method, split.dataset, split, negatives=candidates, progress=False)
        return mean_ndcg(ranks["rank_sampled"].to_numpy(), 10)

    model = fitted(0)
    assert model.record.training_loss[-1] < model.record.training_loss[0]
    assert ndcg(model) > 0.8 > ndcg(Popularity(split=split, seed=0))
    everyone = np.arange(N_USERS)
    scores = model.score_users(everyone, [])
    np.testing.assert_array_equal(fitted(0).score_users(everyone, []), scores)
    assert not np.allclose(fitted(1).score_users(everyone, []), scores)


def test_bad_input() -> None:
    for changes, message in [
        ({"width": 0}, "width is 0; give 1 or more"),
        ({"layers": 0}, "layers is 0"),
        ({"dropout": 1.0}, "dropout is 1.0; give 0 to below 1"),
        ({"alignment": -1.0}, "alignment is -1.0; give 0 or more"),
        ({"patience": 0}, "patience is 0"),
    ]:
        with pytest.raises(InputError, match=message):
            options(**changes)
