"""A-LLMRec: its losses by their formulas, what alignment brings together, and that it is trained once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.a_llmrec import (
    ALIGNMENTS,
    LOSSES,
    AlignmentOptions,
    ALLMRec,
    Autoencoder,
    align,
    aligned_features,
    alignment_losses,
    described_alignment,
)
from baselines.token_prompts import CFToken
from illmrec.data.dataset import ITEM_COLUMNS, Dataset
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import InputError
from illmrec.features.table import FeatureTable
from illmrec.prompts.segments import Slot, Text

N_ITEMS, KNOWN, CF, TEXT = 40, 30, 6, 10


class Mean:
    """Stands for SASRec: a user is the mean of the items."""

    def __init__(self, cf: np.ndarray) -> None:
        self.cf, self.asked = cf, 0

    def states(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        self.asked += 1
        return np.stack([self.cf[history].mean(0) for history in histories]).astype(np.float32)


def table(values: np.ndarray, key: str) -> FeatureTable:
    return FeatureTable(values=values, present=np.ones(len(values), dtype=bool), key=key, meta={})


@pytest.fixture(scope="module")
def tables() -> tuple[np.ndarray, np.ndarray]:
    """CF and text embeddings that are views of one thing, in other directions and units."""
    generator = np.random.default_rng(0)
    shared = generator.normal(size=(N_ITEMS, 4))
    cf = 0.1 * shared @ generator.normal(size=(4, CF)) + 0.5
    text = shared @ generator.normal(size=(4, TEXT))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return cf.astype(np.float32), text.astype(np.float32)


@pytest.fixture(scope="module")
def split() -> Split:
    """Users with 5 to 9 of the first items; nobody has the last ten."""
    generator = np.random.default_rng(1)
    sequences = [generator.permutation(KNOWN)[:n] for n in generator.integers(5, 10, 50)]
    items = pd.DataFrame({column: [f"{column} {row}" for row in range(N_ITEMS)] for column in ITEM_COLUMNS})
    return leave_one_out(
        Dataset(
            name="tiny",
            items=items,
            user_ids=np.array([f"u{user}" for user in range(len(sequences))], dtype=object),
            sequence_items=np.concatenate(sequences).astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64),
            images=None,
            fingerprint="0" * 16,
            dropped={},
        )
    )


def aligned(split: Split, cf: np.ndarray, text: np.ndarray, name: str = "full", seed: int = 0) -> Any:
    options = ALIGNMENTS[name]
    assert options is not None
    options = replace(options, width=16, epochs=150, learning_rate=3e-3)
    return align(split, cf=cf, texts=text, sasrec=Mean(cf), options=options, seed=seed, progress=False)


@pytest.fixture(scope="module")
def full(split: Split, tables: tuple[np.ndarray, np.ndarray]) -> Any:
    return aligned(split, *tables)


def test_losses_are_those_of_the_formulas(tables: tuple[np.ndarray, np.ndarray]) -> None:
    cf, text = tables
    torch.manual_seed(0)
    items, texts = (Autoencoder(torch.from_numpy(part), width=5) for part in tables)
    users = np.random.default_rng(2).normal(size=(3, CF)).astype(np.float32)
    shown = np.array([[4, 8, 15], [16, 23, 30]])
    found = alignment_losses(
        items,
        texts,
        users=torch.from_numpy(users),
        cf=torch.from_numpy(cf[shown]),
        text=torch.from_numpy(text[shown]),
    )

    def coded(side: Autoencoder, values: np.ndarray, row: int) -> tuple[np.ndarray, ...]:
        mean = values.mean(0)
        scale = np.sqrt(((values - mean) ** 2).mean())
        given = (values[row] - mean) / scale
        weights = {name: value.detach().numpy() for name, value in side.named_parameters()}
        latent = 1 / (1 + np.exp(-(weights["encoder.weight"] @ given + weights["encoder.bias"])))
        restored = weights["decoder.weight"] @ latent + weights["decoder.bias"]
        return given, latent, restored, restored * scale + mean

    wanted = dict.fromkeys(LOSSES, 0.0)
    for kind, rows in enumerate(shown):
        for user, row in enumerate(rows):
            given, latent, restored, embedding = coded(items, cf, row)
            text_given, text_latent, text_restored, _ = coded(texts, text, row)
            score = (users[user] * embedding).mean()
            likelihood = 1 / (1 + np.exp(-score))
            wanted["matching"] += ((latent - text_latent) ** 2).mean() / 3
            wanted["item_reconstruction"] += ((given - restored) ** 2).mean() / 3
            wanted["text_reconstruction"] += ((text_given - text_restored) ** 2).mean() / 3
            wanted["recommendation"] -= np.log(likelihood if kind == 0 else 1 - likelihood) / 3
    assert {name: float(loss.detach()) for name, loss in found.items()} == pytest.approx(wanted, rel=1e-4)


def test_alignment_brings_an_item_and_its_text_together(
    split: Split, tables: tuple[np.ndarray, np.ndarray], full: Any
) -> None:
    apart = aligned(split, *tables, name="no-matching")
    assert full.matched > 0.6 > 0.3 > apart.matched
    for name in ("matching", "item_reconstruction", "text_reconstruction"):
        assert full.losses[name][-1] < 0.5 * full.losses[name][0], name
    assert apart.losses["matching"][-1] > 5 * full.losses["matching"][-1]


def test_without_reconstruction_latent_vectors_become_alike(
    split: Split, tables: tuple[np.ndarray, np.ndarray], full: Any
) -> None:
    smooth = aligned(split, *tables, name="no-reconstruction")
    assert smooth.values[:KNOWN].std(0).mean() < 0.7 * full.values[:KNOWN].std(0).mean()


def test_items_that_nobody_has_are_known_by_their_text(
    split: Split, tables: tuple[np.ndarray, np.ndarray], full: Any
) -> None:
    cf, text = tables
    other = cf.copy()
    unknown = np.setdiff1d(np.arange(N_ITEMS), split.train_items())
    assert {*range(KNOWN, N_ITEMS)} <= {*unknown.tolist()}
    # They are sampled as others are: with the losses that CF enters left out they play no part.
    options = AlignmentOptions(matching=0.0, item_reconstruction=0.0, recommendation=0.0, width=4, epochs=2)
    other[unknown] += 3.0

    def values(cf: np.ndarray) -> np.ndarray:
        found = align(split, cf=cf, texts=text, sasrec=Mean(cf), options=options, seed=0, progress=False)
        return found.values

    before, after = values(cf), values(other)
    np.testing.assert_allclose(before, after, atol=1e-6)
    changed = cf.copy()
    changed[:KNOWN] *= -1.0
    assert np.abs(values(changed)[:KNOWN] - before[:KNOWN]).max() > 0.01
    np.testing.assert_allclose(values(changed)[unknown], before[unknown], atol=1e-6)


def test_it_depends_on_the_seed_alone(split: Split, tables: tuple[np.ndarray, np.ndarray], full: Any) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    again, other = aligned(split, *tables), aligned(split, *tables, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert np.array_equal(again.values, full.values) and not np.array_equal(other.values, full.values)


def test_it_is_trained_once(
    split: Split, tables: tuple[np.ndarray, np.ndarray], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("full", "no-recommendation"):
        monkeypatch.setitem(ALIGNMENTS, name, replace(ALIGNMENTS[name], epochs=2))  # type: ignore[type-var]
    cf, text = table(tables[0], "cf"), table(tables[1], "text")
    model = Mean(tables[0])

    def found(**changes: Any) -> FeatureTable:
        given: dict[str, Any] = {"cf": cf, "texts": text, "seed": 0, **changes}
        return aligned_features(split, **given, sasrec=lambda: model, cache=tmp_path, progress=False)

    first = found()
    assert first.values.shape == (N_ITEMS, 128) and first.present.all() and model.asked == 1
    assert found().key == first.key and model.asked == 1
    assert set(first.meta["losses"]) == set(LOSSES) and 0 <= first.meta["matched"] <= 1  # type: ignore[arg-type, operator]
    others = [
        found(alignment="no-recommendation").key,
        found(seed=1).key,
        found(cf=table(tables[0], "another")).key,
        found(texts=table(tables[1], "another")).key,
    ]
    assert len({first.key, *others}) == 5 and model.asked == 5
    assert found(alignment="none") is cf and model.asked == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 0}, "width is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"matching": -1.0}, "0 or more"),
        ({"learning_rate": 0.0}, "above 0"),
        (dict.fromkeys(LOSSES, 0.0), "nothing is learnt"),
    ],
)
def test_bad_options_are_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        AlignmentOptions(**changes)


def test_an_unknown_alignment_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match="--alignment no-match: did you mean 'no-matching'"):
        described_alignment("no-match")
    assert described_alignment("none") == {"name": "none"}


def test_without_alignment_the_prompt_is_that_of_the_cf_token() -> None:
    item, shown = {"title": "Red mug"}, []
    for representation in (ALLMRec(), CFToken()):
        segments = representation.render(item, frozenset(representation.slots))
        shown.append([part if isinstance(part, Text) else Slot("") for part in segments])
    assert shown[0] == shown[1]
