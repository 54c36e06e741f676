"""Where things are: the publisher's files, on disk or fetched; what steps keep; what is built."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from illmrec.data.fetching.files import check_file, fetch_file
from illmrec.data.fetching.transport import AddressRules
from illmrec.data.registry import Source, SourceFile
from illmrec.data.sources.lines import TextFile
from illmrec.errors import InputError
from illmrec.files import cache_dir, leads_out
from illmrec.zips import UNPACK_ERRORS


def built_folder(name: str) -> Path:
    """Return where a data set of the registry is built."""
    return cache_dir() / "data-sets" / "built" / name


def work_folder(name: str) -> Path:
    """Return where its steps keep what they have done."""
    return cache_dir() / "data-sets" / "work" / name


def raw_folder(source: Source) -> Path:
    """Return where its publisher's files are fetched to; data sets of one publisher share them."""
    return cache_dir() / "data-sets" / "raw" / source.family


def texts(
    source: Source,
    *,
    directory: Path | None = None,
    rules: AddressRules | None = None,
    progress: bool = False,
) -> dict[str, TextFile]:
    """Return the files with interactions and items.

    Args:
        source: The data set.
        directory: A folder that holds the publisher's files, packed or unpacked; nothing is fetched then. None fetches.
        rules: Which addresses may be connected to.
        progress: Show bars.

    Raises:
        InputError: If one is not there, cannot be fetched, or is not as the publisher says.
    """
    if directory is not None:
        if not directory.is_dir():
            raise InputError(f"--source {directory}: no such folder")
        return {role: _on_disk(source, role, directory) for role in ("interactions", "items")}
    return {role: _fetched(source, role, rules, progress) for role in ("interactions", "items")}


def pictures_place(
    source: Source,
    *,
    given: Path | None = None,
    directory: Path | None = None,
    rules: AddressRules | None = None,
    progress: bool = False,
) -> Path | None:
    """Return the folder or zip file with the publisher's pictures, or None where it has none of its own.

    Args:
        source: The data set.
        given: A folder or zip file of the user's.
        directory: As in :func:`texts`.
        rules: Which addresses may be connected to.
        progress: Show bars.

    Raises:
        InputError: If ``given`` is not there.
    """
    if given is not None:
        if not given.exists():
            raise InputError(f"--picture-folder {given}: no such folder or zip file")
        return given
    if source.pictures is None:
        return None
    file = source.files.get("pictures")
    for folder in filter(None, (directory, raw_folder(source))):
        for name in (source.pictures, f"{source.pictures}.zip", *([file.name] if file else [])):
            if (folder / name).exists():
                if leads_out(folder / name, folder):
                    raise InputError(
                        f"{folder / name}: leads out of {folder}; name its place with --picture-folder"
                    )
                return folder / name
    if file is not None and file.url is not None and directory is None:
        return fetch_file(file, raw_folder(source), rules=rules, progress=progress)
    return None


def _fetched(source: Source, role: str, rules: AddressRules | None, progress: bool) -> TextFile:
    file = source.files[role]
    archive = source.files.get("archive")
    if file.member is not None and archive is not None:
        return TextFile(
            path=fetch_file(archive, raw_folder(source), rules=rules, progress=progress), member=file.member
        )
    return TextFile(path=fetch_file(file, raw_folder(source), rules=rules, progress=progress))


def _on_disk(source: Source, role: str, directory: Path) -> TextFile:
    """Return a file of a folder: as it is named, unpacked, or in its archive."""
    file = source.files[role]
    names = list(_names(file))
    for name in names:
        if (directory / name).is_file():
            if name == file.name:
                _check(directory / name, file)
            return TextFile(path=directory / name)
    archive = source.files.get("archive")
    if archive is not None and file.member is not None and (directory / archive.name).is_file():
        _check(directory / archive.name, archive)
        return TextFile(path=directory / archive.name, member=file.member)
    for path in sorted(directory.glob("*.zip")):
        member = _member(path, names)
        if member is not None:
            return TextFile(path=path, member=member)
    also = f" or {archive.name}" if archive is not None else ""
    raise InputError(
        f"{directory}: has no {file.name}{also}, which {source.name} needs; {_how(source, file)}"
    )


def _names(file: SourceFile) -> Iterator[str]:
    yield file.name
    yield file.name.removesuffix(".gz")
    if file.member is not None:
        yield file.member


def _member(path: Path, names: list[str]) -> str | None:
    """Return the member of a zip file that has one of the names."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
    except UNPACK_ERRORS:
        return None
    return next((member for member in inside if Path(member).name in names), None)


def _check(path: Path, file: SourceFile) -> None:
    """Check a file on disk as far as that needs no network."""
    if file.checksum is None or not file.checksum.startswith("https://"):
        check_file(path, file)


def _how(source: Source, file: SourceFile) -> str:
    return file.how or (f"it is at {file.url}" if file.url else f"see {source.page}")
