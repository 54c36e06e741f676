"""A small trained model, as a store keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

STORED_DATA: dict[str, Any] = {"name": "toyshop", "users": 40, "items": 60}


def save_trained(folder: Path, *, llm: Path, encoders: Mapping[str, str], cache: Path) -> Path:
    """Write a small model with image and text heads, as training leaves it in a store.

    Args:
        folder: Where; it is there and empty.
        llm: What :func:`save_llm` wrote.
        encoders: Folders of encoders of images and texts.
        cache: For features.
    """
    from illmrec.assembly import ModelConfig, build_model
    from illmrec.data import load_dataset
    from illmrec.model.backbone import load_backbone
    from illmrec.recommender import content_features
    from illmrec.saved_model import save_model

    dataset = load_dataset(**STORED_DATA)
    names = ("image", "text")
    features, has_image = content_features(
        names, dataset=dataset, encoders=encoders, cache=cache, progress=False
    )
    config = ModelConfig(
        representation="illmrec.prompts.segments:ImageRepresentation",
        heads=names,
        hidden=16,
        shared=8,
        history_length=6,
    )
    described = {"name": str(llm), "layers": 2, "dtype": "float32"}
    model = build_model(
        config, dataset=dataset, backbone=load_backbone(**described), features=features, has_image=has_image
    )
    model.calibrate([dataset.sequence(user) for user in range(20)])
    save_model(
        folder,
        model=model,
        config=config,
        dataset=dataset,
        dataset_arguments=STORED_DATA,
        backbone=described,
        encoders=encoders,
        features=features,
        training={"options": {"epochs": 1}, "report": {}},
    )
    return folder
