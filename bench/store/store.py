"""The store: results of cells as JSON and parquet, each written whole or not at all; no torch here.

Layout under the output folder::

    store/cells/<experiment>/<key>/cell.json   and *.parquet beside it, with their checksums.json
    store/artifacts/<kind>/<key>/              trained parameters, written by whoever trains
    store/locks/                               claims: which process computes which cell
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet

from bench.store import provenance
from bench.store.cell import Cell, Record, content, plain_json
from illmrec import checksums
from illmrec.claims import Claim, FolderFiles
from illmrec.errors import DamagedError, InputError
from illmrec.files import atomic_write_text, hash_json
from illmrec.network_folders import look_anew, read_bytes
from illmrec.parquet_files import check_growth
from illmrec.temporary import discard, owned_path, remove_abandoned

_FRAME_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PROBE_BYTES = 1 << 20


class Store:
    """Results and artifacts under one output folder.

    Args:
        out: The output folder, e.g. ``reports/out``. Nothing is created before something is written.
    """

    def __init__(self, out: Path) -> None:
        self.out = Path(out)
        self.cells = self.out / "store" / "cells"
        self.artifacts = self.out / "store" / "artifacts"
        self.locks = self.out / "store" / "locks"

    def find(self, cell: Cell) -> Record | None:
        """Return the stored result of a cell, or None.

        Raises:
            InputError: If its file cannot be read; the message names it and the remedy.
        """
        folder = self._folder(cell)
        return _read_record(folder) if folder.is_dir() else None

    def write(
        self,
        cell: Cell,
        results: Mapping[str, Any],
        frames: Mapping[str, pd.DataFrame] | None = None,
        *,
        seconds: float,
    ) -> Record:
        """Store the result of a cell, replacing an earlier one, and return its record.

        Args:
            cell: What was computed.
            results: JSON values or numpy scalars.
            frames: Raw values by name; ``ranks`` becomes ``ranks.parquet``. Indexes are not kept.
            seconds: How long computing took.

        Raises:
            InputError: If the disk is full or the folder cannot be written; nothing half-written stays.
            TypeError, ValueError: If the results are not JSON, or hold NaN or infinity.
        """
        folder = self._folder(cell)
        record = Record(
            experiment=cell.experiment,
            version=cell.version,
            key=cell.key,
            config=dict(cell.config),
            dataset=dict(cell.dataset),
            method=cell.method,
            seed=cell.seed,
            results=plain_json(results),
            created=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
            seconds=round(seconds, 3),
            command=provenance.command(),
            versions={**provenance.versions(), **provenance.hub_commits(cell.config)},
            git_commit=provenance.git_commit(),
            machine={**provenance.machine(), **provenance.processes()},
            folder=folder,
        )
        self.keep(record, frames or {})
        return record

    def keep(self, record: Record, frames: Mapping[str, pd.DataFrame]) -> None:
        """Store a result that was computed before, here or elsewhere, in place of an earlier one.

        Args:
            record: The result; its folder is one of this store.
            frames: Raw values by name.

        Raises:
            InputError: If the disk is full or the folder cannot be written; nothing half-written stays.
        """
        with checksums.sealed_directory(record.folder) as temporary:
            for name, frame in frames.items():
                frame.to_parquet(temporary / _frame_file(name), index=False, compression="zstd")
            atomic_write_text(temporary / "cell.json", record.to_json())

    def has_frame(self, record: Record, name: str) -> bool:
        """Return whether raw values of this name lie beside a result."""
        return (record.folder / _frame_file(name)).is_file()

    def read_frame(self, record: Record, name: str) -> pd.DataFrame:
        """Return raw values that were stored beside a result.

        Raises:
            InputError: If the file is missing or cannot be read; the message names it and the remedy.
        """
        path = record.folder / _frame_file(name)
        _check(record.folder, path.name)
        try:
            # Half the time of pandas' own reader, which a report would spend on hundreds of small files.
            with parquet.ParquetFile(path) as file:
                check_growth(file, path)
                frame: pd.DataFrame = file.read(use_threads=False).to_pandas(use_threads=False)
            return frame
        except MemoryError:
            raise
        except Exception as error:  # of Arrow on damage, or of pandas on its own notes: which one they decide
            raise DamagedError(_damaged(path, record.folder, str(error) or type(error).__name__)) from error

    def records(self, experiment: str | None = None, *, version: int | None = None) -> list[Record]:
        """Return the stored results, ordered by experiment and key.

        Args:
            experiment: Only this experiment; None for all.
            version: Only results of this version of the experiment; None for all.

        Raises:
            InputError: If one cannot be read.
        """
        folders = self.cells.glob(f"{experiment or '*'}/*")
        found = [_read_record(folder) for folder in sorted(folders) if not folder.name.startswith(".")]
        return [record for record in found if version is None or record.version == version]

    def table(self, experiment: str, *, version: int | None = None) -> pd.DataFrame:
        """Return the results of an experiment with one row per cell, ordered by method and seed.

        Columns: key, version, method, seed, created, seconds, then ``dataset.*``, ``config.*`` and
        ``results.*`` with nested names joined by dots, such as ``results.sampled.ndcg@10``.
        """
        rows = [
            {
                "key": record.key,
                "version": record.version,
                "method": record.method,
                "seed": record.seed,
                "created": record.created,
                "seconds": record.seconds,
                "dataset": record.dataset,
                "config": record.config,
                "results": record.results,
            }
            for record in self.records(experiment, version=version)
        ]
        if not rows:
            return pd.DataFrame(columns=["key", "version", "method", "seed", "created", "seconds"])
        table = pd.json_normalize(rows, sep=".")
        return table.sort_values(["method", "seed", "key"], ignore_index=True)

    def artifact(self, kind: str, config: Mapping[str, Any]) -> Path:
        """Return the folder of an artifact, trained parameters say, by its configuration; it may not exist.

        Raises:
            ValueError: If the kind cannot be a folder name.
        """
        if not _FRAME_NAME.fullmatch(kind):
            raise ValueError(f"artifact kind '{kind}' must be lower-case letters, digits or '_'")
        return self.artifacts / kind / hash_json(content(plain_json(config)))

    def claim(self, cell: Cell) -> Claim:
        """Return the claim that a process holds while computing a cell (:mod:`illmrec.claims`)."""
        return Claim(FolderFiles(self.locks), f"{cell.experiment}-{cell.key}")

    def refresh(self, cell: Cell) -> Record | None:
        """Return the result of a cell that another machine has just written, or None where it is not seen here."""
        for folder in (self.cells, self.cells / cell.experiment):
            look_anew(folder)
        return self.find(cell)

    def read(self, experiment: str, key: str) -> Record:
        """Return the stored result of a cell by its key.

        Raises:
            InputError: If it is not there or cannot be read.
        """
        return _read_record(self.cells / experiment / key)

    def check_writable(self) -> None:
        """Make sure that results can be written, before any long work; remove what killed runs left.

        A probe of 1 MiB is written to each folder of the store, or to its nearest parent that exists, and
        removed, so that a store that cannot be written is left exactly as it was.

        Raises:
            InputError: If the disk is full or a folder cannot be written.
        """
        targets = (self.cells, self.artifacts, self.locks, self.out / "tables")
        for folder in sorted({_nearest_existing(target) for target in targets}):
            _probe(folder)
        self._remove_abandoned()

    def _folder(self, cell: Cell) -> Path:
        return self.cells / cell.experiment / cell.key

    def _remove_abandoned(self) -> None:
        """Remove what killed runs left wherever results, artifacts, claims and tables are written."""
        kinds = [folder for parent in (self.cells, self.artifacts) for folder in parent.glob("[!.]*")]
        remove_abandoned(*kinds, self.locks, self.out, *self.out.glob("[!.]*"), self.out / "store" / "tuned")


def _read_record(folder: Path) -> Record:
    path = folder / "cell.json"
    _check(folder, path.name)
    try:
        return Record.from_json(read_bytes(path).decode("utf-8"), folder)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(_damaged(path, folder, str(error))) from error


def _check(folder: Path, name: str) -> None:
    """Refuse a file of a cell that is not what was written, and a cell of which a file is missing."""
    found = checksums.first_fault(folder, name)
    if found is not None:
        raise DamagedError(_damaged(found[0], folder, found[1]))


def _damaged(path: Path, folder: Path, reason: str) -> str:
    said = " ".join(reason.split()) or "damaged"
    return f"cannot read {path} ({said}); delete the folder {folder} and run again to recompute this cell"


def _frame_file(name: str) -> str:
    if not _FRAME_NAME.fullmatch(name):
        raise ValueError(f"frame name '{name}' must be lower-case letters, digits or '_'")
    return f"{name}.parquet"


def _nearest_existing(path: Path) -> Path:
    absolute = path.absolute()
    return next(parent for parent in (absolute, *absolute.parents) if parent.exists())


def _probe(folder: Path) -> None:
    try:
        path = owned_path(folder)
        try:
            with path.open("xb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            discard(path)
    except OSError as error:
        raise InputError(
            f"cannot write results to {folder}: {error.strerror}; "
            "free some space or choose another folder with --out"
        ) from error
