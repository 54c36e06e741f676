"""The same shop with fewer items: nested shares of a catalogue, and the workspace that trains on one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from bench.frames.catalogue_growth import KIND
from bench.harness.workspace import Workspace
from illmrec.data.dataset import Dataset, changed
from illmrec.data.images import SelectedImages
from illmrec.errors import InputError
from illmrec.features.table import FeatureTable
from illmrec.files import hash_json
from illmrec.model.backbone import Backbone

_SHORTEST = 4  # interactions of a user: two to train on, then leave-one-out's two


class SmallerCatalogue(Workspace):
    """A workspace whose items are some of another one's, and whose users interacted with nothing else.

    Image and text features are those of the whole catalogue, which do not depend on what else is sold; CF features,
    and what aligns them with texts, are trained on what is left, since they do.

    Args:
        whole: The workspace of the whole catalogue.
        rows: Int64 [items], ascending, the items that are left.
        share: Share of the items that is left, part of the cells' keys.
        seed: Of the drawing.

    Raises:
        InputError: If what is left is too small to rank targets or has no user.
    """

    def __init__(self, *, whole: Workspace, rows: np.ndarray, share: float, seed: int) -> None:
        super().__init__(whole.settings)
        self._whole, self._rows = whole, rows
        self.variant = {"kind": KIND, "of": whole.dataset.fingerprint, "share": share, "drawn_by": seed}
        self._check(share)

    @cached_property
    def dataset(self) -> Dataset:
        """The data set of the items that are left."""
        return restricted(self._whole.dataset, self._rows)

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen LLM, that of the whole catalogue's workspace."""
        return self._whole.backbone

    @property
    def pictured_by(self) -> Workspace:
        """The workspace of the whole catalogue."""
        return self._whole.pictured_by

    def features(self, names: Sequence[str], *, seed: int) -> tuple[dict[str, FeatureTable], np.ndarray]:
        """Return feature tables by name, and bool [n_items]: items whose picture is real; see the base class."""
        own = ("cf", "aligned")
        content, has_image = self._whole.features([name for name in names if name not in own], seed=seed)
        found = {name: selected(table, self._rows) for name, table in content.items()}
        return found | self._trained_features(names, seed), has_image[self._rows]

    def _check(self, share: float) -> None:
        dataset = self.dataset
        users = np.repeat(np.arange(dataset.n_users), dataset.lengths)
        seen = np.unique(users * dataset.n_items + dataset.sequence_items) // max(1, dataset.n_items)
        most = int(np.bincount(seen).max(initial=0))
        if dataset.n_users == 0 or dataset.n_items - most < self.settings.negatives:
            raise InputError(
                f"--shares {share:g}: {dataset.n_items} items and {dataset.n_users} users of {dataset.name} are left, "
                f"and each user needs {self.settings.negatives} items never interacted with (one has interacted with "
                f"{most}); give larger shares, lower --negatives or bring more items"
            )


def kept_items(n_items: int, *, share: float, seed: int) -> np.ndarray:
    """Draw the items of a smaller catalogue: int64, ascending, a subset of those of every larger share.

    Args:
        n_items: Items of the whole catalogue.
        share: Share of them that is kept, above 0 to 1.
        seed: Of the order in which the catalogue grows.
    """
    order = np.random.default_rng([seed, n_items]).permutation(n_items)
    return np.sort(order[: max(1, round(share * n_items))])


def restricted(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """Return a data set with some of the items, the interactions with them, and the users who have four or more.

    Args:
        dataset: The whole.
        rows: Int64 [items], ascending.
    """
    position = np.full(dataset.n_items, -1, dtype=np.int32)
    position[rows] = np.arange(len(rows), dtype=np.int32)
    kept = position[dataset.sequence_items] >= 0
    user = np.repeat(np.arange(dataset.n_users), dataset.lengths)
    lengths = np.bincount(user[kept], minlength=dataset.n_users)
    stays = lengths >= _SHORTEST
    sequence_items = position[dataset.sequence_items[kept & stays[user]]]
    offsets = np.concatenate([[0], np.cumsum(lengths[stays])]).astype(np.int64)
    for array in (sequence_items, offsets):
        array.flags.writeable = False
    images = None if dataset.images is None else SelectedImages(source=dataset.images, rows=rows)
    return changed(
        dataset,
        items=dataset.items.iloc[rows].reset_index(drop=True),
        user_ids=dataset.user_ids[stays],
        sequence_items=sequence_items,
        offsets=offsets,
        images=images,
        times=None if dataset.times is None else dataset.times[kept & stays[user]],
    )


def selected(table: FeatureTable, rows: np.ndarray) -> FeatureTable:
    """Return some rows of a feature table, int64 [items]."""
    return FeatureTable(
        values=np.ascontiguousarray(table.values[rows]),
        present=np.asarray(table.present)[rows],
        key=hash_json([table.key, rows.tolist()]),
        meta=table.meta,
    )


def grown(table: FeatureTable, at: np.ndarray, *, n_items: int, elsewhere: np.ndarray) -> FeatureTable:
    """Return CF features for a larger catalogue than they were trained on.

    Args:
        table: Features of the smaller catalogue.
        at: Int64 [items of the smaller], their rows in the larger.
        n_items: Items of the larger.
        elsewhere: Float32 [width], what the other items get.
    """
    values = np.repeat(elsewhere[None].astype(np.float32), n_items, axis=0)
    values[at] = table.values
    present = np.zeros(n_items, dtype=bool)
    present[at] = True
    return FeatureTable(
        values=values, present=present, key=hash_json([table.key, at.tolist(), n_items]), meta=table.meta
    )
