"""Windows hold every training target once; a row per prefix is RecBole's augmentation; losses are right."""

# RecBole has to be looked for and adapted before the modules that subclass it are imported.
# ruff: noqa: E402

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("recbole", reason="RecBole is not installed")

from baselines.recbole_compat import recbole_config, require_recbole

require_recbole()

from baselines import recbole_networks
from baselines.recbole_networks import NEGATIVES, TARGETS, TrainingSequences, catalogue_cross_entropy
from baselines.recbole_windows import WindowBatches

N_ITEMS, WINDOW = 60, 6


def sequences() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    users = [generator.integers(0, N_ITEMS, length) for length in (1, 2, 3, 6, 7, 8, 13, 40)]
    return users, np.concatenate(users).astype(np.int32), np.cumsum([0, *map(len, users)])


def windows(**changes: object) -> WindowBatches:
    _, items, offsets = sequences()
    settings = {
        "items": items,
        "offsets": offsets,
        "n_items": N_ITEMS,
        "window": WINDOW,
        "batch_size": 4,
        "seed": 0,
    }
    return WindowBatches(**{**settings, **changes})  # type: ignore[arg-type]


def pairs(batches: WindowBatches) -> Counter[tuple[int, int]]:
    """(item, next item) over an epoch."""
    found: Counter[tuple[int, int]] = Counter()
    for batch in batches:
        for row, targets in zip(batch["item_id_list"].numpy(), batch[TARGETS].numpy(), strict=True):
            found.update((int(a), int(b)) for a, b in zip(row, targets, strict=True) if b)
    return found


def test_an_epoch_of_windows_holds_every_target_once_in_its_context() -> None:
    users, _, _ = sequences()
    expected = Counter((int(a) + 1, int(b) + 1) for user in users for a, b in itertools.pairwise(user))
    batches = windows()
    first, second = pairs(batches), pairs(batches)
    assert first == second == expected
    assert sum(first.values()) == batches.n_targets
    known = {tuple(int(item) + 1 for item in user) for user in users}
    for batch in batches:
        assert batch["item_id_list"].shape[1] <= WINDOW
        for row, length in zip(batch["item_id_list"].numpy(), batch["item_length"].numpy(), strict=True):
            run = tuple(int(item) for item in row[:length])
            assert (row[length:] == 0).all() and length >= 1
            assert any(user[at : at + length] == run for user in known for at in range(len(user)))


def test_tiles_start_elsewhere_each_epoch_and_follow_the_seed() -> None:
    def starts(batches: WindowBatches) -> list[list[int]]:
        return [sorted(batches.rows()[1].tolist()) for _ in range(5)]

    drawn = starts(windows())
    assert len({tuple(epoch) for epoch in drawn}) > 1
    assert drawn == starts(windows()) and drawn != starts(windows(seed=1))


def test_a_short_user_is_one_whole_window() -> None:
    users, _, offsets = sequences()
    _, starts, lengths = windows().rows()
    for user in range(len(users)):
        if 2 <= len(users[user]) <= WINDOW + 1:
            inside = (starts >= offsets[user]) & (starts < offsets[user + 1])
            assert lengths[inside].tolist() == [len(users[user]) - 1]


@pytest.mark.filterwarnings("ignore::Warning")  # RecBole's use of pandas and numpy
def test_a_row_per_prefix_is_recboles_augmentation() -> None:
    _, items, offsets = sequences()
    settings = {
        "MAX_ITEM_LIST_LENGTH": WINDOW, "train_neg_sample_args": None, "load_col": None, "gpu_id": "",
    }  # fmt: skip
    config = recbole_config("SASRec", settings, device=torch.device("cpu"))
    theirs = TrainingSequences(config, items=items, offsets=offsets, n_items=N_ITEMS).inter_feat
    assert TrainingSequences(config, items=items, offsets=offsets, n_items=N_ITEMS).item_num == N_ITEMS + 1
    expected = sorted(
        (tuple(row[:length].tolist()), int(target))
        for row, length, target in zip(
            theirs["item_id_list"], theirs["item_length"], theirs["item_id"], strict=True
        )
    )
    ours = []
    for batch in windows(last_only=True):
        for row, length, targets in zip(
            batch["item_id_list"], batch["item_length"], batch[TARGETS], strict=True
        ):
            assert targets.nonzero().flatten().tolist() == [int(length) - 1]
            ours.append((tuple(row[:length].tolist()), int(targets[length - 1])))
    assert sorted(ours) == expected


def test_negatives_are_items_the_user_never_met() -> None:
    users, _, _ = sequences()
    batches = windows(negatives=True, batch_size=100)
    drawn: Counter[int] = Counter()
    met = {tuple(user + 1): set((user + 1).tolist()) for user in users}
    for _ in range(30):
        for batch in batches:
            for row, length, targets, negatives in zip(
                batch["item_id_list"], batch["item_length"], batch[TARGETS], batch[NEGATIVES], strict=True
            ):
                assert ((negatives > 0) == (targets > 0)).all()
                run = tuple(row[:length].tolist())
                owners = [
                    user for user in met if any(user[at : at + length] == run for at in range(len(user)))
                ]
                assert any(not met[owner] & set(negatives[targets > 0].tolist()) for owner in owners)
                drawn.update(negatives[targets > 0].tolist())
    assert set(drawn) <= set(range(1, N_ITEMS + 1)) and len(drawn) == N_ITEMS


def test_a_user_who_met_everything_has_no_negative() -> None:
    items = np.arange(5, dtype=np.int32)
    with pytest.raises(ValueError, match="no negative"):
        WindowBatches(
            items=items, offsets=np.array([0, 5]), n_items=5, window=3, batch_size=2, seed=0, negatives=True
        )


def test_expected_batches_is_close() -> None:
    generator = np.random.default_rng(0)
    offsets = np.cumsum([0, *generator.integers(3, 60, 200)])
    items = generator.integers(0, N_ITEMS, offsets[-1]).astype(np.int32)
    batches = WindowBatches(items=items, offsets=offsets, n_items=N_ITEMS, window=10, batch_size=8, seed=0)
    assert sum(1 for _ in batches) == pytest.approx(batches.expected_batches, rel=0.05)


def test_cross_entropy_in_chunks_is_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    gradients = []
    for budget in (2**25, 7 * 11):
        monkeypatch.setattr(recbole_networks, "_LOGITS_AT_ONCE", budget)
        torch.manual_seed(1)
        states, items = torch.randn(23, 4, requires_grad=True), torch.randn(11, 4, requires_grad=True)
        targets = torch.randint(0, 11, (23,))
        loss = catalogue_cross_entropy(states, items, targets)
        torch.testing.assert_close(loss, F.cross_entropy(states @ items.T, targets))
        gradients.append(torch.autograd.grad(loss, [states, items]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec"])
@pytest.mark.parametrize("pointwise", [False, True])
def test_every_position_gives_the_loss_of_one_pass_per_prefix(model: str, pointwise: bool) -> None:
    """The oracle: RecBole's forward on each prefix alone, the loss written out by hand."""
    from recbole.data.interaction import Interaction

    settings = {
        "MAX_ITEM_LIST_LENGTH": WINDOW, "train_neg_sample_args": None, "gpu_id": "", "hidden_size": 16,
        "inner_size": 32, "embedding_size": 16, "loss_type": "CE",
    }  # fmt: skip
    config = recbole_config(model, settings, device=torch.device("cpu"))
    torch.manual_seed(0)
    network = getattr(recbole_networks, f"EveryPosition{model}")(config, recbole_networks.Catalogue(N_ITEMS))
    network.pointwise = pointwise
    network.eval()
    batch = next(iter(windows(negatives=True)))
    losses = []
    for row, targets, negatives in zip(batch["item_id_list"], batch[TARGETS], batch[NEGATIVES], strict=True):
        for place in targets.nonzero().flatten().tolist():
            prefix = {"item_id_list": row[None, : place + 1], "item_length": torch.tensor([place + 1])}
            scores = network.full_sort_predict(Interaction(prefix))[0]
            if pointwise:
                losses.append(
                    -F.logsigmoid(scores[targets[place]])
                    - torch.log1p(-torch.sigmoid(scores[negatives[place]]))
                )
            else:
                losses.append(torch.logsumexp(scores[1:], 0) - scores[targets[place]])
    torch.testing.assert_close(
        network.calculate_loss(batch), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5
    )
