"""What is fetched of an encoder on the model hub: descriptions first, then the weights of each of its parts."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from illmrec.errors import InputError
from illmrec.features import model_files
from illmrec.features.commits import split_name

_DESCRIPTIONS = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.tiktoken")
# Copies of the same model for other programs.
_OTHER_PROGRAMS = ("onnx/*", "openvino/*", "*/onnx/*", "*/openvino/*")
_WITHOUT_WEIGHTS = ("Pooling", "Normalize", "Dropout", "BoW", "WordWeights")
_OWN = "sentence_transformers."


def fetched(name: str) -> Path | None:
    """Return the folder of a hub model whose descriptions are on disk, None if there is none.

    Args:
        name: ``OWNER/MODEL``, or ``OWNER/MODEL@REVISION``.

    Raises:
        ValueError: If it is not the form of a hub id.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _snapshot(name, _DESCRIPTIONS, local_files_only=True)
    except LocalEntryNotFoundError:
        return None


def fetch(name: str) -> Path:
    """Return the folder of a hub model after fetching what is missing of it.

    Weights come as safetensors, and in PyTorch's format only for a part that has no safetensors.

    Args:
        name: ``OWNER/MODEL``, or ``OWNER/MODEL@REVISION``.

    Raises:
        InputError: If a part of it has no weights.
        OSError: If the hub cannot be reached or has no such model.
        ValueError: If it is not the form of a hub id.
    """
    folder = _snapshot(name, _DESCRIPTIONS)
    # Whatever is fetched later is of the same commit.
    same = {"revision": folder.name} if re.fullmatch("[0-9a-f]{40}", folder.name) else {}
    parts = weighted_parts(folder, subject=f"encoder {name}")
    safe = [pattern for part in parts for pattern in _patterns(part, "model", "safetensors")]
    folder = _snapshot(name, [*_DESCRIPTIONS, *safe], **same)
    lacking = [part for part in parts if not model_files.holds_weights(folder / part)]
    if lacking:
        pickled = [pattern for part in lacking for pattern in _patterns(part, "pytorch_model", "bin")]
        folder = _snapshot(name, [*_DESCRIPTIONS, *pickled], **same)
    for part in lacking:
        if not model_files.holds_weights(folder / part):
            where = f"its part {part}" if part else "it"
            raise InputError(f"encoder {name!r}: the model hub holds no weights for {where}; choose another")
    return folder


def log_once() -> None:
    """Leave what the hub's client logs, such as that it tries again, to this process's log; it writes it as well."""
    import huggingface_hub.utils.logging  # gives its logger the handler

    logging.getLogger(huggingface_hub.__name__).handlers.clear()


def weighted_parts(folder: Path, *, subject: str) -> list[str]:
    """Return the subfolders, "" for the folder itself, that hold weights of a model.

    Args:
        folder: A model of sentence-transformers (with ``modules.json``) or of transformers.
        subject: The beginning of the message.

    Raises:
        InputError: If ``modules.json`` is not what sentence-transformers writes, or names code of its own.
    """
    path = folder / "modules.json"
    if not path.exists():
        return [""]
    modules = model_files.read_json(path, subject=subject)
    try:
        if not isinstance(modules, list):
            raise TypeError(type(modules))
        kinds = {str(module["path"]): str(module["type"]) for module in modules}
        for part in list(kinds):
            # A router has modules of its own, each in a subfolder.
            routed = folder / part / "router_config.json"
            if routed.exists():
                del kinds[part]
                types = model_files.read_json(routed, subject=subject)["types"]
                kinds |= {f"{part}/{inner}".lstrip("/"): str(kind) for inner, kind in types.items()}
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{subject}: modules.json is no list of modules; fetch it again") from error
    foreign = [kind for kind in kinds.values() if not kind.startswith(_OWN)]
    if foreign:
        raise InputError(
            f"{subject}: its module {foreign[0]} is code of its own, which is never run; give a model of "
            "sentence-transformers' own modules"
        )
    return [part for part, kind in kinds.items() if kind.rpartition(".")[2] not in _WITHOUT_WEIGHTS]


def _patterns(part: str, stem: str, suffix: str) -> list[str]:
    """Return what matches the weights of a part, whole or in shards, and no variant of them."""
    prefix = f"{part}/" if part else ""
    return [f"{prefix}{stem}.{suffix}", f"{prefix}{stem}-*-of-*.{suffix}"]


def _snapshot(name: str, patterns: Sequence[str], **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    log_once()
    repository, revision = split_name(name)
    allowed = {"allow_patterns": list(patterns), "ignore_patterns": list(_OTHER_PROGRAMS)}
    return Path(snapshot_download(repository, **{"revision": revision, **allowed, **options}))
