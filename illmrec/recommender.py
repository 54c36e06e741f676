"""Recommendations from a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from illmrec.assembly import build_model, describe_features
from illmrec.data import load_dataset
from illmrec.data.dataset import Dataset
from illmrec.errors import InputError, UnsupportedError
from illmrec.features import fill_missing_images, image_features, text_features
from illmrec.features.grids import MLLM, image_vectors
from illmrec.features.missing import mean_filled
from illmrec.features.mllm import mllm_features
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.hub import trained_with
from illmrec.model.illmrec import ILLMRec
from illmrec.retrieval import exact_top_k
from illmrec.saved_model import damage, load_parameters, read_description, trained_features, with_summaries
from illmrec.sessions import Session, Sessions

_PARTS = {"llm": "LLM", "prompts": "prompts (representation, tokenizer or fixed texts)"}


def content_features(
    names: Sequence[str],
    *,
    dataset: Dataset,
    encoders: Mapping[str, str],
    cache: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> tuple[dict[str, FeatureTable], np.ndarray]:
    """Compute or find the image and text tables that a model reads; missing images are filled (paper E.8).

    Of features that are vectors of parts of a picture, such as ``image-4``, a missing row is the mean of the others: an
    item without a picture shows none of them.

    Returns:
        The tables, and bool [n_items]: items whose picture is real.
    """
    tables: dict[str, FeatureTable] = {}
    has_image = np.zeros(dataset.n_items, dtype=bool)
    for name in names:
        if (vectors := image_vectors(name)) > 1:
            parts = image_features(
                dataset,
                encoder=encoders["image"],
                vectors=vectors,
                cache=cache,
                device=device,
                progress=progress,
            )
            has_image = np.asarray(parts.present)
            tables[name] = mean_filled(parts)
    if MLLM in names:
        read = mllm_features(dataset, name=encoders[MLLM], cache=cache, device=device, progress=progress)
        has_image = np.asarray(read.present)
        tables[MLLM] = read
    if "image" in names:
        if dataset.images is None or not dataset.images.available.any():
            raise UnsupportedError(
                f"{dataset.name}: no item has an image; add images or leave out what needs them"
            )
        images = image_features(
            dataset, encoder=encoders["image"], cache=cache, device=device, progress=progress
        )
        has_image = np.asarray(images.present)
        tables["image"] = images
        if not has_image.all():
            texts = text_features(
                dataset, encoder=encoders["text"], cache=cache, device=device, progress=progress
            )
            tables["image"] = fill_missing_images(
                images,
                texts,
                dataset,
                encoder=encoders["image"],
                cache=cache,
                device=device,
                progress=progress,
            )
    if "text" in names:
        tables["text"] = text_features(
            dataset, encoder=encoders["text"], cache=cache, device=device, progress=progress
        )
    return tables, has_image


class Recommender:
    """Gives the top-k items for a history.

    Args:
        model: A trained model.
        dataset: Whose items it recommends.
    """

    def __init__(self, *, model: ILLMRec, dataset: Dataset) -> None:
        self.model, self.dataset = model, dataset

    @cached_property
    def _catalogue(self) -> Tensor:
        """Projections of the catalogue, made once: they hold for the parameters that the model has."""
        return self.model.catalogue()

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        dataset: Dataset | None = None,
        backbone: Backbone | None = None,
        device: str = "cpu",
    ) -> Recommender:
        """Load a model that ``save_model`` wrote, or one that was exported.

        Args:
            directory: Its folder.
            dataset: The data it was trained on, if it is loaded already.
            backbone: Its LLM, if it is loaded already.
            device: Where to run.

        Raises:
            InputError: If the folder holds no model, or data, LLM, prompts or features have changed since.
        """
        from illmrec.exported import is_exported, load_exported  # which imports this module

        if is_exported(directory):
            return load_exported(str(directory), backbone=backbone, device=device)
        saved, config = read_description(directory)
        dataset = dataset or load_dataset(**saved["dataset"])
        if dataset.training_fingerprint != saved["fingerprint"]:
            raise InputError(
                f"{directory}: the data in {dataset.name} changed since it was trained; train again"
            )
        dataset = with_summaries(dataset, directory)
        features, has_image = content_features(
            tuple(saved["features"]), dataset=dataset, encoders=saved["encoders"], device=device
        )
        features |= trained_features(saved, directory)
        model = build_model(
            config,
            dataset=dataset,
            backbone=backbone or load_backbone(**saved["backbone"], device=device),
            features=features,
            has_image=has_image,
        )
        parts = {**trained_with(model), **describe_features(features)}
        for name, then in {**saved.get("content", {"prompts": ""}), **saved["features"]}.items():
            if parts.get(name) != then:
                raise InputError(
                    f"{directory}: the {_PARTS.get(name, f'{name} features')} changed since it was trained; train again"
                )
        with damage(directory):
            load_parameters(
                model, directory, features={name: table.values for name, table in features.items()}
            )
            if not all(torch.isfinite(value).all() for value in model.state_dict().values()):
                raise ValueError("parameters are not finite")
        return cls(model=model.eval(), dataset=dataset)

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items]; see :meth:`ILLMRec.score`."""
        return self.model.score(histories)

    def history_of(self, user: str) -> tuple[str, ...]:
        """Return the item ids of a user's whole sequence.

        Raises:
            InputError: If the data set has no such user.
        """
        found = np.flatnonzero(self.dataset.user_ids == user)
        if not len(found):
            raise InputError(
                f"--user {user!r}: {self.dataset.name} has no such user; --history takes item ids"
            )
        return tuple(self.dataset.items["item_id"].iloc[self.dataset.sequence(int(found[0]))])

    def session(self, history: Sequence[str], *, slack: int = 0) -> Session:
        """Return a session: a history that grows, in which the LLM reads a further item without those before it.

        Args:
            history: Item ids, the most recent last.
            slack: Items that the window grows by before it moves; see :class:`illmrec.sessions.Sessions`.

        Raises:
            InputError: If the history is empty or names an unknown item.
            UnsupportedError: If the LLM is not run in packed rows.
        """
        sessions = Sessions(model=self.model, dataset=self.dataset, slack=slack, catalogue=self._catalogue)
        sessions.open("this session", history)
        return Session(sessions, "this session")

    def recommend(self, history: Sequence[str], *, k: int = 10, repeats: bool = False) -> pd.DataFrame:
        """Return the k items that suit a history best.

        Args:
            history: Item ids, the most recent last.
            k: How many items.
            repeats: Whether items of the history may be recommended again.

        Returns:
            A frame with item_id, title and score, the best first.

        Raises:
            InputError: If the history is empty or names an unknown item, or k is below 1.
        """
        rows = {item_id: row for row, item_id in enumerate(self.dataset.items["item_id"])}
        unknown = [item_id for item_id in history if item_id not in rows]
        if not history or unknown:
            what = f"unknown item {unknown[0]!r}" if unknown else "it is empty"
            raise InputError(f"--history: {what}; give item ids of {self.dataset.name}, the most recent last")
        seen = np.array([rows[item_id] for item_id in history])
        model = self.model
        with torch.inference_mode():
            prompt = model.prompts.fit(seen, max_items=model.history_length)
            states = model.read([prompt], [np.array([len(prompt.items)])])
            user = model.project_users(states).flatten(1)
        exclude = None if repeats else [seen]
        best = exact_top_k(user, self._catalogue, k=min(k, model.n_items), exclude=exclude)
        left = best.items[0] >= 0
        found = self.dataset.items.iloc[best.items[0][left]][["item_id", "title"]].reset_index(drop=True)
        return found.assign(score=best.scores[0][left])
