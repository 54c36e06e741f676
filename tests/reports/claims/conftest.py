"""Stores on data that nobody generated: what a generator decides is not judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reports.conftest import Filler


@pytest.fixture
def filler(tmp_path: Path) -> Filler:
    """An empty store under ``tmp_path / "out"``."""
    filler = Filler(tmp_path / "out", dataset="sport")
    filler.noise = 0.003  # so that 400 users decide among all candidates, too
    return filler
