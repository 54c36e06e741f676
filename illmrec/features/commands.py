"""``python -m illmrec.features extract``: features of a data set into the cache, and how fast that went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import numpy as np

from illmrec.data import load_dataset
from illmrec.data.sources.parsing import shard_of
from illmrec.errors import InputError, nearest
from illmrec.features import image_features, text_features
from illmrec.features.rates import limit
from illmrec.features.table import FeatureTable

Kind = Literal["image", "text"]


def extract(
    *,
    dataset: str,
    features: tuple[str, ...] = get_args(Kind),
    vision: str = "efficientnet-lite0",
    text: str = "minilm",
    device: str = "auto",
    workers: int | None = None,
    batch_size: int = 32,
    shard: str | None = None,
    broken_images: Literal["missing", "stop"] = "stop",
    duplicates: Literal["drop", "keep"] = "drop",
    min_interactions: int = 5,
    users: int | None = None,
    items: int | None = None,
    overlap: float | None = None,
    progress: bool = True,
) -> int:
    """Compute image and text features of a data set into the cache, where experiments with the same options find them.

    A run that was interrupted or killed goes on at the batch where it was, to the same bytes. Tables of 100,000 items
    and more are stored as float16, smaller ones as float32; what rounding changed is printed. Of the default encoders
    an item takes 2 x (1,280 + 384) + 2 = 3,330 bytes as float16.

    Args:
        dataset: toyshop, folder:PATH, or a name of python -m illmrec.data list that is built.
        features: Some of image, text.
        vision: Image encoder: efficientnet-lite0, or a CLIP or SigLIP model as hub id or folder.
        text: Text encoder: minilm, or a sentence-transformers model as hub id or folder.
        device: Where the encoders run: auto, cpu, cuda, cuda:1, mps.
        workers: Processes that decode pictures, 0 for threads; "none" is one a core for 5,000 pictures and more.
        batch_size: Pictures a batch; of texts twice as many. Experiments take 32. The last bits of features may depend
            on it.
        shard: i/n computes every n-th batch, from the i-th, in a process or on a machine of its own that shares the
            cache's folder (ILLMREC_CACHE); when all n are done, run it without, which puts them together.
        broken_images: What becomes of pictures that cannot be decoded: stop names them all and ends, missing counts and
            names them and lets their items count as having none.
        duplicates: What becomes of rows equal in user, item and time: drop all but one, or keep them.
        min_interactions: The k of the k-core on users and items.
        users: toyshop only: number of users; "none" is 600.
        items: toyshop only: number of items; "none" is 400.
        overlap: toyshop only: share of what the description says that the picture shows; "none" is 0.8.
        progress: Show progress bars.
    """
    for kind in features:
        if kind not in get_args(Kind):
            raise InputError(f"--features {kind}: {nearest(kind, get_args(Kind))}")
    if not features or batch_size < 1 or (workers is not None and workers < 0):
        raise InputError(
            "--features: give image, text or both; --batch-size: 1 or more; --workers: 0 or more"
        )
    part = None if shard is None else shard_of(shard)
    loaded = load_dataset(
        dataset,
        min_interactions=min_interactions,
        users=users,
        items=items,
        overlap=overlap,
        duplicates=duplicates,
        broken_images=broken_images,
    )
    common: dict[str, Any] = {"device": _device(device), "progress": progress, "shard": part}
    item_bytes = 0
    for kind in get_args(Kind):
        if kind not in features:
            continue
        if kind == "image":
            table = image_features(loaded, encoder=vision, batch_size=batch_size, workers=workers, **common)
        else:
            table = text_features(loaded, encoder=text, batch_size=2 * batch_size, **common)
        item_bytes += table.item_bytes
        for line in described(table):
            print(f"{kind}: {line}")
    if part is not None:
        print(f"shard {shard} is done; when all are, run the command without --shard")
    elif len(features) > 1:
        print(f"together {item_bytes:,} bytes an item")
    return 0


def described(table: FeatureTable) -> Iterator[str]:
    """Yield what a table holds and how fast it was computed, line by line."""
    meta = table.meta
    present, n = int(np.count_nonzero(table.present)), len(table.present)
    yield (
        f"{present:,} of {n:,} items, {table.width:,} wide, {table.stored.dtype}, {table.item_bytes:,} bytes an item, "
        f"{table.item_bytes * n / 1e6:,.1f} MB; key {table.key}"
    )
    if present and "seconds" in meta:
        seconds = float(str(meta["seconds"]))
        yield f"{present / max(seconds, 1e-9):,.1f} items/s ({seconds:,.1f} s{_by_what(meta)})"
    elif present:
        yield "how long it took was not noted"
    if found := limit(meta):
        yield found
    if "rounding" in meta:
        yield f"rounding to {table.stored.dtype} changed no row by more than {meta['rounding']:.1e} of its length"


def _by_what(meta: Mapping[str, object]) -> str:
    """Return what the time depended on, in words; tables of before note less of it."""
    said = f" on {meta['device']}" if "device" in meta else ""
    for name, called in (("processes", "processes"), ("decoding_threads", "threads")):
        if name in meta:
            said += f", decoded in {meta[name]} {called}"
    return said


def _device(wanted: str) -> str:
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {wanted}: {str(error).splitlines()[0]}") from None
    return wanted
