"""What a data set is: an items table, users' sequences in compact arrays, images, a fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from PIL import Image

from illmrec.data.time_resolution import known_times

ITEM_COLUMNS = ("item_id", "title", "brand", "category", "description", "summary")
"""Text columns that every items table has, in this order; an empty string means that the item has none."""

TestTargets = Literal["next", "day"]

DAY = "-day"
"""What name and fingerprint of a data set end with where all items of a day are tested; what is trained is the same."""


@runtime_checkable
class ImageSource(Protocol):
    """Pictures of the items, by item row number.

    Attributes:
        available: bool [n_items], True where the item has an image.
        fingerprint: Identifies the content of all images; changes when a picture changes.
    """

    @property
    def available(self) -> np.ndarray:
        """bool [n_items]."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits over the content of the images."""

    def read(self, item: int) -> Image.Image:
        """Return the picture of an item, mode RGB.

        Raises:
            InputError: If the item has no image or the image cannot be used.
        """


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Items and users' sequences after the k-core; :func:`illmrec.data.building.build_dataset` makes one.

    Attributes:
        name: For tables and figures; says so where the users are a sample.
        items: One row an item, RangeIndex; :data:`ITEM_COLUMNS` first, then the source's extra columns.
        user_ids: str objects [n_users].
        sequence_items: int32 [n_interactions], item row numbers; the users' sequences one after the other,
            each in the order of (timestamp, original row). A user may have the same item more than once.
        offsets: int64 [n_users + 1]; user ``u`` has ``sequence_items[offsets[u]:offsets[u + 1]]``.
        images: Pictures by item row, or None where the source has none at all.
        fingerprint: 16 hexadecimal digits over items, sequences and image content; then ``DAY`` where a day is tested.
        dropped: How many ``users``, ``items`` and ``interactions`` the k-core removed, and ``duplicate rows`` before.
        low_resolution: The source's own smaller pictures of the same items, or None where it has none. No method
            reads them but by an experiment's choice, so they are not in the fingerprint.
        repeated: Rows that repeat another in user, item and time, where they were to be kept.
        times: [n_interactions], when, in the source's unit, or None where that is not held. Nothing but the order that
            follows from them is in the fingerprint.
        points: Where all users are split at the same moments: validation begins at the first, test at the second. None
            where each user's last two interactions are held out.
        tied_targets: Share of users whose last two interactions have one time, or one day where times tell no more, so
            that what is tested is a matter of the order in the table, or of lots.
        test_targets: Where all users are split at the same moments: whether the next item is tested, or every item of
            the day on which that one came.
        days_begin: Where times tell the day alone (:mod:`illmrec.data.time_resolution`): the time of day at which days
            begin, in the unit of the times. None where times are moments.
    """

    name: str
    items: pd.DataFrame
    user_ids: np.ndarray
    sequence_items: np.ndarray
    offsets: np.ndarray
    images: ImageSource | None
    fingerprint: str
    dropped: Mapping[str, int]
    low_resolution: ImageSource | None = None
    repeated: int = 0
    times: np.ndarray | None = None
    points: tuple[float, float] | None = None
    tied_targets: float = 0.0
    test_targets: TestTargets = "next"
    days_begin: float | None = None

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.items)

    @property
    def n_interactions(self) -> int:
        """Number of interactions of all users."""
        return len(self.sequence_items)

    @property
    def lengths(self) -> np.ndarray:
        """Sequence length of each user, int64 [n_users]."""
        return np.diff(self.offsets)

    @property
    def training_fingerprint(self) -> str:
        """The fingerprint without which targets are tested: where it is the same, what is trained is."""
        return self.fingerprint.removesuffix(DAY)

    @property
    def known_times(self) -> np.ndarray | None:
        """What the times tell, [n_interactions]: moments, or the beginnings of days; None where none are held."""
        return None if self.times is None else known_times(self.times, self.days_begin)

    def sequence(self, user: int) -> np.ndarray:
        """Return a user's items in order, oldest first: int32 [length], a read-only view."""
        return self.sequence_items[self.offsets[user] : self.offsets[user + 1]]

    def statistics(self) -> dict[str, str | int | float]:
        """Return the columns of the paper's Table 4, and the shares of items with image and description.

        Where the data hold times, also ``same_time``, the share of tested users whose target came at the same time as
        the item before it, or on the same day where times tell no more, and where their unit can be told ``same_day``,
        the share of those with both on one day of the calendar (UTC).
        """
        images = float(self.images.available.mean()) if self.images is not None else 0.0
        return {
            "dataset": self.name,
            "users": self.n_users,
            "items": self.n_items,
            "interactions": self.n_interactions,
            "avg_length": round(self.n_interactions / self.n_users, 2),
            "images": round(images, 4),
            "descriptions": round(float((self.items["description"] != "").mean()), 4),
            **self._same_shares,
        }

    @cached_property
    def _same_shares(self) -> dict[str, float]:
        from illmrec.data.splits import Split  # which imports this module

        split = Split(dataset=self)
        targets = split.every_target("test")
        gaps = split.gaps(targets)
        known = self.known_times
        if known is not None:
            gaps["known"] = known[targets.at] - known[targets.before]
        names = {"same_day": "days", "same_time": "known"}
        return {
            name: round(float((gaps[of][targets.numbers == 1] == 0).mean()), 4)
            for name, of in names.items()
            if of in gaps and len(targets.items)
        }


def changed(dataset: Dataset, **changes: Any) -> Dataset:
    """Return a data set with other content, or with other targets, and with the fingerprint of that.

    Args:
        dataset: The data set.
        changes: Attributes that are others.
    """
    other = replace(dataset, **changes)
    names = ("items", "user_ids", "sequence_items", "offsets", "images", "points")
    fingerprint = content_fingerprint(**{name: getattr(other, name) for name in names})
    return replace(other, fingerprint=fingerprint + (DAY if other.test_targets == "day" else ""))


def content_fingerprint(
    *,
    items: pd.DataFrame,
    user_ids: np.ndarray,
    sequence_items: np.ndarray,
    offsets: np.ndarray,
    images: ImageSource | None,
    points: tuple[float, float] | None = None,
) -> str:
    """Return 16 hexadecimal digits over all that a result can depend on; the name is not part of it."""
    digest = hashlib.sha256()

    def add(label: str, content: bytes) -> None:
        # Label and length keep neighbouring parts from running into each other.
        digest.update(f"{label}:{len(content)}:".encode())
        digest.update(content)

    def add_values(label: str, values: list[Any]) -> None:
        add(label, json.dumps(values, default=str).encode())

    for column in items.columns:
        add_values(f"item {column}", items[column].tolist())
    add_values("users", user_ids.tolist())
    add("sequences", np.ascontiguousarray(sequence_items, dtype="<i4").tobytes())
    add("offsets", np.ascontiguousarray(offsets, dtype="<i8").tobytes())
    if points is not None:
        add_values("points", list(points))
    if images is not None:
        add("images", images.fingerprint.encode())
        add("available", np.packbits(images.available).tobytes())
    return digest.hexdigest()[:16]
