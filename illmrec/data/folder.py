"""The source ``folder:PATH``: a user's own items, interactions and images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from illmrec.data.broken import without_broken
from illmrec.data.building import Duplicates, Ties, build_dataset, clean_items
from illmrec.data.dataset import Dataset
from illmrec.data.picture_files import IMAGES, LOW_RESOLUTION, find_images
from illmrec.data.tables import read_table
from illmrec.data.time_resolution import TimeResolution
from illmrec.errors import InputError
from illmrec.files import cache_dir, is_folder


def load_folder(
    path: str,
    *,
    min_interactions: int = 5,
    max_users: int | None = None,
    duplicates: Duplicates = "drop",
    ties: Ties = "table",
    time_resolution: TimeResolution = "auto",
    broken_images: Literal["missing", "stop"] = "stop",
    seed: int = 0,
) -> Dataset:
    """Load ``items.*``, ``interactions.*`` (parquet, csv or jsonl) and the images of a folder.

    Items have the columns item_id and title, and may have brand, category, description, summary and others;
    interactions have user_id, item_id and timestamp. Images are ``<item_id>.jpg`` (or .png, .webp, .gif
    and others that Pillow reads) anywhere in a folder ``images``, in ``images.zip`` or in ``images.tar``, which are not
    unpacked; items without one count as missing. The source's own smaller pictures of the same items, where it has
    them, are in ``images-low``, ``images-low.zip`` or ``images-low.tar`` under the same names; only bench.image_quality
    reads them. The data set is named after the folder.

    Args:
        path: The folder.
        min_interactions: The k of the iterative k-core.
        max_users: Keep a random sample of this many users, drawn after the k-core.
        duplicates: What becomes of rows equal in user, item and time: ``drop`` or ``keep``.
        ties: The order of a user's interactions at the same time: that of the ``table`` or ``drawn`` by seed.
        time_resolution: Whether times are ``exact`` or tell the ``day`` alone; ``auto`` finds out.
        broken_images: ``missing`` decodes every picture and does without those that cannot be; ``stop`` leaves it to
            who reads one to complain.
        seed: Of the sample and of that order.

    Raises:
        InputError: If a file is missing or something in it cannot be used; the message names file and row.
    """
    if not path:
        raise InputError("folder: needs a path, as in folder:data/mine")
    folder = Path(path).expanduser()
    if not is_folder(folder):
        raise InputError(f"{folder}: no such folder; give the one that holds items.* and interactions.*")
    items, items_file = read_table(folder, "items")
    interactions, interactions_file = read_table(folder, "interactions")
    images = low_resolution = None
    if "item_id" in items:
        items = clean_items(items, file=str(items_file))
        images, low_resolution = (
            find_images(folder, item_ids=items["item_id"].tolist(), name=name)
            for name in (IMAGES, LOW_RESOLUTION)
        )
    if broken_images == "missing":
        images, low_resolution = (
            source and without_broken(source, cache=cache_dir(), where=str(folder))
            for source in (images, low_resolution)
        )
    return build_dataset(
        name=folder.resolve().name,
        items=items,
        interactions=interactions,
        images=images,
        low_resolution=low_resolution,
        min_interactions=min_interactions,
        max_users=max_users,
        duplicates=duplicates,
        ties=ties,
        time_resolution=time_resolution,
        seed=seed,
        items_file=str(items_file),
        interactions_file=str(interactions_file),
    )
