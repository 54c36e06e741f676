"""Where trained models lie: by their key, or in a folder."""

from __future__ import annotations

import re
from pathlib import Path

from illmrec.errors import InputError
from illmrec.files import is_folder

MODELS = Path("store", "artifacts", "model")
"""Folder of trained models below the folder of results."""
OUT = Path("reports/out")
_KEY = re.compile(r"[0-9a-f]{16}")


def model_folder(model: str, *, out: Path = OUT) -> Path:
    """Return the folder of a trained model.

    Args:
        model: Its folder, or its key, the name of its folder in the store.
        out: Folder of results, which holds the store.

    Raises:
        InputError: If there is no such folder.
    """
    folder = Path(model).expanduser()
    if is_folder(folder):
        return folder
    if not _KEY.fullmatch(model):
        raise InputError(
            f"--model {model}: no such folder, and a key has 16 hexadecimal digits; {out / MODELS} holds "
            f"{_count(out)} models"
        )
    if not is_folder(out / MODELS / model):
        raise InputError(f"--model {model}: {out / MODELS} has no such model among its {_count(out)}")
    return out / MODELS / model


def _count(out: Path) -> int:
    folder = out / MODELS
    return sum(_KEY.fullmatch(path.name) is not None for path in folder.iterdir()) if folder.is_dir() else 0
