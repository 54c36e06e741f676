"""Where an encoder comes from: a package, a local folder or the model hub; and which version that is."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.metadata
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from illmrec.errors import InputError, nearest
from illmrec.features import commits, hub
from illmrec.features.model_files import first_line
from illmrec.files import hash_json, is_folder

_PREFIXES = re.compile(r"\A(?:(?:folder|random|mllm):)+")
_SMALL_FILE = 1 << 20
_SAMPLES, _SAMPLE_BYTES = 256, 4096


def check_name(name: str, *, embedded: Collection[str], kind: str) -> None:
    """Check that a name can be an embedded encoder, a local folder or a hub id, before anything is loaded.

    Args:
        name: What the user wrote.
        embedded: Names of the embedded encoders of this kind.
        kind: "vision" or "text", for the message.

    Raises:
        InputError: If it is none of them; with the nearest valid name.
    """
    if name in embedded or local_folder(name) is not None:
        return
    refuse_missing_folder(name, subject=f"{kind} encoder {name}")
    if commits.split_name(name)[0].count("/") != 1:
        raise InputError(
            f"unknown {kind} encoder {name!r}: {nearest(name, embedded)}, a hub id (OWNER/MODEL or "
            "OWNER/MODEL@REVISION) or a folder"
        )


def refuse_missing_folder(name: str, *, subject: str) -> None:
    """Refuse a name that can only be meant for a folder, where there is nothing of that name, before a hub is asked.

    It is absolute, begins with ``.`` or ``~``, holds a backslash or several slashes, or what stands before its slash
    is a folder here. With a revision after ``@`` the last is the hub's all the same.

    Args:
        name: What the user wrote.
        subject: The beginning of the message.

    Raises:
        InputError: If it is such a name.
    """
    path = Path(name).expanduser()
    if os.path.exists(path):  # a file is told by who reads the folder
        return
    owner, slash, _ = name.partition("/")
    a_path = name.startswith((".", "~")) or path.is_absolute() or "\\" in name
    if a_path or name.partition("@")[0].count("/") > 1:
        raise InputError(
            f"{subject}: there is no such folder{_alike(path)}; give one that holds a model, or a hub id (OWNER/NAME)"
        )
    if slash and "@" not in name and is_folder(owner):
        raise InputError(
            f"{subject}: there is no such folder{_alike(path)}; if the hub's model of that name is meant, "
            f"write {name}@main"
        )


def _alike(path: Path) -> str:
    """Return a hint on the folder beside a missing one whose name is nearest, or ""."""
    try:
        beside = [entry.name for entry in path.parent.iterdir() if is_folder(entry)]
    except (OSError, ValueError):  # there is no folder to look into
        return ""
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f", did you mean '{path.parent / close[0]}'?" if close else ""


def local_folder(name: str) -> Path | None:
    """Return the folder that a name stands for, or None if it is not one."""
    folder = Path(name).expanduser()
    return folder if is_folder(folder) else None


def with_folder(name: str, spelled: Callable[[Path], str]) -> str:
    """Return a name of data or of a model with its folder spelled otherwise; what names no folder stays as it is.

    Args:
        name: As the user wrote it, with ``folder:``, ``random:`` or ``mllm:`` before it, or without.
        spelled: Is given the folder's whole path.
    """
    bare = _PREFIXES.sub("", name)
    folder = local_folder(bare)
    return name if folder is None else name.removesuffix(bare) + spelled(folder.resolve())


def without_revision(name: str) -> str:
    """Return a name, that of a hub model without its revision: beside its version the revision says nothing."""
    return name if local_folder(name) is not None else commits.split_name(name)[0]


def stored_version(name: str) -> str | None:
    """Return the version of a local model or of the hub snapshot on disk; None if it must be fetched first.

    A hub model is its commit. A local folder is the content of its small files (configurations, tokenizer) and
    name, size, beginning and a sample of the large ones: reading gigabytes of weights to find a cached table would
    take longer than the smaller tables take to compute. A copy of the folder has the same version.
    """
    folder = local_folder(name)
    if folder is not None:
        return _folder_version(folder)
    try:
        snapshot = hub.fetched(name)
    except ValueError as error:  # not the form of a hub id
        raise load_error(name, error) from error
    if snapshot is None:
        return None
    commits.note(name, snapshot.name)
    return snapshot.name


def model_folder(name: str) -> Path:
    """Return the folder of a local model, or of a hub model after fetching what is missing of it.

    Raises:
        InputError: If the hub cannot be reached, has no such model or no weights for a part of it.
    """
    folder = local_folder(name)
    if folder is not None:
        return folder
    refuse_missing_folder(name, subject=f"encoder {name}")
    try:
        folder = hub.fetch(name)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"encoder {name!r} could not be loaded from the model hub ({first_line(error)}); check the id"
            " and the connection, or give the path of a local folder that holds the model"
        ) from error
    commits.note(name, folder.name)
    return folder


def package_version(encoder: str, packages: Sequence[str]) -> str:
    """Return the versions of the packages that an embedded encoder is made of.

    Raises:
        InputError: If one is not installed; names the extra that has it.
    """
    try:
        return " ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"encoder {encoder} needs the package {error.name}: pip install 'illmrec[embedded]'"
        ) from error


def encoder_version(encoder: str, embedded: Mapping[str, Sequence[str]]) -> str | None:
    """Return the version of an encoder, None if it must be fetched first.

    Args:
        encoder: Its name.
        embedded: The packages of each embedded encoder.

    Raises:
        InputError: If a package of an embedded encoder is not installed.
    """
    return package_version(encoder, embedded[encoder]) if encoder in embedded else stored_version(encoder)


def load_error(name: str, error: BaseException) -> InputError:
    """Return the one-line error for files that are there but do not make a model."""
    return InputError(f"encoder {name} could not be loaded: {first_line(error)}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the model libraries' progress bars and remarks on loading out of the output."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    remarks = logging.getLogger("sentence_transformers")
    level = remarks.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    remarks.setLevel(logging.ERROR)
    hub.log_once()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        remarks.setLevel(level)


def _folder_version(folder: Path) -> str:
    described: list[list[str | int]] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        size = path.stat().st_size
        content = path.read_bytes() if size < _SMALL_FILE else _sampled(path, size)
        described.append([name.as_posix(), size, hashlib.sha256(content).hexdigest()])
    return hash_json(described)


def _sampled(path: Path, size: int) -> bytes:
    """Return the beginning of a large file (of safetensors, names and shapes) and pieces from all over it."""
    with path.open("rb") as file:
        parts = [file.read(_SMALL_FILE // 4)]
        for number in range(_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
            parts.append(file.read(_SAMPLE_BYTES))
    return b"".join(parts)
