"""Pictures that cannot be decoded: all of them found at once, not one a run."""

from __future__ import annotations

import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from illmrec.data.dataset import ImageSource
from illmrec.data.images import IMAGE_FORMATS, KeptImages
from illmrec.errors import InputError
from illmrec.files import atomic_write_text, hash_json, parsed_json

logger = logging.getLogger(__name__)

_NAMED = 5


def broken_pictures(images: ImageSource, *, cache: Path) -> dict[int, str]:
    """Decode every picture and return what is wrong with those that cannot be, by item row; once, then from the cache.

    Args:
        images: Pictures by item row.
        cache: Folder that holds ``pictures/<key>.json``.

    Raises:
        InputError: If the cache cannot be written.
    """
    path = cache / "pictures" / f"{hash_json([images.fingerprint, IMAGE_FORMATS])}.json"
    if path.is_file():
        return {int(row): said for row, said in parsed_json(path.read_text(encoding="utf-8")).items()}

    def fault(row: int) -> str:
        try:
            images.read(row)
        except InputError as error:
            return str(error)
        return ""

    rows = np.flatnonzero(images.available).tolist()
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        found = list(
            tqdm(threads.map(fault, rows), total=len(rows), desc="checking pictures", unit="file", delay=1)
        )
    broken = {row: said for row, said in zip(rows, found, strict=True) if said}
    atomic_write_text(path, json.dumps(broken))
    return broken


def without_broken(images: ImageSource, *, cache: Path, where: str) -> ImageSource:
    """Return the pictures that can be decoded; the others count as missing, and the log names some.

    Args:
        images: Pictures by item row.
        cache: See :func:`broken_pictures`.
        where: What the log calls the data.
    """
    broken = broken_pictures(images, cache=cache)
    if not broken:
        return images
    logger.warning(
        "%s: %d of %d pictures cannot be used and count as missing: %s",
        where, len(broken), int(images.available.sum()), named(broken),
    )  # fmt: skip
    kept = np.ones(len(images.available), dtype=bool)
    kept[list(broken)] = False
    return KeptImages(source=images, kept=kept)


def named(broken: dict[int, str]) -> str:
    """Return some of the faults in words, and how many more there are."""
    shown = [said.partition(";")[0] for said in list(broken.values())[:_NAMED]]
    more = len(broken) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")
