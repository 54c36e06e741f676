"""The split and the candidates of a data set as tables, which every export writes in its own way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from illmrec.data.candidates import negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Part, split_of

PARTS = ("train", "valid", "test")


def interactions_by_part(dataset: Dataset) -> pd.DataFrame:
    """Return all interactions with their part of the split.

    Returns:
        Columns user_id, item_id, place (in the user's sequence, from 0), timestamp where the data hold times, and part:
        train, valid, test, or "" for what comes after a target and is neither learnt nor tested.
    """
    split = split_of(dataset)
    users = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    place = np.arange(dataset.n_interactions) - np.repeat(dataset.offsets[:-1], dataset.lengths)
    part = np.full(dataset.n_interactions, "", dtype=object)
    part[place < split.history_lengths("valid")[users]] = "train"
    for name in ("valid", "test"):
        part[split.every_target(name).at] = name
    table = {
        "user_id": dataset.user_ids[users],
        "item_id": dataset.items["item_id"].to_numpy(dtype=object)[dataset.sequence_items],
        "place": place.astype(np.int32),
    }
    if dataset.times is not None:
        table["timestamp"] = dataset.times
    return pd.DataFrame(table | {"part": part})


def candidates(dataset: Dataset, *, part: Part, seed: int, n: int, cache: Path) -> pd.DataFrame:
    """Return what each user's target is ranked among: columns user_id, target and candidates, a list of item ids.

    Args:
        dataset: The data set.
        part: Whose targets.
        seed: Of the drawing.
        n: Items for each user beside the target.
        cache: Folder that holds drawn candidates: an experiment ranks among the same.
    """
    split = split_of(dataset)
    users = split.users(part)
    ids = dataset.items["item_id"].to_numpy(dtype=object)
    drawn = negatives(dataset, seed=seed, n=n, part=part, cache=cache)[users]
    return pd.DataFrame(
        {
            "user_id": dataset.user_ids[users],
            "target": ids[split.targets(part)[users]],
            "candidates": list(ids[drawn]),
        }
    )
