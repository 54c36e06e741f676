"""Adaptors that start from the words of items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_models import N_ITEMS, N_POPULAR, made_dataset, made_model

from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.model.backbone import load_backbone
from illmrec.training import CachedOptions, CachedTrainer, Trainer, TrainingOptions
from illmrec.training.adaptor_start import start_from_text, word_means

OPTIONS = TrainingOptions(
    epochs=1, max_steps=1, batch_size=8, answer_tokens=8, validation_users=8, token_budget=600, adaptor_start="text"
)  # fmt: skip
CACHED = replace(
    OPTIONS, strategy="cached", max_steps=None, cached=CachedOptions(batch_size=64, epochs=1, state_dtype="float32")
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset():
    return made_dataset()


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


def given_features(model, values):
    model.set_features({name: values for name in ("image", "cf")})
    return model


def told(model, rows):
    """What slots hold, centred."""
    with torch.no_grad():
        slots = model.adaptors["image"](model.slot_table("image"))[rows].numpy()
    return slots - slots.mean(axis=0)


def agreement(model, split, rows):
    """Mean cosine of what slots hold with the words' means, both centred."""
    words = word_means(model, split, rows)
    words = words - words.mean(axis=0)
    slots = told(model, rows)
    norms = np.linalg.norm(words, axis=1) * np.linalg.norm(slots, axis=1)
    return float(((words * slots).sum(axis=1) / norms).mean())


def test_words_are_those_that_the_llm_embeds(dataset, backbone):
    table = dataset.items.copy()
    table.loc[3, ["title", "category", "description"]] = ["red mug", "", ""]
    table.loc[4, ["title", "category", "description"]] = ""
    split = leave_one_out(replace(dataset, items=table))
    means = word_means(made_model(dataset, backbone), split, np.array([3, 4, 5]))
    ids = backbone.tokenizer(" red mug", add_special_tokens=False)["input_ids"]
    assert means[0] == pytest.approx(backbone.embeddings.weight[ids].mean(dim=0).numpy(), abs=1e-6)
    assert means[1] == pytest.approx((means[0] + means[2]) / 2, abs=1e-6)  # no words: the mean of the others


def test_a_slot_says_what_the_feature_tells_of_the_words(dataset, backbone):
    split = leave_one_out(dataset)
    rows = np.unique(split.train_items())
    model = made_model(dataset, backbone)
    given_features(model, word_means(model, split, np.arange(N_ITEMS))[:, :12])
    drawn = agreement(model, split, rows)
    found = start_from_text(model, split)
    assert 0.3 < found["image"] <= 1
    assert agreement(model, split, rows) > max(0.8, drawn + 0.2)
    assert np.sqrt(np.square(told(model, rows)).mean()) == pytest.approx(backbone.embedding_scale, rel=1e-3)

    nothing = made_model(dataset, backbone)  # features drawn at random
    assert start_from_text(nothing, split)["image"] < 0.1


def test_it_is_the_ridge_regression_of_the_hidden_layer(dataset, backbone):
    """Against its normal equations with an unpenalised intercept, up to the scale."""
    split = leave_one_out(dataset)
    rows = np.unique(split.train_items())
    model = made_model(dataset, backbone)
    given_features(model, word_means(model, split, np.arange(N_ITEMS))[:, :12])
    start_from_text(model, split)
    with torch.no_grad():
        hidden = torch.relu(model.adaptors["image"][0](model.slot_table("image")))[rows].double().numpy()
    words = word_means(model, split, rows).astype(np.float64)
    x = hidden - hidden.mean(axis=0)
    scale = np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    x, deviation = x / scale, words.std(axis=0)
    y = (words - words.mean(axis=0)) / deviation
    slots = told(model, rows)
    gaps = []
    for penalty in len(rows) * np.logspace(-5, 3, 33):
        fitted = x @ np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y) * deviation
        fitted *= backbone.embedding_scale / np.sqrt(np.square(fitted).mean())
        gaps.append(np.abs(fitted - slots).max())
    assert min(gaps) < 1e-3 * backbone.embedding_scale and max(gaps) > 0.1 * backbone.embedding_scale


def test_items_outside_the_training_part_are_not_read(dataset, backbone):
    split = leave_one_out(dataset)
    table = dataset.items.copy()
    table.loc[N_POPULAR:, "title"] = "plain plain plain"
    other = leave_one_out(replace(dataset, items=table))
    models = [made_model(dataset, backbone) for _ in range(2)]
    start_from_text(models[0], split)
    start_from_text(models[1], other)
    assert torch.equal(models[0].adaptors["image"][-1].weight, models[1].adaptors["image"][-1].weight)


def test_items_without_an_image_are_not_read(dataset, backbone):
    split = leave_one_out(dataset)
    nowhere = np.zeros(N_ITEMS, dtype=bool)
    model = made_model(dataset, backbone, has_image=nowhere)
    before = model.adaptors["image"][-1].weight.clone()
    assert start_from_text(model, split) == {}
    assert torch.equal(model.adaptors["image"][-1].weight, before)


def test_slots_that_are_all_alike_stay_as_drawn(dataset, backbone):
    model = made_model(dataset, backbone, slot_content="zero")
    before = model.adaptors["image"][-1].weight.clone()
    assert start_from_text(model, leave_one_out(dataset)) == {}
    assert torch.equal(model.adaptors["image"][-1].weight, before)


@pytest.mark.parametrize(
    "options", [OPTIONS, CACHED, replace(CACHED, cached=replace(CACHED.cached, warm_up=8))]
)
def test_training_starts_there_and_says_so(dataset, backbone, options, tmp_path, monkeypatch):
    calls = []

    def start(model, split):
        calls.append(model)
        return start_from_text(model, split)

    for module in ("trainer", "cached"):
        monkeypatch.setattr(f"illmrec.training.{module}.start_from_text", start)
    split = leave_one_out(dataset)
    made = {
        "split": split,
        "seed": 0,
        "negatives": draw_negatives(dataset, n=10, seed=0),
        "progress": False,
    }
    if options.cached is None:
        report = Trainer(model=made_model(dataset, backbone), options=options, **made).run()
    else:
        trainer = CachedTrainer(
            model=made_model(dataset, backbone), options=options, cache=tmp_path / "cache", **made
        )
        report = trainer.run()
    assert len(calls) == 1
    assert report.described()["adaptor_fit"].keys() == {"image"}
    assert options.described()["adaptor_start"] == "text"
    assert "adaptor_start" not in replace(options, adaptor_start="drawn").described()
