"""What tells two versions of the project apart, on the caller's side and on a worker's. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
from functools import cache
from pathlib import Path

import illmrec

PACKAGES = ("illmrec", "baselines", "bench")
"""What workers run of the project."""


@cache
def project_stamp() -> str:
    """Return the project's version with 12 hexadecimal digits over its source, and Python's version."""
    content = hashlib.sha256()
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise RuntimeError(f"{package} is no installed package")
        root = Path(next(iter(found.submodule_search_locations)))
        for path in sorted(root.rglob("*.py")):
            content.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
            content.update(path.read_bytes())
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{illmrec.__version__}+{content.hexdigest()[:12]} on Python {python}"
