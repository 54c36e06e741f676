"""Image features for items without an image, from what their text says (paper E.8, Table 8).

An encoder with a text tower (CLIP, SigLIP) embeds the description with it, as the paper does. For an encoder
without one, a ridge map from text features to image features is fitted on the items that have both. Either
uses the content of items only, no interaction, so nothing of validation or test is involved.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError, UnsupportedError
from illmrec.features.computing import compute_table
from illmrec.features.ridge import fit_ridge
from illmrec.features.table import FeatureTable, stored_as
from illmrec.features.text import item_texts
from illmrec.features.vision import has_text_tower
from illmrec.files import cache_dir, hash_json

logger = logging.getLogger(__name__)

_TEXT_TOWER = "the model's own tokenizer, cut to its longest input; pooled text embedding"
_VERSION = 1  # changes when the substitutes would


def fill_missing_images(
    images: FeatureTable,
    texts: FeatureTable,
    dataset: Dataset,
    *,
    encoder: str,
    cache: Path | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    progress: bool = True,
) -> FeatureTable:
    """Return the image features with a substitute in every missing row; the table itself if none is missing.

    A text tower reads the description, or title, brand and category where an item has none; a ridge map
    starts from the whole text feature. An item without any text gets the mean image feature.

    Args:
        images: Image features; ``present`` is False where a substitute is wanted.
        texts: Text features of the same items, for an encoder without a text tower.
        dataset: The items.
        encoder: The vision encoder that made ``images``.
        cache: Folder of computed tables; the user's cache by default.
        batch_size: Texts a batch, for a text tower.
        device: Torch device, for a text tower.
        progress: Show a progress bar.

    Returns:
        A table with every row present and a key of its own; its meta has "substituted" (number of rows), "by"
        ("ridge" or "text tower") and, for a ridge map, "fitted_on", "penalty" and "loo_r2".

    Raises:
        InputError: If no item has an image and the encoder has no text tower, or the encoder cannot be loaded.
    """
    n = dataset.n_items
    if len(images.present) != n or len(texts.present) != n:
        raise ValueError(f"tables of {len(images.present)} and {len(texts.present)} rows for {n} items")
    missing = ~images.present
    if not missing.any():
        return images
    by = "text tower" if has_text_tower(encoder) else "ridge"
    if missing.all() and by == "ridge":
        raise UnsupportedError(
            f"data set {dataset.name} has no image to learn from; the image features of the methods illmrec"
            " and illmrec+ need at least one: add images or choose text methods"
        )
    meta: dict[str, object] = {
        "feature": "image",
        "encoder": encoder,
        "images": images.key,
        "missing": hashlib.sha256(np.packbits(missing).tobytes()).hexdigest(),
        "by": by,
        "substituted": int(missing.sum()),
        "version": _VERSION,
    }
    folder = (cache or cache_dir()) / "features"
    if by == "text tower":
        described = _described(dataset)
        meta["descriptions"] = hash_json(described)
        key = hash_json(meta)
        if (known := FeatureTable.found(folder / key)) is not None:
            return known
        values = _embed_descriptions(
            described,
            missing,
            width=images.width,
            encoder=encoder,
            folder=folder,
            meta=meta,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
        with_text = missing & np.array([bool(text) for text in described])
    else:
        meta["texts"] = texts.key
        key = hash_json(meta)
        if (known := FeatureTable.found(folder / key)) is not None:
            return known
        values, learned = _map_texts(images, texts, dataset=dataset)
        meta |= learned
        with_text = missing & texts.present
    filled = np.array(images.values)
    filled[with_text] = values[with_text]
    silent = missing & ~with_text
    if silent.any():
        # Without any image, which only a text tower allows, the substitutes are all there is to take the mean of.
        known = images.values[images.present] if images.present.any() else filled[with_text]
        if not len(known):
            raise UnsupportedError(
                f"data set {dataset.name}: no item has an image or a text; add descriptions"
            )
        filled[silent] = known.mean(axis=0, dtype=np.float64)
        logger.info("%d items have neither image nor text: they get the mean image feature", silent.sum())
    return FeatureTable.save(folder / key, filled, np.ones(n, dtype=bool), meta, dtype=stored_as(n))


def mean_filled(table: FeatureTable) -> FeatureTable:
    """Return a table with the mean of the present rows in the absent ones; the table itself if none is absent."""
    if table.present.all():
        return table
    values = np.array(table.values)
    values[~table.present] = table.values[table.present].mean(axis=0, dtype=np.float64)
    return FeatureTable(
        values=values,
        present=np.ones_like(table.present),
        key=hash_json([table.key, "mean"]),
        meta={**table.meta, "substituted": int((~table.present).sum()), "by": "mean"},
    )


def _described(dataset: Dataset) -> list[str]:
    descriptions = dataset.items["description"].str.strip().tolist()
    return [own or other for own, other in zip(descriptions, item_texts(dataset.items), strict=True)]


def _embed_descriptions(
    described: list[str],
    missing: np.ndarray,
    *,
    width: int,
    encoder: str,
    folder: Path,
    meta: dict[str, object],
    batch_size: int,
    device: str,
    progress: bool,
) -> np.ndarray:
    """Embed the texts of the missing items with the encoder's text tower: float32 [n_items, width]."""
    from illmrec.features.clip import ClipTexts

    tower = ClipTexts(encoder, device=device)
    if tower.width != width:
        raise InputError(
            f"encoder {encoder} has texts of width {tower.width} and images of width {width}: its text tower"
            " cannot stand in for missing images; choose another encoder"
        )
    logger.info(
        "%d items without an image: %s embeds their descriptions with its text tower", missing.sum(), encoder
    )
    part = {**meta, "feature": "description", "preprocessing": _TEXT_TOWER}
    has_text = np.array([bool(text) for text in described])
    lengths = np.fromiter(map(len, described), dtype=np.int64, count=len(described))
    wanted = np.flatnonzero(missing & has_text)
    return compute_table(
        folder / hash_json(part),
        n_items=len(described),
        width=width,
        present=missing & has_text,
        order=wanted[np.argsort(-lengths[wanted], kind="stable")],
        encode_batch=lambda rows: tower.encode([described[row] for row in rows.tolist()]),
        batch_size=batch_size,
        meta=part,
        progress=progress,
        description=f"descriptions of missing images ({encoder})",
        dtype=stored_as(len(described)),
    ).values


def _map_texts(
    images: FeatureTable, texts: FeatureTable, *, dataset: Dataset
) -> tuple[np.ndarray, dict[str, object]]:
    """Fit text features to image features where an item has both; predict for all, float32."""
    both = images.present & texts.present
    if not both.any():
        raise UnsupportedError(
            f"data set {dataset.name}: no item has both an image and a text, so nothing stands in for missing"
            " images; add titles or descriptions"
        )
    ridge = fit_ridge(texts.values[both], images.values[both])
    logger.info(
        "%d items without an image get features mapped from their text (ridge fitted on %d items, R2 of"
        " left-out items %s): the encoder has no text tower",
        int((~images.present).sum()),
        int(both.sum()),
        "undefined" if ridge.loo_r2 is None else f"{ridge.loo_r2:.3f}",
    )
    learned: dict[str, object] = {
        "fitted_on": int(both.sum()),
        "penalty": ridge.penalty,
        "loo_r2": ridge.loo_r2,
    }
    return ridge.predict(texts.values), learned
