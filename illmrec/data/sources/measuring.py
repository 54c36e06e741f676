"""How fast reviews are read here, and in how much memory: on a file in a publisher's layout, beside plain pandas."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from illmrec.data.registry import source_named

_BLOCK = 100_000
_TEXTS = 500
_WORDS = (
    "the a this it fits works well great price bought for my husband wife colour paint brush paper glue yarn needle "
    "quality easy to use would buy again not what i expected arrived late box was damaged but still good"
)


def write_reviews(path: Path, lines: int, *, seed: int = 0) -> None:
    """Write reviews in the layout of Amazon's of 2018, packed by gzip: about 8 a user and 40 an item, Zipf-like.

    Args:
        path: The file.
        lines: How many.
        seed: Of users, items, times and texts.
    """
    rng = np.random.default_rng(seed)
    words = _WORDS.split()
    texts = [" ".join(rng.choice(words, size=int(size))) for size in rng.integers(10, 120, size=_TEXTS)]
    n_users, n_items = max(lines // 8, 1), max(lines // 40, 1)
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for first in range(0, lines, _BLOCK):
            n = min(_BLOCK, lines - first)
            users = (n_users * rng.random(n) ** 1.5).astype(int).tolist()
            items = (n_items * rng.random(n) ** 2).astype(int).tolist()
            days = rng.integers(10_000, 17_800, size=n).tolist()
            chosen = rng.integers(0, _TEXTS, size=n).tolist()
            file.writelines(
                f'{{"overall": 5.0, "verified": true, "reviewTime": "09 13, 2009", "reviewerID": "A{user:013d}", '
                f'"asin": "B{item:09d}", "style": {{"Format:": " Hardcover"}}, "reviewerName": "J. McDonald", '
                f'"reviewText": "{texts[text]}", "summary": "Fine", "unixReviewTime": {86_400 * day}}}\n'
                for user, item, day, text in zip(users, items, days, chosen, strict=True)
            )


def read_here(path: Path, folder: Path, *, workers: int) -> dict[str, float]:
    """Read reviews as the steps do, to the 5-core in order, and return seconds, rows left and peak memory.

    Args:
        path: The file.
        folder: Where the step ``parse`` writes.
        workers: Threads that read.
    """
    from illmrec.data.sources.filtering import drop_repeats, load_interactions
    from illmrec.data.sources.lines import TextFile
    from illmrec.data.sources.parsing import parse
    from illmrec.data.sources.writing import ordered

    source = source_named("amazon18-art")
    start = time.perf_counter()
    done = parse(
        TextFile(path=path), source.interactions, role="interactions", folder=folder, workers=workers
    )
    parsed = time.perf_counter()
    found = load_interactions(done, source)
    drop_repeats(found, "keep")
    found.core(5)
    left = len(ordered(found))
    return {"parse": parsed - start, "filter": time.perf_counter() - parsed, "left": left, **_peak()}


def read_by_pandas(path: Path, folder: Path, *, workers: int) -> dict[str, float]:
    """Do the same as a plain pandas script does: ``read_json`` in chunks, then loops over ``value_counts``.

    Args:
        path: The file.
        folder: Not used.
        workers: Not used.
    """
    import pandas as pd

    columns = ["reviewerID", "asin", "unixReviewTime"]
    start = time.perf_counter()
    with pd.read_json(path, lines=True, chunksize=_BLOCK, compression="gzip") as chunks:
        rows = pd.concat([chunk[columns] for chunk in chunks], ignore_index=True)
    parsed = time.perf_counter()
    rows = rows.drop_duplicates()
    while True:
        users, items = rows["reviewerID"].value_counts(), rows["asin"].value_counts()
        inside = rows["reviewerID"].map(users).ge(5) & rows["asin"].map(items).ge(5)
        if inside.all():
            break
        rows = rows[inside]
    left = len(rows.sort_values(["reviewerID", "unixReviewTime"], kind="stable"))
    return {"parse": parsed - start, "filter": time.perf_counter() - parsed, "left": left, **_peak()}


def measured(lines: int, folder: Path, *, pandas: bool, workers: int) -> Iterator[dict[str, Any]]:
    """Make a file of so many lines, read it in a process of its own by each way in turn, and yield what that took.

    Args:
        lines: Lines of the file.
        folder: Where it, and what is read, goes; both are deleted.
        pandas: Measure the pandas script as well.
        workers: Threads that read.
    """
    path = folder / f"reviews-{lines}.json.gz"
    write_reviews(path, lines)
    size = path.stat().st_size
    for name, function in (("here", read_here), ("pandas", read_by_pandas)):
        if name == "pandas" and not pandas:
            continue
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            taken = process.submit(function, path, folder / name, workers=workers).result()
        yield {"way": name, "lines": lines, "file": size, **taken}
    path.unlink()


def _peak() -> dict[str, float]:
    """Return the most memory that this process has held, in GB, and the seconds of processors that it has had."""
    try:
        import resource
    except ImportError:  # not on Windows
        return {"peak": float("nan"), "cpu": time.process_time()}
    used = resource.getrusage(resource.RUSAGE_SELF)
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak": used.ru_maxrss * unit / 1e9, "cpu": used.ru_utime + used.ru_stime}


def machine() -> str:
    """Return cores and load of this machine, in words: times on a busy one say little."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores{load}"
