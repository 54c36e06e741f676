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
from illmrec.retrieval import exact_top_k
from illmrec.retrieval.exact import first_largest

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
    of_prefix = packed.tokens * len(packed.prefix)
    assert sum(int(mask.sum()) for mask in masks) + of_prefix == packed.attended_pairs()


def test_fill_slots(benchmark, model, step):
    """From item row numbers to the vectors that stand for images in the prompt."""
    fitted, boundaries, questions = step
    items = model.prompts.pack(fitted, boundaries=boundaries, questions=questions).slot_items["image"]

    def fill() -> torch.Tensor:
        return model.adaptors["image"](model.features("image")[torch.from_numpy(items)])

    with torch.inference_mode():
        vectors = benchmark(fill)
    assert vectors.shape == (N_USERS * LENGTH, model.engine.backbone.width)


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


@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_retrieval_loss_and_gradient(benchmark, model, loss):
    states = torch.randn(N_USERS * LENGTH, model.engine.backbone.width)
    targets = torch.randint(N_ITEMS, (len(states),))
    negatives = torch.randint(N_ITEMS, (len(states), 1)) if loss == "bce" else None
    heads = [*model.user_projectors.parameters(), *model.item_projectors.parameters()]

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(model.retrieval_loss(states, targets, negatives=negatives), heads)

    assert all(gradient.abs().sum() > 0 for gradient in benchmark(gradients))


def test_answer_loss(benchmark, model):
    backbone = model.engine.backbone
    ids = torch.randint(len(backbone.tokenizer), (N_USERS * LENGTH,))
    states = torch.randn(len(ids), backbone.width)
    with torch.inference_mode():
        value = benchmark(model.answer_loss, states, ids)
        expected = torch.nn.functional.cross_entropy(backbone.head(states), ids, reduction="sum")
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n_users", [1, 256])
@pytest.mark.parametrize("history", [0, 20])
def test_exact_top_k(benchmark, n_users, history):
    generator = np.random.default_rng(3)
    users = generator.standard_normal((n_users, 64), dtype=np.float32)
    items = generator.standard_normal((40_000, 64), dtype=np.float32)
    seen = [generator.choice(len(items), history, replace=False) for _ in range(n_users)]
    found = benchmark(exact_top_k, users, items, k=10, exclude=seen)
    assert not any(np.isin(found.items[user], seen[user]).any() for user in range(n_users))


@pytest.mark.parametrize("k", [10, 100])
def test_select_largest(benchmark, k):
    """Selection alone, without the matrix product; torch.topk is what it has to beat."""
    scores = torch.randn(256, 16384, generator=torch.Generator().manual_seed(4))
    columns = benchmark(first_largest, scores, k)
    expected = scores.topk(k, dim=1).indices.sort(dim=1).values
    assert torch.equal(columns, expected)


def test_score_catalogue_and_rank(benchmark, model):
    states = torch.randn(256, model.engine.backbone.width)
    catalogue = model.catalogue().detach()
    targets = np.zeros(256, dtype=np.int64)

    def score() -> np.ndarray:
        with torch.inference_mode():
            scores = (model.project_users(states).flatten(1) @ catalogue.T).numpy()
        return target_ranks(scores, targets)

    assert benchmark(score).min() >= 1
