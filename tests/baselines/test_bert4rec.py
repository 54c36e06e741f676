"""BERT4Rec: RecBole's own forward, loss and scores agree, masks are what they should be, and it learns."""

# RecBole has to be looked for and adapted before the modules that subclass it are imported.
# ruff: noqa: E402

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("recbole", reason="RecBole is not installed")

from baselines.recbole_compat import require_recbole

require_recbole()

from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import BERT4Rec
from test_recbole_models import N_ITEMS, fitted, make_dataset, small, walks

from baselines.floors.popularity import Popularity
from baselines.recbole_masking import MaskedBatches, MaskedBERT4Rec
from baselines.recbole_models import RecBoleRecommender
from baselines.recbole_networks import TARGETS
from baselines.recbole_options import RecBoleOptions, default_options
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.ranking import mean_ndcg, target_ranks

MASK = N_ITEMS + 1


@pytest.fixture(scope="module")
def model() -> RecBoleRecommender:
    return fitted(make_dataset(walks()), small("bert4rec", epochs=1, dropout=0.0))


def batches(users: list[np.ndarray], **changes: object) -> MaskedBatches:
    settings = {
        "items": np.concatenate(users).astype(np.int32),
        "offsets": np.cumsum([0, *map(len, users)]),
        "n_items": N_ITEMS,
        "window": 8,
        "batch_size": 4,
        "seed": 0,
        "mask_ratio": 0.3,
        "last_ratio": 0.5,
    }
    return MaskedBatches(**settings | changes)  # type: ignore[arg-type]


def test_masked_rows_are_windows_and_targets_what_the_mask_hides() -> None:
    users = [np.arange(length) + 10 for length in (1, 2, 5, 9, 23) * 20]  # the next item is one more
    alone = rows = 0
    for batch in batches(users):
        for sequence, length, targets in zip(
            batch["item_id_list"].numpy(), batch["item_length"].numpy(), batch[TARGETS].numpy(), strict=True
        ):
            masked = sequence == MASK
            assert masked.any() and np.array_equal(masked, targets > 0)
            whole = np.where(masked, targets, sequence)[:length]
            assert 2 <= length <= 9 and np.array_equal(whole, whole[0] + np.arange(length))
            assert not sequence[length:].any()
            rows += 1
            alone += masked.sum() == 1 and bool(masked[length - 1])
    assert 0.45 < alone / rows < 0.75  # half by the ratio, and some by chance


@pytest.mark.parametrize(("mask_ratio", "last_ratio"), [(0.5, 0.0), (0.2, 0.5), (0.2, 1.0)])
def test_an_epoch_has_about_as_many_targets_as_one_of_next_items(
    mask_ratio: float, last_ratio: float
) -> None:
    users = walks(200, low=6, high=30)
    drawn = batches(users, mask_ratio=mask_ratio, last_ratio=last_ratio)
    found = [int((batch[TARGETS] > 0).sum()) for batch in drawn]
    assert sum(found) == pytest.approx(sum(len(user) - 1 for user in users), rel=0.3)
    assert len(found) == pytest.approx(drawn.expected_batches, rel=0.2)


def test_only_the_last_item_and_every_epoch_anew() -> None:
    users = walks(40)
    last = batches(users, last_ratio=1.0)
    for batch in last:
        places = batch["item_length"].numpy() - 1
        assert ((batch["item_id_list"] == MASK).sum(1) == 1).all()
        assert (batch["item_id_list"].numpy()[np.arange(len(places)), places] == MASK).all()
    drawn = batches(users)
    first, second = (torch.cat([batch[TARGETS].flatten() for batch in drawn]) for _ in range(2))
    assert len(first) != len(second) or not torch.equal(first, second)


def test_the_loss_is_that_of_recbole(model: RecBoleRecommender) -> None:
    """RecBole's own loss on its own fields, where no first item is masked and padding is out of the softmax."""
    network = model._network
    sequences = torch.tensor([[3, MASK, 5, MASK], [7, 8, MASK, 0]])
    targets = torch.tensor([[0, 4, 0, 6], [0, 0, 9, 0]])
    ours = network.calculate_loss(
        Interaction({"item_id_list": sequences, "item_length": torch.tensor([4, 3]), TARGETS: targets})
    )
    before = network.output_bias.detach().clone()
    try:
        network.output_bias.data[0] = -1e9
        network.MASK_ITEM_SEQ, network.POS_ITEMS = "masked", "positives"
        network.NEG_ITEMS, network.MASK_INDEX = "negatives", "places"
        theirs = BERT4Rec.calculate_loss(
            network,
            Interaction(
                {
                    "masked": sequences,
                    "positives": torch.tensor([[4, 6], [0, 9]]),
                    "negatives": torch.ones(2, 2, dtype=torch.long),
                    "places": torch.tensor([[1, 3], [0, 2]]),
                }
            ),
        )
    finally:
        network.output_bias.data[:] = before
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_scores_are_those_of_recbole(model: RecBoleRecommender) -> None:
    """RecBole drops the first column before it appends the mask: give it one that may be dropped."""
    assert isinstance(model._network, MaskedBERT4Rec)
    histories = leave_one_out(make_dataset(walks())).histories("test")
    scores = model.score(histories)
    for history, ours in zip(histories, scores, strict=True):
        read = torch.from_numpy(history[-8:].astype(np.int64) + 1)
        padded = Interaction(
            {
                "item_id_list": torch.cat([torch.zeros(1, dtype=torch.long), read])[None],
                "item_length": torch.tensor([len(read) + 1]),
            }
        )
        with torch.no_grad():
            theirs = BERT4Rec.full_sort_predict(model._network, padded)[0, 1:]
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
    # The oldest of as many items as are read counts; one more does not.
    full = np.arange(8)
    other = np.concatenate([[20], full[1:]])
    assert not np.allclose(model.score([full]), model.score([other]))
    np.testing.assert_array_equal(model.score([full]), model.score([np.concatenate([[20], full])]))


def test_it_learns_the_next_item() -> None:
    data = make_dataset(walks(60))
    model = fitted(
        data,
        small("bert4rec", learning_rate=1e-2, dropout=0.0, epochs=12, patience=12, last_ratio=1.0),
    )
    record = model.record
    assert record is not None and record.training_loss[-1] < record.training_loss[0]
    split = leave_one_out(data)

    def ndcg(scores: np.ndarray) -> float:
        candidates = draw_negatives(data, seed=1, n=10)
        return mean_ndcg(target_ranks(scores, split.targets("test"), candidates=candidates), 10)

    histories = split.histories("test")
    assert ndcg(model.score(histories)) > 0.75 > ndcg(Popularity(split=split, seed=0).score(histories))


def test_scores_do_not_depend_on_the_batch_and_survive_saving(
    model: RecBoleRecommender, tmp_path: Path
) -> None:
    histories = leave_one_out(make_dataset(walks())).histories("test")
    together = model.score(histories)
    assert together.shape == (30, N_ITEMS) and together.dtype == np.float32
    alone = np.concatenate([model.score([history]) for history in histories])
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-5)
    model.save(tmp_path)
    loaded = RecBoleRecommender.load(tmp_path)
    assert loaded.options == model.options and loaded.record == model.record
    np.testing.assert_array_equal(loaded.score(histories), together)
    assert loaded.item_embeddings().shape == (N_ITEMS, 16)


def test_what_must_not_be_seen_does_not_train() -> None:
    clean = walks(seed=1)
    poisoned = [np.append(sequence[:-2], [3, 5]) for sequence in clean]
    negatives = draw_negatives(make_dataset(clean), seed=0, n=10)
    states = []
    for sequences in (clean, poisoned):
        data = make_dataset(sequences)
        model = RecBoleRecommender(options=small("bert4rec", epochs=1))
        model.fit(data, leave_one_out(data), seed=0, negatives=negatives, progress=False)
        states.append(model._network.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_bad_input() -> None:
    for changes, message in [
        ({"mask_ratio": 0.0}, "mask_ratio is 0.0"),
        ({"mask_ratio": None}, "mask_ratio is None"),
        ({"last_ratio": 1.5}, "last_ratio is 1.5"),
        ({"loss": "bce"}, "masked items of windows by cross-entropy"),
        ({"targets": "one"}, "masked items of windows by cross-entropy"),
        ({"hidden_size": 15}, "does not divide into 2 heads"),
    ]:
        with pytest.raises(InputError, match=message):
            default_options("bert4rec", **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mask_ratio is of bert4rec alone"):
        RecBoleOptions(model="sasrec", mask_ratio=0.2)
    assert not {"mask_ratio", "last_ratio"} & set(default_options("sasrec").described())
    assert default_options("bert4rec").described()["mask_ratio"] == 0.2
