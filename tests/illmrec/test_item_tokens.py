"""Items that are scored by tokens of their own: a softmax over them, in joint training and on stored states."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from training_models import N_ITEMS, made_dataset, made_model

from illmrec.assembly import load_representation
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import changed
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import UnsupportedError
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.heads import ITEM_TOKEN, Adaptor
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.segments import Slot, Text
from illmrec.prompts.templates import INSTRUCTION, TASK
from illmrec.training import CachedOptions, CachedTrainer, Trainer, TrainingOptions
from illmrec.training.projectors import initialise_projectors

REPRESENTATIONS = ("baselines.unimp:UniMP", "baselines.e4srec:E4SRec", "baselines.token_prompts:CFToken")


@pytest.fixture(scope="module")
def backbone(tiny_llm: Path) -> Backbone:
    return load_backbone(str(tiny_llm), dtype="float32")


@pytest.fixture(scope="module")
def split() -> Split:
    dataset = made_dataset()
    brands = np.where(np.arange(N_ITEMS) % 3 == 0, "", "blue")
    return leave_one_out(changed(dataset, items=dataset.items.assign(brand=brands)))


def token_model(split: Split, backbone: Backbone, **config: Any) -> ILLMRec:
    given = {"representation": REPRESENTATIONS[0], "heads": (ITEM_TOKEN,), **config}
    return made_model(split.dataset, backbone, **given)


def test_the_loss_is_the_cross_entropy_of_explicit_logits(split: Split, backbone: Backbone) -> None:
    model = token_model(split, backbone)
    states = torch.randn(7, backbone.width, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 3, 3, 39, 7, 21, 12])
    tokens = model.item_projectors[ITEM_TOKEN].weight
    assert tokens.shape == (N_ITEMS, model.shared)
    logits = model.user_projectors[ITEM_TOKEN](states) @ tokens.T / model.shared**0.5
    expected = functional.cross_entropy(logits, targets, reduction="sum")
    loss = model.retrieval_loss(states, targets)
    torch.testing.assert_close(loss, expected)
    wanted = torch.autograd.grad(expected, tokens, retain_graph=True)[0]
    (found,) = torch.autograd.grad(loss, tokens)
    torch.testing.assert_close(found, wanted)
    assert (found.abs().sum(1) > 0).all()  # each item is a negative of some target


def test_scores_are_the_logits(split: Split, backbone: Backbone) -> None:
    model = token_model(split, backbone).eval()
    histories = [split.history(user, "test") for user in range(3)]
    with torch.no_grad():
        users = model.user_projectors[ITEM_TOKEN](model.encode(histories))
        expected = users @ model.item_projectors[ITEM_TOKEN].weight.T / model.shared**0.5
    np.testing.assert_allclose(model.score(histories), expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["frozen", "cached"])
def test_it_learns_what_is_popular(split: Split, backbone: Backbone, strategy: str, tmp_path: Path) -> None:
    model = token_model(split, backbone)
    cached = {"cached": CachedOptions(epochs=10, batch_size=16)} if strategy == "cached" else {}
    options: Any = TrainingOptions(
        strategy=strategy, risa=False, loss="ce", targets="all", epochs=4, batch_size=8, **cached
    )
    arguments: Any = {"model": model, "split": split, "options": options, "seed": 0, "progress": False}
    arguments["negatives"] = draw_negatives(split.dataset, seed=0, n=10)
    (CachedTrainer(**arguments, cache=tmp_path) if cached else Trainer(**arguments)).run()
    scores = model.eval().score([split.history(user, "test") for user in range(8)])
    assert scores[:, :20].mean() > scores[:, 20:].mean()  # the others are nobody's


def test_tokens_are_drawn_anew_by_the_seed_of_projectors(split: Split, backbone: Backbone) -> None:
    model = token_model(split, backbone)
    tokens = model.item_projectors[ITEM_TOKEN].weight
    drawn = []
    for seed in (0, 1, 0):
        initialise_projectors(model, seed=seed)
        drawn.append(tokens.detach().clone())
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("readout", ["features", "last+features"])
def test_there_are_no_features_to_read_out(split: Split, backbone: Backbone, readout: Any) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(f"method unimp: --readout {readout} ")):
        token_model(split, backbone, readout=readout)


@pytest.mark.parametrize("path", REPRESENTATIONS)
def test_prompts_have_the_tokens_that_the_tokenizer_gives(
    split: Split, backbone: Backbone, path: str
) -> None:
    has_image = np.arange(N_ITEMS) % 2 == 0
    model = token_model(split, backbone, representation=path, has_image=has_image)
    representation = load_representation(path)
    history = split.history(0, "test")[:4]
    texts, slots = [TASK], 0
    for row in history:
        available = frozenset(s for s in representation.slots if s != "image" or has_image[row])
        for segment in representation.render(split.dataset.items.iloc[row].to_dict(), available):
            if isinstance(segment, Slot):
                texts.append("")
                slots += 1
            elif isinstance(segment, Text):
                texts[-1] += segment.text
    texts[-1] += f" {INSTRUCTION}"
    ids = backbone.tokenizer(texts, add_special_tokens=False)["input_ids"]
    fitted = model.prompts.fit(history)
    packed = model.pack([fitted], [np.array([len(history)])])
    stated = slots + 1 + sum(map(len, ids))
    assert model.prompts.token_counts([fitted])[0] == stated == len(packed.prefix) + packed.tokens
    assert sum(map(len, packed.slot_positions.values())) == slots


def test_a_linear_adaptor_is_one_layer_that_starts_at_the_scale_of_words() -> None:
    torch.manual_seed(0)
    adaptor = Adaptor(feature_width=64, width=32, scale=0.02, form="linear")
    features = functional.normalize(torch.randn(500, 64), dim=1) * 8.0
    out = adaptor(features)
    assert out.detach().square().mean().sqrt().item() == pytest.approx(0.02, rel=0.2)
    torch.testing.assert_close(adaptor(2 * features), 2 * out)
