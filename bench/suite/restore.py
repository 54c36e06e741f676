"""``python -m bench restore``: a store from a gallery's published results, to which own runs can be added."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from bench.frames.beyond_accuracy import EXPERIMENT as LIST_SIMILARITY
from bench.frames.selection import ACCURACY
from bench.harness.settings import Settings
from bench.harness.workspace import Workspace
from bench.protocol.evaluation import rank_table
from bench.store.cell import Record
from bench.store.published import CELLS, MANIFEST, RANKS, users_digest
from bench.store.store import Store
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.errors import DamagedError, InputError
from illmrec.parquet_files import check_growth


def main(settings: Settings, *, gallery: Path) -> int:
    """Put the results that a gallery publishes into a store, as if they had been computed there.

    With the gallery's data and options at hand, one's own method can then be compared with its methods, user by user,
    without running them again: run bench.comparison with the same options and --out. What was timed and
    the recommended lists are not published, so that they are not restored. Results that the store has stay.

    Args:
        settings: The gallery's data (--dataset, and what changes them), and --out for the store. Its manifest.json
            names the commands.
        gallery: The gallery's folder.
    """
    workspace = Workspace(settings.resolved())
    kept = restore(gallery, dataset=workspace.dataset, split=workspace.split, store=Store(settings.out))
    counted = ", ".join(f"{name} {count}" for name, count in sorted(kept.methods.items()))
    print(
        f"{sum(kept.methods.values())} runs of {len(kept.methods)} methods are in {settings.out}: {counted}"
    )
    if kept.elsewhere:
        print(f"{kept.elsewhere} results on other data were left out")
    return 0


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What came of a gallery.

    Attributes:
        methods: Runs of each method that are in the store now.
        elsewhere: Results on other data, which were left out.
    """

    methods: Counter[str]
    elsewhere: int


def restore(gallery: Path, *, dataset: Dataset, split: Split, store: Store) -> Kept:
    """Write a gallery's results on a data set into a store.

    Args:
        gallery: Its folder.
        dataset: The data set.
        split: Its split.
        store: Where results go; those that are there stay.

    Raises:
        InputError: If the gallery has no results, or its data or users are others.
        DamagedError: If its files are not those that were written, or do not fit together.
    """
    try:
        return _restored(gallery, dataset, split, store)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise DamagedError(
            f"{gallery}: its files do not fit together ({reason}); fetch the gallery again"
        ) from error


def _restored(gallery: Path, dataset: Dataset, split: Split, store: Store) -> Kept:
    facts = _facts(gallery)
    records = _records(gallery, facts, store)
    own = [record for record in records if record.config["dataset"].get("fingerprint") == dataset.fingerprint]
    if not own:
        raise InputError(
            f"{gallery}: its results are on other data than {dataset.name} ({dataset.fingerprint}); {MANIFEST} names "
            "the commands, whose options on data have to be given here as well"
        )
    users = split.users("test")
    digest = facts["users"].get(dataset.fingerprint)
    if digest != users_digest(str(dataset.user_ids[user]) for user in users):
        raise InputError(
            f"{gallery}: its users are not the {len(users)} that are tested here; give --split and --test-targets as "
            f"{MANIFEST} has them (results on some of the users alone cannot be restored)"
        )
    ranks = dict(list(_table(gallery, RANKS, facts["sha256"]).groupby("cell", sort=False)))
    methods: Counter[str] = Counter()
    for record in own:
        there = record.folder.is_dir()
        if record.experiment != ACCURACY:
            if not there:
                store.keep(record, {})
            continue
        methods[record.method] += 1
        if not there:
            store.keep(record, {"ranks": _ranks(ranks[record.key], dataset, split, users)})
    return Kept(methods=methods, elsewhere=len(records) - len(own))


def _ranks(published: pd.DataFrame, dataset: Dataset, split: Split, users: np.ndarray) -> pd.DataFrame:
    """Return the ranks of a cell as they were stored, from those of numbered users."""
    order = [name for name in ("user", "target") if name in published and published[name].notna().all()]
    published = published.sort_values(order, ignore_index=True)
    tested = users[np.unique(published["user"].to_numpy())]
    sampled, full = (published[f"rank_{kind}"].to_numpy(dtype=np.int32) for kind in ("sampled", "full"))
    return rank_table(dataset, split, tested, sampled=sampled, full=full)


def _facts(gallery: Path) -> dict[str, Any]:
    path = gallery / MANIFEST
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")).get("ranks", {})
        if {"cells", "users", "sha256"} <= facts.keys():
            return facts
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; give --gallery a gallery's folder") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: not a gallery's manifest ({error}); fetch the gallery again") from error
    raise InputError(f"{gallery}: made before galleries had results that can be restored")


def _records(gallery: Path, facts: dict[str, Any], store: Store) -> list[Record]:
    cells = _table(gallery, CELLS, facts["cells"]["sha256"])
    found = []
    for key, text in zip(cells["key"], cells["cell"], strict=True):
        try:
            experiment = json.loads(text)["experiment"]
            if experiment not in (ACCURACY, LIST_SIMILARITY):  # it becomes a folder
                raise ValueError(f"experiment {str(experiment)[:40]!r}")
            found.append(Record.from_json(text, store.cells / experiment / key))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"{gallery}: result {key} cannot be read ({error}); fetch it again") from error
    return found


def _table(gallery: Path, name: str, digest: str) -> pd.DataFrame:
    """Return a published table, whose checksum the manifest knows."""
    path = gallery / name
    try:
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise DamagedError(f"{path}: not the file that {MANIFEST} names; fetch the gallery again")
        with parquet.ParquetFile(path) as file:
            check_growth(file, path)
            return file.read().to_pandas()
    except (OSError, pyarrow.ArrowException) as error:
        raise DamagedError(f"{path}: cannot be read ({error}); fetch the gallery again") from error
