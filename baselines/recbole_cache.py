"""RecBole models trained once: a SASRec serves as a baseline and as the source of CF features."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from pathlib import Path
from typing import Any

import numpy as np

from baselines.recbole_models import RecBoleRecommender
from baselines.recbole_options import RecBoleOptions
from illmrec import checksums
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.errors import DamagedError
from illmrec.files import cache_dir, hash_json
from illmrec.network_folders import remove_directory

logger = logging.getLogger(__name__)

_VERSION = 1  # changes when the same options would give another model
_KNOWN: dict[str, Any] = {"version": 1, "recbole": "1.2.1"}
"""What models were trained with before their keys said so."""


def described_options(options: RecBoleOptions) -> dict[str, Any]:
    """Return options for a cell's configuration, with the versions of RecBole and of this code where they are new."""
    try:
        recbole = importlib.metadata.version("recbole")
    except importlib.metadata.PackageNotFoundError:  # who trains says that it is missing
        recbole = _KNOWN["recbole"]
    versions = {"version": _VERSION, "recbole": recbole}
    return {
        **options.described(),
        **{name: value for name, value in versions.items() if value != _KNOWN[name]},
    }


def describe_training(
    dataset: Dataset, *, options: RecBoleOptions, seed: int, negatives: np.ndarray
) -> dict[str, Any]:
    """Return all that a trained model depends on, for keys."""
    candidates = np.ascontiguousarray(negatives, dtype="<i4").tobytes()
    return {
        "encoder": f"recbole-{options.model}",
        "version": _VERSION,
        "options": described_options(options),
        "seed": seed,
        "candidates": hashlib.sha256(candidates).hexdigest()[:16],
        "data": dataset.training_fingerprint,
    }


def trained_recbole(
    dataset: Dataset,
    split: Split,
    *,
    options: RecBoleOptions,
    seed: int,
    negatives: np.ndarray,
    cache: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> RecBoleRecommender:
    """Return a trained model from ``cache/recbole/<key>/``, where it is put after its only training.

    Args:
        dataset: The data set.
        split: Its leave-one-out split; validation items choose the epoch, test items are not read.
        options: The model and how to train it.
        seed: Of the training.
        negatives: Int32 [n_users, n], the protocol's sampled candidates, for choosing the epoch.
        cache: By default the user's cache.
        device: Where to train; not part of the key.
        progress: Show a progress bar.

    Raises:
        InputError: If RecBole is missing, nothing can be learnt or the cache cannot be written.
    """
    described = describe_training(dataset, options=options, seed=seed, negatives=negatives)
    directory = (cache or cache_dir()) / "recbole" / hash_json(described)
    if directory.exists():
        try:
            return RecBoleRecommender.load(directory, device=device)
        except DamagedError as error:
            checksums.renew(directory, error)
    logger.info("training %s on the training part of %s (seed %d)", options.model, dataset.name, seed)
    model = RecBoleRecommender(options=options, device=device)
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    model.fit(dataset, split, seed=seed, negatives=negatives, checkpoint=unfinished, progress=progress)
    with checksums.sealed_directory(directory) as folder:
        model.save(folder)
    if unfinished.exists():
        remove_directory(unfinished)
    return model
