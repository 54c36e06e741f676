"""Losses over the catalogue against plain autograd, in chunks too, and against their expectation when sampled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from illmrec.model import retrieval_loss
from illmrec.model.retrieval_loss import Sampler, sampled_softmax_loss, softmax_loss

USERS, ITEMS, HEADS, SHARED = 7, 11, 2, 4


def inputs(seed: int = 0, items: int = ITEMS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(USERS, HEADS, SHARED, generator=generator, dtype=torch.float64).requires_grad_()
    table = torch.randn(items, HEADS, SHARED, generator=generator, dtype=torch.float64).requires_grad_()
    return users, table, torch.randint(items, (USERS,), generator=generator)


def plain(users: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, *, together: bool) -> torch.Tensor:
    affinities = torch.einsum("uhd,ihd->hui", users, items)
    loss = sum(functional.cross_entropy(part, targets, reduction="sum") for part in affinities)
    if together:
        loss = loss + functional.cross_entropy(affinities.sum(0), targets, reduction="sum")
    return loss


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("logits", [1, 3 * ITEMS * HEADS, 1 << 20])
def test_softmax_and_its_gradients_are_those_of_plain_autograd(together, logits, monkeypatch):
    monkeypatch.setattr(retrieval_loss, "LOGITS", logits)
    users, items, targets = inputs()
    loss = softmax_loss(users, items, targets, together=together)
    expected = plain(users, items, targets, together=together)
    torch.testing.assert_close(loss, expected)
    for own, reference in zip(
        torch.autograd.grad(2 * loss, (users, items)),
        torch.autograd.grad(2 * expected, (users, items)),
        strict=True,
    ):
        torch.testing.assert_close(own, reference)


def test_a_sample_of_everything_is_the_whole_softmax():
    users, items, targets = inputs()
    ones = torch.ones(ITEMS, dtype=torch.float64)
    loss = sampled_softmax_loss(users, items, targets, sampled=ones, expected=ones, together=True)
    torch.testing.assert_close(loss, plain(users, items, targets, together=True))
    own = torch.autograd.grad(loss, (users, items))
    reference = torch.autograd.grad(plain(users, items, targets, together=True), (users, items))
    torch.testing.assert_close(own, reference)


def test_the_sum_inside_a_sampled_softmax_is_right_on_average():
    users, items, targets = inputs(items=40)
    users, items = users.detach() * 0.5, items.detach()
    frequency = np.random.default_rng(0).integers(1, 30, size=40).astype(float)
    sampler = Sampler(frequency, uniform=15)
    generator = np.random.default_rng(1)
    affinities = torch.einsum("uhd,ihd->hui", users, items)
    own = affinities.gather(2, targets.expand(HEADS, -1)[..., None])[..., 0]
    exact = affinities.exp().sum(2)
    sums = []
    for _ in range(3000):
        # The other targets of a batch are negatives: as often as they are targets in the data.
        batch = generator.choice(40, size=25, p=frequency / frequency.sum())
        rows, at, drawn, expected = sampler.draw(batch, generator)
        assert (rows[at] == batch).all() and drawn.sum() == 40
        weight = torch.from_numpy(drawn / expected)
        estimate = (affinities[:, :, rows].exp() * weight).sum(2)
        hits = torch.from_numpy(rows)[None, :] == targets[:, None]
        of_target = (affinities[:, :, rows].exp() * weight * hits).sum(2)
        sums.append(estimate - of_target + own.exp())
    mean, error = torch.stack(sums).mean(0), torch.stack(sums).std(0) / len(sums) ** 0.5
    assert ((mean - exact).abs() < 5 * error).all()


def test_a_sampled_loss_comes_near_the_exact_one_as_the_sample_grows():
    users, items, targets = inputs(items=400)
    users, items = users.detach(), items.detach()
    exact = float(softmax_loss(users, items, targets))
    off = []
    for uniform in (20, 200, 20_000):
        sampler = Sampler(np.ones(400), uniform=uniform)
        estimates = []
        for seed in range(20):
            rows, at, drawn, expected = map(
                torch.from_numpy, sampler.draw(targets.numpy(), np.random.default_rng(seed))
            )
            loss = sampled_softmax_loss(users, items[rows], at, sampled=drawn, expected=expected.double())
            estimates.append(abs(float(loss) - exact))
        off.append(np.mean(estimates))
    assert off[0] > off[1] > off[2] and off[2] < 0.01 * exact


def test_items_that_were_drawn_as_targets_only_do_not_count_against_others():
    users, items, targets = inputs()
    drawn = torch.zeros(ITEMS, dtype=torch.float64)
    loss = sampled_softmax_loss(users, items, targets, sampled=drawn, expected=torch.ones_like(drawn))
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert all(bool(torch.isfinite(part).all()) for part in torch.autograd.grad(loss, (users, items)))
