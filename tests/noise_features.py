"""Features of noise, which take no encoder: for what depends on their presence and not on what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.harness.workspace import Workspace
from illmrec.features.table import FeatureTable

WIDTH = 8


def put_noise(patch: pytest.MonkeyPatch, *, without_image: int = 0) -> None:
    """Give every workspace noise in place of what encoders make; the first items lack a picture."""

    def drawn(
        self: Workspace, names: Sequence[str], *, seed: int
    ) -> tuple[dict[str, FeatureTable], np.ndarray]:
        n_items = self.dataset.n_items
        generator = np.random.default_rng(0)
        tables = {
            name: FeatureTable(
                values=generator.normal(size=(n_items, WIDTH)).astype(np.float32),
                present=np.ones(n_items, dtype=bool),
                key="0" * 16,
                meta={},
            )
            for name in names
        }
        return tables, np.arange(n_items) >= without_image

    patch.setattr(Workspace, "features", drawn)
