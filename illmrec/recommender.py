"""A trained model on disk, and recommendations from it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from illmrec import checksums
from illmrec.assembly import ModelConfig, build_model, describe_features, load_representation, stored_config
from illmrec.data import load_dataset
from illmrec.data.dataset import Dataset
from illmrec.errors import DamagedError, InputError, UnsupportedError
from illmrec.features import fill_missing_images, image_features, text_features
from illmrec.features.commits import commit_of, pinned
from illmrec.features.grids import MLLM, image_vectors
from illmrec.features.missing import mean_filled
from illmrec.features.mllm import mllm_features
from illmrec.features.sources import local_folder
from illmrec.features.table import FeatureTable
from illmrec.files import parsed_json
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.hub import trained_with
from illmrec.model.illmrec import ILLMRec
from illmrec.retrieval import exact_top_k
from illmrec.sessions import Session, Sessions

_PARAMETERS, _CONFIG = "parameters.safetensors", "model.json"
_PARTS = {"llm": "LLM", "prompts": "prompts (representation, tokenizer or fixed texts)"}
_SUMMARIES = "summaries.json"
_TRAINED = ("cf", "aligned")
"""Features that are trained parameters too: they are stored along, each in a file of its name."""


def save_model(
    directory: Path,
    *,
    model: ILLMRec,
    config: ModelConfig,
    dataset: Dataset,
    dataset_arguments: Mapping[str, Any],
    backbone: Mapping[str, Any],
    encoders: Mapping[str, str],
    features: Mapping[str, FeatureTable],
    training: Mapping[str, Any],
) -> None:
    """Write the trainable parameters and everything that is needed to load them again.

    Args:
        directory: An existing, empty folder.
        model: The trained model.
        config: What it is.
        dataset: The data set. Summaries that were written for it are stored along.
        dataset_arguments: Arguments of ``load_dataset``. Folders, here and below, are stored as absolute paths.
        backbone: Arguments of ``load_backbone`` except the device. Of models from the hub, here and below, the commit
            is stored as well, so that the model is later loaded with these.
        encoders: ``{"image": ..., "text": ...}``.
        features: The tables that the model reads. Those that were trained are parameters too and are stored along.
        training: Options and outcome of the training, for the reader.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, directory / _PARAMETERS)
    for name in features.keys() & set(_TRAINED):
        save_arrays({name: np.ascontiguousarray(features[name].values)}, directory / f"{name}.safetensors")
    if "summary" in load_representation(config.representation).columns:
        (directory / _SUMMARIES).write_text(json.dumps(dataset.items["summary"].tolist(), indent=0) + "\n")
    described = {
        "config": asdict(config),
        "dataset": {**dataset_arguments, "name": _found_anywhere(dataset_arguments["name"])},
        "fingerprint": dataset.training_fingerprint,
        "backbone": {
            **backbone,
            "name": pinned(_found_anywhere(backbone["name"]), model.engine.backbone.commit),
            "dtype": model.engine.backbone.describe()[
                "dtype"
            ],  # not "auto": another machine may choose another
        },
        "encoders": {
            name: pinned(_found_anywhere(encoder), commit_of(encoder)) for name, encoder in encoders.items()
        },
        "features": describe_features(features),
        "content": trained_with(model),
        "training": dict(training),
    }
    (directory / _CONFIG).write_text(json.dumps(described, indent=1) + "\n")
    checksums.seal(directory)


def _found_anywhere(name: str) -> str:
    """Return a name of data or of a model so that it holds in any working directory."""
    prefix, colon, path = name.rpartition(":")
    folder = local_folder(path if prefix in ("folder", MLLM) else name)
    return name if folder is None else f"{prefix}{colon}{folder.resolve()}"


def load_parameters(model: ILLMRec, directory: Path, *, features: Mapping[str, np.ndarray]) -> None:
    """Read the parameters that ``save_model`` wrote into a model built for the same configuration.

    Args:
        model: The model.
        directory: What ``save_model`` was given.
        features: The tables it reads, float32 [n_items, width]; the catalogue may have grown since.

    Raises:
        DamagedError: If a file of the folder is not what was written.
    """
    check_model(directory)
    try:
        model.load_state_dict(load_file(directory / _PARAMETERS))
    except (OSError, SafetensorError) as error:
        raise DamagedError(f"{directory / _PARAMETERS}: damaged ({error}); {_retrain(directory)}") from error
    model.set_features(features)


def check_model(directory: Path) -> None:
    """Make sure that the files of a trained model are those that were written.

    Raises:
        DamagedError: If one is not; the message names it.
    """
    checksums.check(directory, remedy=_retrain(directory))


def _retrain(directory: Path) -> str:
    return f"delete the folder {directory} and train again"


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


def _check_saved(saved: Mapping[str, Any]) -> None:
    """Check the parts of ``model.json`` beside the configuration.

    Raises:
        KeyError, ValueError: If one is missing or of the wrong type.
    """
    if not isinstance(saved["fingerprint"], str):
        raise ValueError("fingerprint is no text")
    if not isinstance(saved["dataset"], dict) or not isinstance(saved["dataset"].get("name"), str):
        raise ValueError("dataset has no name")
    if not isinstance(saved["backbone"], dict) or not isinstance(saved["backbone"].get("name"), str):
        raise ValueError("backbone has no name")
    for part in ("encoders", "features", *(("content",) if "content" in saved else ())):
        named = saved[part]
        if not isinstance(named, dict) or not all(isinstance(value, str) for value in named.values()):
            raise ValueError(f"{part} are no texts by name")


def _stored_summaries(path: Path, *, items: int) -> list[str]:
    try:
        found: list[str] = parsed_json(path.read_text(encoding="utf-8"))
        if (
            not isinstance(found, list)
            or len(found) != items
            or not all(isinstance(text, str) for text in found)
        ):
            raise ValueError(f"it is no list of {items} texts")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}); delete the folder and train again") from error
    return found


@contextlib.contextmanager
def _damage(directory: Path) -> Iterator[None]:
    """Turn what a damaged file of parameters raises into one line."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{directory}: its parameters are damaged or another model's ({error}); delete the folder and train again"
        ) from error


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
        path = directory / _CONFIG
        if not path.is_file() or not (directory / _PARAMETERS).is_file():
            raise InputError(
                f"{directory}: holds no trained model; python -m bench.ablation trains and stores some"
            )
        check_model(directory)
        saved = checksums.read_json(path, remedy=_retrain(directory))
        try:
            config = stored_config(saved["config"])
            _check_saved(saved)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(f"{path}: damaged ({error}); {_retrain(directory)}") from error
        dataset = dataset or load_dataset(**saved["dataset"])
        if dataset.training_fingerprint != saved["fingerprint"]:
            raise InputError(
                f"{directory}: the data in {dataset.name} changed since it was trained; train again"
            )
        if (directory / _SUMMARIES).is_file():
            summaries = _stored_summaries(directory / _SUMMARIES, items=dataset.n_items)
            dataset = replace(dataset, items=dataset.items.assign(summary=summaries))
        try:
            features, has_image = content_features(
                tuple(saved["features"]), dataset=dataset, encoders=saved["encoders"], device=device
            )
        except KeyError as error:
            raise DamagedError(f"{path}: damaged (no encoder of {error}); {_retrain(directory)}") from error
        for name in saved["features"].keys() & set(_TRAINED):
            with _damage(directory):
                values = load_arrays(directory / f"{name}.safetensors")[name]
            features[name] = FeatureTable(
                values=values, present=np.ones(len(values), dtype=bool), key=saved["features"][name], meta={}
            )
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
        with _damage(directory):
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
