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

    That item is drawn from the category (:func:`of_same_category`): a mug's picture is closer to what is said of mugs
    than to what is said of anything else, which tells little of the mug. Where no other item has the category, or an
    item has none, another of any category stands in, which is logged.

    CLIP and SigLIP embed the description with their own text tower. For an encoder without one, a ridge map from
    text features of the description to image features is fitted in 5 folds and evaluated on the items that were held
    out; both sides are then centred by the mean image feature of the items fitted on, since features of such an
    encoder share one large direction. Such a cosine says how far the picture follows from the text, not how much of the
    text is in the picture: a picture that shows nothing but the kind of product is easy to predict. It does not
    compare with that of a text tower.

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
    score: Callable[[np.ndarray], np.ndarray | None] | None = None
    if has_text_tower(encoder):
        logger.info("%s: descriptions go through its text tower", encoder)
        mapped, score = _tower(texts, encoder=encoder, device=device, progress=progress)
    else:
        logger.info("%s has no text tower: cosines are those of a %s", encoder, RIDGE)
        features = encode_texts(texts, encoder=text_encoder, device=device, progress=progress)
        images, mapped = held_out(images, features, seed=seed)
    other, same = of_same_category(dataset.items["category"].iloc[rows].tolist(), seed=seed)
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
        "shuffled_any": cosines(images, mapped[derangement(len(rows), seed=seed)]),
    }
    scores = {} if score is None else {f"{name}_score": score(values) for name, values in found.items()}
    scored = {name: values for name, values in scores.items() if values is not None}
    return pd.DataFrame({"item": rows, **found, "same_category": same, **scored})


def held_out(images: np.ndarray, texts: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Map texts to image features by ridge maps that have not seen the item.

    Args:
        images: [n, q].
        texts: [n, p].
        seed: Of the folds.

    Returns:
        Image features and predictions, float64 [n, q], both less the mean image feature of the items fitted on.
    """
    n = len(images)
    fold = np.random.default_rng([seed, n, 1]).permutation(n) % FOLDS
    centred, mapped = np.empty(images.shape), np.empty(images.shape)
    for number in range(FOLDS):
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


def of_same_category(categories: Sequence[str], *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw another item of the same category for each item: one random cycle through each category.

    Args:
        categories: One for each of n >= 2 items, compared as they are written; empty ones are no category.
        seed: Of the drawing.

    Returns:
        The other items, int64 [n], never the item itself, and whether each has the item's category, bool [n]. Where no
        other item has it, it is that of :func:`derangement`.
    """
    n = len(categories)
    codes, _ = pd.factorize(pd.Series(categories, dtype=object).str.strip())
    order = np.random.default_rng([seed, n, 2]).permutation(n)
    order = order[np.argsort(codes[order], kind="stable")]
    is_first = np.diff(codes[order], prepend=-1) != 0
    # The last of a category is followed by its first.
    following = np.append(np.arange(1, n), 0)
    is_last = np.append(is_first[1:], True)
    following[is_last] = np.flatnonzero(is_first)
    other = np.empty(n, dtype=np.int64)
    other[order] = order[following]
    same = (other != np.arange(n)) & np.array([bool(name.strip()) for name in categories])
    return np.where(same, other, derangement(n, seed=seed)), same


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
