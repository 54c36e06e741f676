"""A store whose results are shared by a URL of fsspec: s3://, gs://, memory://, file://; no torch here.

The unit is a whole cell, one object ``cells/EXPERIMENT/KEY.zip`` that is written in one step. Everything is read from
the output folder, in the same form as without a URL: a cell that is not there is fetched first, one that is computed is
given to the URL after it was written. Claims lie at the URL too, and are created by "put if absent"; file systems for
which fsspec looks first and writes then are refused. What is not shared: trained models and tables, which stay in the
output folder of each machine.
"""

from __future__ import annotations

import contextlib
import io
import re
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd

from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec.claims import Claim, ClaimFiles, FolderFiles
from illmrec.errors import InputError
from illmrec.files import atomic_directory
from illmrec.network_folders import look_anew, move
from illmrec.zips import UNPACK_ERRORS, check_member

_MEMBER = re.compile(r"cell\.json|checksums\.json|[a-z][a-z0-9_]*\.parquet")
_KEY = re.compile(r"[0-9a-f]{16}")
_MOST_BYTES = 1 << 30
"""Of a cell, unpacked; what claims more is refused before it is written."""
_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "az"}
"""Object stores: an object is there when it is whole, and is created by one writer alone."""
_LOCAL = {"file", "local"}
_OF_ONE_PROCESS = {"memory"}


def open_store(out: Path, url: str | None) -> Store:
    """Return the store of an output folder, shared by a URL where one is given.

    Raises:
        InputError: If the URL cannot be used.
    """
    return Store(out) if url is None else SharedStore(out, url)


class SharedStore(Store):
    """Results under one output folder that other machines share by a URL.

    Args:
        out: The output folder.
        url: Such as ``s3://bucket/folder``.

    Raises:
        InputError: If fsspec does not know the URL, what it needs for it is not installed, or two machines might create
            one claim there.
    """

    def __init__(self, out: Path, url: str) -> None:
        super().__init__(out)
        self.url = url
        with self._reaching():
            # Listings are asked for anew: other machines write.
            self._fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._root = root.rstrip("/")
        self._protocols = {self._fs.protocol} if isinstance(self._fs.protocol, str) else {*self._fs.protocol}
        if not self._protocols & (_WHOLE | _LOCAL | _OF_ONE_PROCESS):
            raise InputError(
                f"--store {url}: cells are computed once only where an object is created by one writer alone; "
                "give s3://, gs://, az:// or file://"
            )

    def find(self, cell: Cell) -> Record | None:
        """Return the result of a cell, fetched where it is not in the output folder; or None."""
        found = super().find(cell)
        if found is None:
            return super().find(cell) if self._fetch(cell.experiment, cell.key) else None
        with self._reaching():
            shared = self._fs.exists(self._object(cell.experiment, cell.key))
        if not shared:
            self._give(found)
        return found

    def refresh(self, cell: Cell) -> Record | None:
        """Return the result of a cell that another machine has just written."""
        if self._protocols & _LOCAL:
            look_anew(Path(self._object(cell.experiment, cell.key)).parent)
        return super().find(cell) if self._fetch(cell.experiment, cell.key) else None

    def read(self, experiment: str, key: str) -> Record:
        """Return the result of a cell by its key, fetched where it is not in the output folder."""
        if not (self.cells / experiment / key).is_dir():
            self._fetch(experiment, key)
        return super().read(experiment, key)

    def write(
        self,
        cell: Cell,
        results: Mapping[str, Any],
        frames: Mapping[str, pd.DataFrame] | None = None,
        *,
        seconds: float,
    ) -> Record:
        """Store the result of a cell in the output folder, and give it to the URL."""
        record = super().write(cell, results, frames, seconds=seconds)
        self._give(record)
        return record

    def records(self, experiment: str | None = None, *, version: int | None = None) -> list[Record]:
        """Return the results in output folder and URL, ordered by experiment and key."""
        with self._reaching():
            pattern = f"{self._root}/cells/{experiment or '*'}/*.zip"
            objects = [str(path) for path in self._fs.glob(pattern)]
        for path in objects:
            *_, of, name = path.split("/")
            key = name.removesuffix(".zip")
            if _KEY.fullmatch(key) and not (self.cells / of / key).is_dir():
                self._fetch(of, key)
        return super().records(experiment, version=version)

    def claim(self, cell: Cell) -> Claim:
        """Return the claim of a cell at the URL."""
        local = self._protocols & _LOCAL
        files: ClaimFiles = FolderFiles(Path(self._root) / "claims") if local else _Objects(self)
        return Claim(files, f"{cell.experiment}-{cell.key}")

    def check_writable(self) -> None:
        """Make sure that results can be written, here and at the URL."""
        super().check_writable()
        probe = f"{self._root}/.probe-{uuid.uuid4().hex}"
        with self._reaching():
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(probe, b"probe")
            self._fs.rm_file(probe)

    def _object(self, experiment: str, key: str) -> str:
        return f"{self._root}/cells/{experiment}/{key}.zip"

    def _give(self, record: Record) -> None:
        """Write a cell's files as one object, whole or not at all."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(record.folder.iterdir()):
                archive.write(path, path.name)
        self._put(self._object(record.experiment, record.key), packed.getvalue())

    def _put(self, path: str, content: bytes) -> None:
        with self._reaching():
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            if _WHOLE & self._protocols:
                self._fs.pipe_file(path, content)
                return
            temporary = f"{path}.{uuid.uuid4().hex}.tmp"
            self._fs.pipe_file(temporary, content)
            if self._protocols & _LOCAL:
                move(Path(temporary), Path(path))
            else:
                self._fs.mv(temporary, path)

    def _get(self, path: str) -> bytes | None:
        with self._reaching():
            try:
                content: bytes = self._fs.cat_file(path)
            except FileNotFoundError:
                return None
            return content

    def _fetch(self, experiment: str, key: str) -> bool:
        """Write a cell of the URL to the output folder; tell whether it is there.

        Raises:
            InputError: If it is damaged, or the folder cannot be written.
        """
        path = self._object(experiment, key)
        content = self._get(path)
        if content is None:
            return False
        try:
            archive = zipfile.ZipFile(io.BytesIO(content))
            strange = [name for name in archive.namelist() if not _MEMBER.fullmatch(name)]
            if strange:
                raise zipfile.BadZipFile(f"not the files of a cell: {strange}")
            for info in archive.infolist():
                check_member(info)
            if sum(info.file_size for info in archive.infolist()) > _MOST_BYTES:
                raise zipfile.BadZipFile(f"more than {_MOST_BYTES:,} bytes")
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
        except UNPACK_ERRORS as error:
            raise InputError(
                f"cannot read {path} at {self.url} ({error}); delete it and run again to recompute this cell"
            ) from error
        with archive, atomic_directory(self.cells / experiment / key) as folder:
            archive.extractall(folder)
        return True

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Turn whatever a file system says of a URL that does not answer into one line."""
        try:
            yield
        except InputError:
            raise
        except ImportError as error:
            raise InputError(f"--store {self.url}: {error}") from error
        except Exception as error:  # each file system has errors of its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"--store {self.url}: cannot be used: {reason}") from error


class _Objects:
    """Claims at the URL of a store."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one, in one step; tell whether it was written."""
        path = self._path(name)
        with self._store._reaching():
            self._store._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                self._store._fs.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write an object over the one that is there."""
        try:
            self._store._put(self._path(name), content)
        except InputError as error:
            raise OSError(str(error)) from error

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, or None."""
        return self._store._get(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._store._root}/claims/{name}"
