"""A small data set and models over it, for tests of training and of stored states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from illmrec.assembly import ModelConfig, build_model
from illmrec.data.dataset import Dataset
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import Backbone
from illmrec.model.illmrec import ILLMRec

N_ITEMS, N_USERS = 40, 24
N_POPULAR = 20  # the others are never interacted with: something to learn
IMAGES = "illmrec.prompts.segments:ImageRepresentation"


def made_dataset(*, n_users: int = N_USERS, n_popular: int = N_POPULAR) -> Dataset:
    """Return users with 4 to 14 interactions with popular items, the first ones of the catalogue."""
    generator = np.random.default_rng(0)
    words = np.array(["red", "blue", "green", "mug", "lamp", "shoe", "plain", "dots"])
    text = [" ".join(generator.choice(words, 3)) for _ in range(N_ITEMS)]
    items = pd.DataFrame(
        {"item_id": [f"i{i}" for i in range(N_ITEMS)], "title": text, "brand": "", "category": text}
    )
    items = items.assign(description=text, summary=text)
    lengths = generator.integers(4, 15, size=n_users)
    return Dataset(
        name="tiny",
        items=items,
        user_ids=np.array([f"u{u}" for u in range(n_users)], dtype=object),
        sequence_items=np.concatenate([generator.permutation(n_popular)[:n] for n in lengths]).astype(
            np.int32
        ),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


def made_model(
    dataset: Dataset,
    backbone: Backbone,
    *,
    heads: tuple[str, ...] = ("image", "cf"),
    has_image: np.ndarray | None = None,
    history_length: int = 5,
    representation: str = IMAGES,
    **config: Any,
) -> ILLMRec:
    """Return a small model with made-up features; ``config`` goes to its configuration."""
    generator = np.random.default_rng(1)
    features = {
        name: FeatureTable(
            values=generator.normal(size=(N_ITEMS, 12)).astype(np.float32),
            present=np.ones(N_ITEMS, dtype=bool),
            key=name,
            meta={},
        )
        for name in ("image", "cf")
    }
    described = ModelConfig(
        representation=representation,
        heads=heads,
        hidden=16,
        shared=8,
        history_length=history_length,
        **config,
    )
    return build_model(
        described,
        dataset=dataset,
        backbone=backbone,
        features=features,
        has_image=np.ones(N_ITEMS, dtype=bool) if has_image is None else has_image,
    )
