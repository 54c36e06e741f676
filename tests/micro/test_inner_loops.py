"""The inner loops under pytest-benchmark: ``nox -s micro`` times them, the ordinary tests run each once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from illmrec.model.backbone import load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.questions import Questions
from illmrec.prompts.segments import ImageRepresentation
from illmrec.prompts.tokens import tokenise_items
from illmrec.ranking import target_ranks

N_ITEMS, N_USERS, LENGTH = 2000, 32, 10


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    words = np.array(["red", "blue", "green", "mug", "lamp", "shoe", "plain", "dots"])
    columns = {"title": 5, "brand": 1, "category": 2, "description": 80}
    texts = {
        name: [" ".join(generator.choice(words, n)) for _ in range(N_ITEMS)] for name, n in columns.items()
    }
    return pd.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)], **texts})


@pytest.fixture(scope="module")
def model(items, tiny_llm) -> ILLMRec:
    backbone = load_backbone(str(tiny_llm), dtype="float32")
    present = {"image": np.ones(N_ITEMS, dtype=bool)}
    tokenised = tokenise_items(items, ImageRepresentation(), backbone.tokenizer, present=present)
    features = np.random.default_rng(1).normal(size=(N_ITEMS, 256)).astype(np.float32)
    return ILLMRec(
        backbone=backbone,
        prompts=PromptBuilder(items=tokenised, tokenizer=backbone.tokenizer),
        features={"image": features},
        heads=("image",),
    )


@pytest.fixture(scope="module")
def step(items, model):
    """One training step's prompts: 32 users, a retrieval branch at each boundary, a question each."""
    generator = np.random.default_rng(2)
    fitted = [model.prompts.fit(generator.integers(N_ITEMS, size=LENGTH)) for _ in range(N_USERS)]
    boundaries = [np.arange(1, LENGTH + 1)] * N_USERS
    questions = Questions(items=items, tokenizer=model.engine.backbone.tokenizer)
    return fitted, boundaries, questions.draw(generator.integers(N_ITEMS, size=N_USERS), generator)


def test_tokenise_catalogue(benchmark, items, model):
    tokenizer = model.engine.backbone.tokenizer
    present = {"image": np.ones(N_ITEMS, dtype=bool)}
    tokenised = benchmark(tokenise_items, items, ImageRepresentation(), tokenizer, present=present)
    assert len(tokenised.lengths) == N_ITEMS


def test_pack(benchmark, model, step):
    fitted, boundaries, questions = step
    packed = benchmark(model.prompts.pack, fitted, boundaries=boundaries, questions=questions)
    assert len(packed.rec_positions) == N_USERS * LENGTH


def test_masks(benchmark, model, step):
    fitted, boundaries, questions = step
    packed = model.prompts.pack(fitted, boundaries=boundaries, questions=questions)
    masks = benchmark(lambda: [packed.mask(user) for user in range(N_USERS)])
    assert sum(int(mask.sum()) for mask in masks) == packed.attended_pairs()


def test_fill_slots_and_encode(benchmark, model, step):
    packed = model.prompts.pack(step[0])
    with torch.inference_mode():
        states, _ = benchmark(model.hidden, packed)
    assert states.shape == (N_USERS, model.engine.backbone.width)


@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_retrieval_loss(benchmark, model, loss):
    states = torch.randn(N_USERS * LENGTH, model.engine.backbone.width)
    targets = torch.randint(N_ITEMS, (len(states),))
    negatives = torch.randint(N_ITEMS, (len(states), 1)) if loss == "bce" else None
    value = benchmark(lambda: model.retrieval_loss(states, targets, negatives=negatives))
    assert torch.isfinite(value)


def test_score_catalogue_and_rank(benchmark, model):
    states = torch.randn(256, model.engine.backbone.width)
    catalogue = model.catalogue().detach()
    targets = np.zeros(256, dtype=np.int64)

    def score() -> np.ndarray:
        with torch.inference_mode():
            scores = (model.project_users(states).flatten(1) @ catalogue.T).numpy()
        return target_ranks(scores, targets)

    assert benchmark(score).min() >= 1
