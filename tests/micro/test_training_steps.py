"""What the embedded LLM reads of histories of words, and how often: ``nox -s micro`` times the ways in turn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.text_prompts import TALLRec
from illmrec.model.backbone import load_backbone
from illmrec.model.illmrec import ILLMRec
from illmrec.model.trunks import Trunks
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.tokens import tokenise_items

pytestmark = pytest.mark.slow

N_ITEMS, N_USERS, LENGTH = 200, 32, 6


@pytest.fixture(scope="module")
def model() -> ILLMRec:
    generator = np.random.default_rng(0)
    words = np.array(["red", "blue", "green", "mug", "lamp", "shoe", "plain", "dots", "soft", "warm"])
    columns = {"title": 4, "brand": 1, "category": 2, "description": 1}
    texts = {
        name: [" ".join(generator.choice(words, n)) for _ in range(N_ITEMS)] for name, n in columns.items()
    }
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)], **texts})
    backbone = load_backbone("smollm2-135m", layers=4)
    return ILLMRec(
        backbone=backbone,
        prompts=PromptBuilder(
            items=tokenise_items(items, TALLRec(), backbone.tokenizer, present={}),
            tokenizer=backbone.tokenizer,
            instruction="before",
        ),
        features={"text": generator.normal(size=(N_ITEMS, 64)).astype(np.float32)},
        heads=("text",),
    )


@pytest.mark.parametrize("histories", ["learnt through", "read", "known"])
@pytest.mark.benchmark(group="32 users, 6 items, forward and backward")
def test_step_behind_histories(benchmark, model, histories):
    """No gradient reaches a history of words: it need not go backward, and a second time not even forward."""
    drawn = np.random.default_rng(1).integers(N_ITEMS, size=(N_USERS, LENGTH))
    packed = model.pack(
        [model.prompts.fit(history) for history in drawn], [np.arange(1, LENGTH + 1)] * N_USERS
    )

    def step() -> torch.Tensor:
        states = model.hidden(packed)[0]
        return torch.autograd.grad(states.square().sum(), model.rec)[0]

    expected = step()
    model.trunks = {"learnt through": None, "read": Trunks(limit=0), "known": Trunks()}[histories]
    try:
        step()
        gradient = benchmark(step)
        found = 0 if model.trunks is None else len(model.trunks)
    finally:
        model.trunks = None
    assert found == (N_USERS if histories == "known" else 0)
    assert torch.nn.functional.cosine_similarity(gradient, expected, dim=0) > 0.98


@pytest.mark.parametrize("seeds", ["apart", "together"])
@pytest.mark.benchmark(group="states of 8 users, 6 items, five seeds")
def test_states_of_five_seeds(benchmark, model, seeds):
    """Seeds differ in ``[REC]`` alone, which stands behind the history: that is read once for all of them."""
    drawn = np.random.default_rng(1).integers(N_ITEMS, size=(8, LENGTH))
    fitted, ends = [model.prompts.fit(history) for history in drawn], [np.arange(1, LENGTH + 1)] * 8
    recs = torch.stack([model.with_rec_of(seed).rec for seed in range(5)])

    @torch.inference_mode()
    def apart() -> list[torch.Tensor]:
        return [model.read_each(fitted, ends, rec[None])[0] for rec in recs]

    @torch.inference_mode()
    def together() -> list[torch.Tensor]:
        return model.read_each(fitted, ends, recs)

    found = benchmark({"apart": apart, "together": together}[seeds])
    for states, expected in zip(found, apart(), strict=True):
        assert torch.nn.functional.cosine_similarity(states, expected).min() > 0.98
