"""What a gallery calls its files, and how others tell whether they have its users; no torch here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

MANIFEST, RANKS, CELLS = "manifest.json", "ranks.parquet", "cells.parquet"
INTERVALS = "student"
"""What a manifest says of intervals as wide as Student's t has them; galleries made before say nothing."""


def users_digest(users: Iterable[str]) -> str:
    """Return a digest of users' ids in their order, which does not tell the ids."""
    return hashlib.sha256("\n".join(users).encode()).hexdigest()
