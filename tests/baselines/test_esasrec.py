"""eSASRec: its network against another writing of it, its loss against brute force, and it learns."""

# RecBole has to be looked for and adapted before the modules that subclass it are imported.
# ruff: noqa: E402

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("recbole", reason="RecBole is not installed")

from baselines.recbole_compat import require_recbole

require_recbole()

from recbole.data.interaction import Interaction
from test_recbole_models import N_ITEMS, fitted, make_dataset, small, walks

from baselines.floors.popularity import Popularity
from baselines.ligr import ESASRec, LiGRBlock
from baselines.recbole_models import RecBoleRecommender
from baselines.recbole_networks import TARGETS
from baselines.recbole_options import RecBoleOptions, default_options
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.model.retrieval_loss import Sampler
from illmrec.ranking import mean_ndcg, target_ranks


@pytest.fixture(scope="module")
def model() -> RecBoleRecommender:
    return fitted(make_dataset(walks()), small("esasrec", epochs=1, dropout=0.0))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_a_block_is_what_its_formula_says() -> None:
    """Attention is PyTorch's module with the same weights, the rest NumPy."""
    torch.manual_seed(0)
    block = LiGRBlock(width=8, heads=2, inner=12, dropout=0.3, attention_dropout=0.3).eval()
    states = torch.randn(3, 5, 8)
    reference = nn.MultiheadAttention(8, 2, batch_first=True)
    reference.in_proj_weight.data = block.attention.into.weight.data
    reference.in_proj_bias.data = block.attention.into.bias.data
    reference.out_proj.load_state_dict(block.attention.out.state_dict())
    future = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)

    def numbers(layer: nn.Module) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in layer.state_dict().items()}

    def normal(values: np.ndarray) -> np.ndarray:
        return (values - values.mean(-1, keepdims=True)) / np.sqrt(values.var(-1, keepdims=True) + 1e-5)

    def gate(layer: nn.Module, values: np.ndarray) -> np.ndarray:
        return sigmoid(values @ numbers(layer)["weight"].T + numbers(layer)["bias"])

    with torch.no_grad():
        x = states.numpy()
        normed = torch.from_numpy(normal(x))
        attended = reference(normed, normed, normed, attn_mask=future)[0].numpy()
        x = x + gate(block.attention_gate, x) * attended
        inside = normal(x) @ numbers(block.feed_forward.into)["weight"].T
        value = inside[..., :12] * sigmoid(inside[..., :12]) * inside[..., 12:]
        x = x + gate(block.feed_forward_gate, x) * (value @ numbers(block.feed_forward.out)["weight"].T)
        np.testing.assert_allclose(block(states).numpy(), x, rtol=1e-4, atol=1e-5)


def test_no_state_sees_what_comes_later(model: RecBoleRecommender) -> None:
    network = model._network
    assert isinstance(network, ESASRec)
    first, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 9, 0]])
    with torch.no_grad():
        short = network(torch.tensor([[1, 2]]), torch.tensor([2]))
        for sequence in (first, other):
            torch.testing.assert_close(network(sequence, torch.tensor([2])), short, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(network(first, torch.tensor([3])), network(other, torch.tensor([3])))


def test_the_loss_is_a_softmax_over_corrected_draws(model: RecBoleRecommender) -> None:
    network = model._network
    frequency = np.arange(N_ITEMS, dtype=np.float64)
    sequences, targets = torch.tensor([[3, 4, 5], [7, 8, 0]]), torch.tensor([[4, 5, 4], [8, 9, 0]])
    batch = {"item_id_list": sequences, "item_length": torch.tensor([3, 2]), TARGETS: targets}
    kept = network.sampling
    try:
        network.sampling = Sampler(frequency, uniform=6), np.random.default_rng(3)
        ours = network.calculate_loss(Interaction(batch)).item()
    finally:
        network.sampling = kept
    wanted = np.array([4, 5, 4, 8, 9]) - 1
    drawn = np.concatenate([wanted, np.random.default_rng(3).integers(N_ITEMS, size=6)])
    with torch.no_grad():
        prefixes = [
            sequences[row : row + 1, :length] for row, length in ((0, 1), (0, 2), (0, 3), (1, 1), (1, 2))
        ]
        states = [network(prefix, torch.tensor([prefix.shape[1]])) for prefix in prefixes]
        logits = (torch.cat(states) @ network.item_embedding.weight[1:].T).double().numpy()
    losses = []
    for row, target in zip(logits, wanted, strict=True):
        total = np.exp(row[target])
        for item in drawn[drawn != target]:
            expected = 5 * frequency[item] / frequency.sum() + 6 / N_ITEMS
            total += np.exp(row[item]) / expected
        losses.append(np.log(total) - row[target])
    assert ours == pytest.approx(np.mean(losses), rel=1e-4)


def test_it_learns_the_next_item() -> None:
    data = make_dataset(walks(60))
    model = fitted(data, small("esasrec", learning_rate=1e-2, dropout=0.0, epochs=15, patience=15))
    record = model.record
    assert record is not None and record.training_loss[-1] < record.training_loss[0]
    split = leave_one_out(data)

    def ndcg(scores: np.ndarray) -> float:
        candidates = draw_negatives(data, seed=1, n=10)
        return mean_ndcg(target_ranks(scores, split.targets("test"), candidates=candidates), 10)

    histories = split.histories("test")
    assert ndcg(model.score(histories)) > 0.75 > ndcg(Popularity(split=split, seed=0).score(histories))


def test_seeds_reproduce_and_saving_keeps_everything(model: RecBoleRecommender, tmp_path: Path) -> None:
    data = make_dataset(walks())
    histories = leave_one_out(data).histories("test")
    scores = model.score(histories)
    np.testing.assert_array_equal(fitted(data, model.options).score(histories), scores)
    assert not np.allclose(fitted(data, model.options, seed=1).score(histories), scores)
    alone = np.concatenate([model.score([history]) for history in histories])
    np.testing.assert_allclose(alone, scores, rtol=1e-4, atol=1e-5)
    model.save(tmp_path)
    loaded = RecBoleRecommender.load(tmp_path)
    assert loaded.options == model.options and loaded.record == model.record
    np.testing.assert_array_equal(loaded.score(histories), scores)
    assert loaded.item_embeddings().shape == (N_ITEMS, 16)


def test_bad_input() -> None:
    for changes, message in [
        ({"negatives": None}, "give negatives with loss 'sampled', and only with it"),
        ({"negatives": 0}, "negatives is 0"),
        ({"loss": "ce"}, "give negatives with loss 'sampled', and only with it"),
        ({"targets": "one"}, "next item at every position"),
        ({"hidden_size": 15}, "does not divide into 2 heads"),
        ({"mask_ratio": 0.2}, "mask_ratio is of bert4rec alone"),
    ]:
        with pytest.raises(InputError, match=message):
            default_options("esasrec", **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give negatives"):
        RecBoleOptions(model="sasrec", negatives=5)
    assert "negatives" not in default_options("sasrec").described()
