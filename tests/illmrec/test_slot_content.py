"""Controls in the slot: another item's feature, noise or nothing, while what scores items stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_models import N_ITEMS, made_dataset, made_model

from illmrec.model.backbone import load_backbone
from illmrec.model.slot_content import changed_slots
from illmrec.states.encoding import encoder_key


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


@pytest.mark.parametrize("n_items", [2, 3, 50])
def test_shuffled_gives_every_item_the_feature_of_another(n_items):
    features = torch.arange(n_items * 4.0).reshape(n_items, 4)
    for seed in range(20):
        shown = changed_slots(features, "shuffled", seed=seed)
        assert sorted(shown[:, 0].tolist()) == features[:, 0].tolist()
        assert (shown != features).all()


def test_noise_has_the_scale_of_features_and_is_an_items_own():
    features = torch.zeros(400, 64)
    shown = changed_slots(features, "noise", seed=1)
    assert shown.square().mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(shown, changed_slots(features, "noise", seed=1))
    assert not torch.equal(shown, changed_slots(features, "noise", seed=2))
    assert not changed_slots(features + 1, "zero", seed=1).any()


@pytest.mark.parametrize("content", ["shuffled", "noise", "zero"])
def test_only_what_the_llm_is_shown_changes(backbone, content):
    dataset = made_dataset()
    plain, control = (made_model(dataset, backbone, slot_content=each) for each in ("features", content))
    torch.testing.assert_close(control.catalogue(), plain.catalogue())
    assert encoder_key(control) != encoder_key(plain)
    histories = [np.arange(5), np.arange(N_ITEMS - 4, N_ITEMS)]
    states, others = plain.encode(histories), control.encode(histories)
    assert (states - others).abs().max() > 1e-3
    # A catalogue that is loaded again is shown the same.
    shown = control.get_buffer("slot_image").clone()
    tables = {
        name: 2 * plain.features(name).numpy() + plain.get_buffer(f"mean_{name}").numpy()
        for name in plain.heads
    }
    control.set_features(tables)
    torch.testing.assert_close(control.get_buffer("slot_image"), shown)
