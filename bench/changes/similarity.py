"""Cosines between pictures and descriptions, an item's own and another item's (Figures 1(c), 8 and 9 of the paper)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError
from illmrec.features import image_features
from illmrec.features.ridge import fit_ridge
from illmrec.features.text import encode_texts
from illmrec.features.vision import has_text_tower

logger = logging.getLogger(__name__)

FOLDS = 5
_FEWEST = 2 * FOLDS
_BATCH = 64

TOWER = "text tower"
RIDGE = "ridge map, items held out, centred"
"""How the description gets into the space of the image features, with what distinguishes the cosines."""


def measured_by(encoder: str) -> str:
    """Return how cosines of an encoder are measured: ``TOWER`` or ``RIDGE``."""
    return TOWER if has_text_tower(encoder) else RIDGE


def pair_similarities(
    dataset: Dataset,
    *,
    encoder: str,
    text_encoder: str,
    seed: int,
    device: str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Compare each item's picture with its description and with that of another item of its category.

    That item is drawn from the category (:func:`others_of_category`): a mug's picture is closer to what is said of mugs
    than to what is said of anything else, which tells little of the mug. Where no other item has the category, or an
    item has none, another of any category stands in, which is logged.

    CLIP and SigLIP embed the description with their own text tower. For an encoder without one, a ridge map from
    text features of the description to image features is fitted in 5 folds and evaluated on the items that were held
    out, an item and the one that it is compared with together: a map that has seen the item's picture beside the texts
    of its category would bring the other's description closer to it than its own. Both sides are then centred by the
    mean image feature of the items fitted on, since features of such an encoder share one large direction. Such a
    cosine says how far the picture follows from the text, not how much of the text is in the picture: a picture that
    shows nothing but the kind of product is easy to predict. It does not compare with that of a text tower.

    Args:
        dataset: Items; those with both a picture and a description count.
        encoder: Vision encoder.
        text_encoder: Text encoder, read where the vision encoder has no text tower.
        seed: Of the other items and the folds.
        device: Torch device.
        progress: Show a progress bar.

    Returns:
        One row per item: item (row); matched, shuffled and shuffled_any, cosines in [-1, 1] with the item's own
        description, with that of another of its category and with that of another of any; same_category (bool), whether
        shuffled is of the same category. For SigLIP also matched_score, shuffled_score and shuffled_any_score, the
        sigmoid of the cosines under the model's scale and bias, in [0, 1] (Figure 9).

    Raises:
        InputError: If fewer than 10 items have both.
    """
    described = dataset.items["description"].str.strip()
    pictured = np.zeros(dataset.n_items, dtype=bool) if dataset.images is None else dataset.images.available
    rows = np.flatnonzero(pictured & (described != "").to_numpy())
    if len(rows) < _FEWEST:
        raise InputError(
            f"{dataset.name}: {len(rows)} items have both an image and a description, and bench.overlap needs "
            f"{_FEWEST}; add images and descriptions"
        )
    table = image_features(dataset, encoder=encoder, device=device, progress=progress)
    images = np.asarray(table.values[rows], dtype=np.float64)
    texts = described.iloc[rows].tolist()
    other, same, together = others_of_category(dataset.items["category"].iloc[rows].tolist(), seed=seed)
    fold = np.zeros(len(rows), dtype=np.int64)
    score: Callable[[np.ndarray], np.ndarray | None] | None = None
    if has_text_tower(encoder):
        logger.info("%s: descriptions go through its text tower", encoder)
        mapped, score = _tower(texts, encoder=encoder, device=device, progress=progress)
    else:
        logger.info("%s has no text tower: cosines are those of a %s", encoder, RIDGE)
        features = encode_texts(texts, encoder=text_encoder, device=device, progress=progress)
        fold = folds(together, seed=seed)
        images, mapped = held_out(images, features, fold=fold)
    if not same.all():
        logger.info(
            "%s: no other item has the category of %s of %s items; their pictures are compared with the description of "
            "an item of any category",
            dataset.name,
            f"{np.count_nonzero(~same):,}",
            f"{len(rows):,}",
        )
    found = {
        "matched": cosines(images, mapped),
        "shuffled": cosines(images, mapped[other]),
        "shuffled_any": cosines(images, mapped[others_of_fold(fold, seed=seed)]),
    }
    scores = {} if score is None else {f"{name}_score": score(values) for name, values in found.items()}
    scored = {name: values for name, values in scores.items() if values is not None}
    return pd.DataFrame({"item": rows, **found, "same_category": same, **scored})


def folds(together: np.ndarray, *, seed: int) -> np.ndarray:
    """Draw the fold of each item, int64 [n], 0 to 4, the same for items that belong together.

    Args:
        together: Int [n], equal for those that belong together, from 0 on without gaps.
        seed: Of the drawing.
    """
    of_group = np.random.default_rng([seed, len(together), 1]).permutation(together.max() + 1) % FOLDS
    found: np.ndarray = of_group[together]
    return found


def held_out(images: np.ndarray, texts: np.ndarray, *, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map texts to image features by ridge maps that have not seen the item.

    Args:
        images: [n, q].
        texts: [n, p].
        fold: Int [n], what is held out together.

    Returns:
        Image features and predictions, float64 [n, q], both less the mean image feature of the items fitted on.
    """
    centred, mapped = np.empty(images.shape), np.empty(images.shape)
    for number in np.unique(fold):
        out = fold == number
        mean = images[~out].mean(axis=0)
        centred[out] = images[out] - mean
        mapped[out] = fit_ridge(texts[~out], images[~out]).predict(texts[out]) - mean
    return centred, mapped


def derangement(n: int, *, seed: int) -> np.ndarray:
    """Return a permutation of n >= 2 items, int64 [n], that leaves none in its place: one random cycle."""
    order = np.random.default_rng([seed, n, 0]).permutation(n)
    other = np.empty(n, dtype=np.int64)
    other[order] = np.roll(order, -1)
    return other


def others_of_fold(fold: np.ndarray, *, seed: int) -> np.ndarray:
    """Return another item of its fold for each item, int64 [n], whatever its category.

    Args:
        fold: Int [n], each fold of 2 items or more.
        seed: Of the drawing.
    """
    other = np.empty(len(fold), dtype=np.int64)
    for number in np.unique(fold):
        rows = np.flatnonzero(fold == number)
        other[rows] = rows[derangement(len(rows), seed=seed)]
    return other


def others_of_category(categories: Sequence[str], *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw another item of the same category for each item.

    The items of a category are each other's by twos and threes, and so are those that are alone in theirs or have none.

    Args:
        categories: One for each of n >= 2 items, compared as they are written; empty ones are no category.
        seed: Of the drawing.

    Returns:
        The other items, int64 [n], never the item itself; whether each is of the item's category, bool [n]; and a
        number for each item that it shares with its other, int64 [n], from 0 on without gaps.
    """
    n = len(categories)
    names = pd.Series(categories, dtype=object).str.strip()
    codes, _ = pd.factorize(names)
    same = (np.bincount(codes)[codes] > 1) & (names != "").to_numpy()
    pools = np.where(same, codes, -1)
    order = np.random.default_rng([seed, n, 2]).permutation(n)
    order = order[np.argsort(pools[order], kind="stable")]
    other, together = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    groups = 0
    alone = np.empty(0, dtype=np.int64)
    for pool in np.split(order, np.flatnonzero(np.diff(pools[order])) + 1):
        if len(pool) == 1:
            alone = pool
            continue
        for part in np.array_split(pool, len(pool) // 2):
            other[part], together[part] = np.roll(part, -1), groups
            groups += 1
    # A single item that has no other of its category goes with one that has.
    other[alone] = derangement(n, seed=seed)[alone]
    together[alone] = together[other[alone]]
    return other, same, together


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of one with the same row of the other, float64 [n]; 0 where a row is zero."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = np.einsum("ij,ij->i", one, other)
    return np.divide(products, norms, out=np.zeros(len(one)), where=norms > 0)


def _tower(
    texts: list[str], *, encoder: str, device: str, progress: bool
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray | None]]:
    """Return the texts in the space of the image features, and what scores a pair by its cosine, if the model does."""
    from illmrec.features.clip import ClipTexts

    tower = ClipTexts(encoder, device=device)
    starts = range(0, len(texts), _BATCH)
    bar = tqdm(starts, desc=f"descriptions ({encoder})", unit="batch", disable=not progress)
    return np.concatenate([tower.encode(texts[start : start + _BATCH]) for start in bar]), tower.match_scores
