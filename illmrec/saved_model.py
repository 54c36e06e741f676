"""The folder of a trained model: what is written, and what is checked before it is believed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from illmrec import checksums
from illmrec.assembly import ModelConfig, describe_features, load_representation, stored_config
from illmrec.data.dataset import Dataset
from illmrec.errors import DamagedError, InputError
from illmrec.features.commits import commit_of, pinned
from illmrec.features.grids import MLLM, image_vectors
from illmrec.features.sources import with_folder
from illmrec.features.table import FeatureTable
from illmrec.files import parsed_json
from illmrec.model.hub import trained_with
from illmrec.model.illmrec import ILLMRec

_PARAMETERS, _CONFIG = "parameters.safetensors", "model.json"
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
    return with_folder(name, str)


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


def read_description(directory: Path) -> tuple[dict[str, Any], ModelConfig]:
    """Return what ``save_model`` wrote about a model, and its configuration.

    Raises:
        InputError: If the folder holds no model.
        DamagedError: If a file of the folder is not what was written, or a part of the description is missing or of
            the wrong type.
    """
    path = directory / _CONFIG
    if not path.is_file() or not (directory / _PARAMETERS).is_file():
        raise InputError(
            f"{directory}: holds no trained model; python -m bench.ablation trains and stores some"
        )
    check_model(directory)
    saved = checksums.read_json(path, remedy=_retrain(directory))
    try:
        config = stored_config(saved["config"])
        _check_described(saved)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path}: damaged ({error}); {_retrain(directory)}") from error
    return saved, config


def with_summaries(dataset: Dataset, directory: Path) -> Dataset:
    """Return the data set with the summaries that were stored along with a model, if there are any.

    Raises:
        InputError: If they are no list of a text for each item.
    """
    path = directory / _SUMMARIES
    if not path.is_file():
        return dataset
    return replace(
        dataset, items=dataset.items.assign(summary=_stored_summaries(path, items=dataset.n_items))
    )


def trained_features(saved: Mapping[str, Any], directory: Path) -> dict[str, FeatureTable]:
    """Return the tables of features that were trained, by name.

    Args:
        saved: The description of the model.
        directory: Its folder.

    Raises:
        InputError: If a file is missing or damaged.
    """
    tables = {}
    for name in saved["features"].keys() & set(_TRAINED):
        with damage(directory):
            values = load_arrays(directory / f"{name}.safetensors")[name]
        tables[name] = FeatureTable(
            values=values, present=np.ones(len(values), dtype=bool), key=saved["features"][name], meta={}
        )
    return tables


def _check_described(saved: Mapping[str, Any]) -> None:
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
    for name in saved["features"]:
        # A text stands in for a picture that is missing.
        needed = {MLLM} if name == MLLM else {"image", "text"} if image_vectors(name) else {"text"} & {name}
        if lacking := sorted(needed - saved["encoders"].keys()):
            raise ValueError(f"no encoder of {lacking[0]}, which {name} features need")


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
def damage(directory: Path) -> Iterator[None]:
    """Turn what a damaged file of parameters raises into one line."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{directory}: its parameters are damaged or another model's ({error}); delete the folder and train again"
        ) from error
