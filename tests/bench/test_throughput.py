"""The paths that the engine is compared with: equal losses, gradients, scores and ranks; then the command itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from bench.plain_paths import PlainTrainer, ReleasedStyle, TwoPass, write_item_files
from illmrec.assembly import ModelConfig, build_model
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import leave_one_out
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import load_backbone
from illmrec.ranking import target_ranks
from illmrec.training import Trainer, TrainingOptions

N_ITEMS, N_USERS = 60, 13
OPTIONS = TrainingOptions(
    loss="bce", batch_size=N_USERS, validation_users=0, answer_tokens=12, token_budget=500
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    generator = np.random.default_rng(3)
    words = np.array(["red", "blue", "green", "mug", "lamp", "shoe", "plain", "dots"])
    text = [" ".join(generator.choice(words, generator.integers(1, 6))) for _ in range(N_ITEMS)]
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)], "title": text})
    items = items.assign(brand="", category=text, description=text, summary=text)
    lengths = generator.integers(4, 20, size=N_USERS)
    return Dataset(
        name="tiny",
        items=items,
        user_ids=np.array([f"u{u}" for u in range(N_USERS)], dtype=object),
        sequence_items=np.concatenate([generator.permutation(N_ITEMS)[:n] for n in lengths]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


@pytest.fixture(scope="module")
def model(dataset, tiny_llm):
    generator = np.random.default_rng(1)
    features = {
        name: FeatureTable(
            values=generator.normal(size=(N_ITEMS, width)).astype(np.float32),
            present=np.ones(N_ITEMS, dtype=bool),
            key=name,
            meta={},
        )
        for name, width in (("image", 12), ("text", 7))
    }
    return build_model(
        ModelConfig(
            representation="illmrec.prompts.segments:ImageRepresentation",
            heads=("image", "text"),
            hidden=16,
            shared=8,
            history_length=9,
        ),
        dataset=dataset,
        backbone=load_backbone(str(tiny_llm), dtype="float32"),
        features=features,
        # Items without a picture have no slot: rows differ in how many they hold.
        has_image=generator.random(N_ITEMS) < 0.7,
    )


@pytest.fixture(scope="module")
def released(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    write_item_files(model, folder)
    return ReleasedStyle(model, folder=folder, batch_size=5)


def one_step(trainer: Trainer) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Return the losses and gradients of a trainer's first step, the parameters left as they were."""
    gradients = {}
    trainer.model.zero_grad()
    trainer.optimiser.step = lambda: gradients.update(
        {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    )
    trainer._train_step()
    return dict(trainer._sums), gradients


@pytest.mark.parametrize("targets", ["one", "all"])
@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_two_padded_passes_have_the_engines_loss_and_gradients(model, dataset, released, targets, loss):
    arguments = {
        "split": leave_one_out(dataset),
        "options": replace(OPTIONS, targets=targets, loss=loss),
        "seed": 5,
        "negatives": draw_negatives(dataset, seed=0, n=20),
        "progress": False,
    }
    expected, expected_gradients = one_step(Trainer(model=model, **arguments))
    assert set(expected) == {"reri", "risa"} and min(expected.values()) > 0
    for path in (TwoPass(model, batch_size=4), released):
        losses, gradients = one_step(PlainTrainer(path, **arguments))
        assert losses == pytest.approx(expected, abs=1e-4)
        assert gradients.keys() == dict(model.named_parameters()).keys()
        for name, gradient in gradients.items():
            assert expected_gradients[name].abs().max() > 0, name
            torch.testing.assert_close(gradient, expected_gradients[name], atol=1e-4, rtol=1e-4, msg=name)


def test_all_paths_rank_the_same(model, dataset, released):
    split = leave_one_out(dataset)
    histories, targets = split.histories("test"), split.targets("test")
    candidates = np.concatenate([targets[:, None], draw_negatives(dataset, seed=1, n=30)], axis=1)
    catalogue = model.catalogue()
    engine = np.take_along_axis(model.score(histories, catalogue=catalogue), candidates, axis=1)
    assert engine.std() > 0.01
    for path, scores in (
        ("two-pass", TwoPass(model, batch_size=4).score(histories, candidates, catalogue=catalogue)),
        ("released-style", released.score(histories, candidates)),
    ):
        assert scores.dtype == np.float32 and scores.shape == engine.shape
        np.testing.assert_allclose(scores, engine, atol=1e-4, err_msg=path)
        columns = np.zeros(len(targets), dtype=np.int64)
        every = np.tile(np.arange(candidates.shape[1]), (len(targets), 1))
        ranks = target_ranks(scores, columns, candidates=every)
        assert ranks.tolist() == target_ranks(engine, columns, candidates=every).tolist()


def test_padding_is_counted_and_no_prompt_is_longer_than_the_engines(model, dataset):
    histories = leave_one_out(dataset).histories("test")
    fitted = [model.prompts.fit(history, max_items=model.history_length) for history in histories]
    lengths = model.prompts.pack(fitted).lengths
    path = TwoPass(model, batch_size=len(histories))
    path.score(histories, np.zeros((len(histories), 1), dtype=np.int64), catalogue=model.catalogue())
    assert path.tokens == len(histories) * lengths.max() > lengths.sum()
    for history, length in zip(fitted, lengths, strict=True):
        assert len(path.trunk(history)) + len(model.prompts.instruction) + 1 == length
