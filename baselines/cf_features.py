"""Collaborative features: the item embeddings of a SASRec trained on the training part only."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from baselines.recbole_cache import describe_training, trained_recbole
from baselines.recbole_options import RecBoleOptions
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.features.table import FeatureTable
from illmrec.files import cache_dir, hash_json

logger = logging.getLogger(__name__)


def cf_features(
    dataset: Dataset,
    split: Split,
    *,
    seed: int,
    negatives: np.ndarray,
    cache: Path | None = None,
    options: RecBoleOptions | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> FeatureTable:
    """Train a SASRec on the training part and keep its item embeddings (paper Appendix B); once per key.

    Every row is present. An item that no user has in training still has the embedding it was initialised
    with, moved only as a negative of the loss: the paper's behaviour for unseen items (Appendix E.6).
    ``meta`` says how many there are (``untrained_items``) and how well the model did on validation.

    Args:
        dataset: The data set.
        split: Its leave-one-out split; validation items choose the epoch, test items are not read.
        seed: Of the training.
        negatives: Int32 [n_users, n], the protocol's sampled candidates, for choosing the epoch.
        cache: Folder that holds ``features/<key>/``; by default the user's cache.
        options: How to train it; by default a SASRec of width 64.
        device: Where to train; not part of the key.
        progress: Show a progress bar.

    Returns:
        Float32 [n_items, options.hidden_size].

    Raises:
        InputError: If RecBole is missing, nothing can be learnt or the cache cannot be written.
    """
    options = options or RecBoleOptions()
    described = describe_training(dataset, options=options, seed=seed, negatives=negatives)
    directory = (cache or cache_dir()) / "features" / hash_json(described)
    if (found := FeatureTable.found(directory)) is not None:
        return found
    model = trained_recbole(
        dataset,
        split,
        options=options,
        seed=seed,
        negatives=negatives,
        cache=cache,
        device=device,
        progress=progress,
    )
    record = model.record
    if record is None:
        raise RuntimeError("a trained model was stored without the record of its training")
    trained = np.zeros(dataset.n_items, dtype=bool)
    trained[split.train_items()] = True
    untrained = int((~trained).sum())
    if untrained:
        logger.info("CF features: %d of %d items are not in training", untrained, dataset.n_items)
    meta = {
        **described,
        "untrained_items": untrained,
        "validation_ndcg10": record.validation_ndcg10[record.best_epoch - 1],
        "best_epoch": record.best_epoch,
        "seconds": record.seconds,
    }
    present = np.ones(dataset.n_items, dtype=bool)
    return FeatureTable.save(directory, model.item_embeddings(), present, meta)
