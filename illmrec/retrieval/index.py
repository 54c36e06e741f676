"""Indexes over a catalogue of item vectors: exact, or FAISS for catalogues of a million items and more."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from illmrec import checksums
from illmrec.errors import InputError, nearest
from illmrec.files import loaded_npy, parsed_json
from illmrec.retrieval.exact import TopK, Vectors, check_vectors, exact_top_k, excluded_pairs

logger = logging.getLogger(__name__)

INDEX_KINDS = ("exact", "flat", "hnsw", "ivfpq")
"""``exact``: every item, in blocks, without FAISS. ``flat``: every item, by FAISS. ``hnsw``: a graph of neighbours,
whose recall levels off, since inner products leave some items with no links to them. ``ivfpq``: inverted
lists of compressed vectors, whose recall levels off where the codes are too coarse."""

_FORMAT = 1
_META, _VECTORS, _FAISS = "meta.json", "items.npy", "index.faiss"
_BLOCK = 16384
_PQ_MIN_ITEMS = 39 * 256  # FAISS wants 39 training vectors for each of the 256 centroids of a code
_TRAIN_PER_LIST = 64
_EFFORT = {"hnsw": 128, "ivfpq": 32}


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """How an approximate index is built; ``exact`` and ``flat`` read none of it.

    Attributes:
        links: hnsw: neighbours of an item in the graph (M); memory grows by about 8 bytes per link and item.
        build_effort: hnsw: candidates looked at while an item is linked (efConstruction).
        lists: ivfpq: inverted lists; "None" takes the power of two next to ``4 * sqrt(items)``.
        code_bytes: ivfpq: bytes of a compressed vector, a divisor of the width; "None" takes one byte for about
            four numbers.
        seed: ivfpq: seed of the training sample and of k-means.
    """

    links: int = 32
    build_effort: int = 80
    lists: int | None = None
    code_bytes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("links", "build_effort", "lists", "code_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value}: must be at least 1")


class ItemIndex(ABC):
    """Finds the items with the largest inner product.

    Attributes:
        kind: One of ``INDEX_KINDS``.
        n_items: Items in the catalogue.
        width: Length of a vector.
    """

    kind: str
    n_items: int
    width: int

    @abstractmethod
    def search(
        self,
        users: Vectors,
        *,
        k: int,
        exclude: Sequence[np.ndarray] | None = None,
        effort: int | None = None,
    ) -> TopK:
        """Return the k best items of each user.

        Args:
            users: Float [users, width].
            k: Items per user.
            exclude: For each user int [any], row numbers that must not be returned. FAISS cannot leave out items per
                user: as many more are fetched as the longest list of a block of users is long and dropped afterwards.
            effort: How thoroughly an approximate kind searches: candidates kept by ``hnsw`` (efSearch; at least
                as many as are fetched), lists visited by ``ivfpq`` (nprobe). ``None`` takes 128 and 32.
                ``exact`` and ``flat`` look at every item and take none.

        Returns:
            Scores are inner products, with ``ivfpq`` those of the compressed vectors. -1 where an approximate kind
            finds fewer than k.

        Raises:
            InputError: If shapes do not fit, k or effort is below 1, or ``exclude`` has an unknown row.
        """

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """Bytes of the index: vectors or codes, links and lists."""

    def save(self, directory: Path) -> None:
        """Write the index to a folder, whole or not at all; :func:`load_index` reads it.

        Raises:
            InputError: If the disk is full or the folder cannot be written.
        """
        described = {"format": _FORMAT, "kind": self.kind, "items": self.n_items, "width": self.width}
        with checksums.sealed_directory(directory) as temporary:
            self._write(temporary)
            (temporary / _META).write_text(json.dumps(described, indent=1) + "\n")

    @abstractmethod
    def _write(self, directory: Path) -> None:
        """Write everything but the description."""


class ExactIndex(ItemIndex):
    """The catalogue itself, in memory or mapped from a file; see :func:`exact_top_k`."""

    def __init__(self, items: Vectors) -> None:
        self.kind = "exact"
        self.items = items
        self.n_items, self.width = items.shape

    def search(
        self,
        users: Vectors,
        *,
        k: int,
        exclude: Sequence[np.ndarray] | None = None,
        effort: int | None = None,
    ) -> TopK:
        """See :meth:`ItemIndex.search`."""
        _check_effort(self.kind, effort)
        return exact_top_k(users, self.items, k=k, exclude=exclude)

    @property
    def memory_bytes(self) -> int:
        """Bytes of the vectors; of a mapped file the system keeps in memory what there is room for."""
        return int(self.items.nbytes)

    def _write(self, directory: Path) -> None:
        np.save(directory / _VECTORS, _float32_array(self.items))


class FaissIndex(ItemIndex):
    """An index of FAISS. It uses as many threads as torch does."""

    def __init__(self, index: Any, *, kind: str) -> None:
        self.kind = kind
        self.index = index
        self.n_items, self.width = int(index.ntotal), int(index.d)

    def search(
        self,
        users: Vectors,
        *,
        k: int,
        exclude: Sequence[np.ndarray] | None = None,
        effort: int | None = None,
    ) -> TopK:
        """See :meth:`ItemIndex.search`."""
        queries = _float32_array(users)
        check_vectors(queries, np.empty((0, self.width), dtype=np.float32))
        _check_effort(self.kind, effort)
        if k < 1:
            raise InputError(f"k {k}: must be at least 1")
        if not np.isfinite(queries).all():
            raise InputError("users: a vector is not finite; the model diverged or its features hold NaN")
        excluded_users, excluded_items = excluded_pairs(exclude, n_users=len(queries), n_items=self.n_items)
        lengths = np.bincount(excluded_users, minlength=len(queries))
        found = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        faiss = import_faiss(self.kind)
        for first in range(0, len(queries), _BLOCK):
            part = slice(first, first + _BLOCK)
            fetch = min(self.n_items, k + int(lengths[part].max(initial=0)))
            values, rows = self.index.search(
                queries[part], fetch, params=self._parameters(faiss, effort=effort, fetch=fetch)
            )
            low, high = np.searchsorted(excluded_users, [first, first + len(rows)])
            pairs = (excluded_users[low:high] - first) * self.n_items + excluded_items[low:high]
            dropped = (rows < 0) | np.isin(np.arange(len(rows))[:, None] * self.n_items + rows, pairs)
            values[dropped], rows[dropped] = -np.inf, -1
            order = np.lexsort((rows, -values), axis=1)[:, :k]
            found[part, : order.shape[1]] = np.take_along_axis(rows, order, axis=1)
            scores[part, : order.shape[1]] = np.take_along_axis(values, order, axis=1)
        return TopK(items=found, scores=scores)

    def _parameters(self, faiss: Any, *, effort: int | None, fetch: int) -> Any:
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(effort or _EFFORT["hnsw"], fetch))
        if self.kind == "ivfpq":
            return faiss.SearchParametersIVF(nprobe=min(effort or _EFFORT["ivfpq"], self.index.nlist))
        return None

    @property
    def memory_bytes(self) -> int:
        """Bytes of the index as it is written; in memory it takes about as much."""
        faiss = import_faiss(self.kind)
        sizes: list[int] = []
        faiss.write_index(self.index, faiss.PyCallbackIOWriter(lambda chunk: sizes.append(len(chunk))))
        return sum(sizes)

    def _write(self, directory: Path) -> None:
        import_faiss(self.kind).write_index(self.index, str(directory / _FAISS))


def build_index(
    items: Vectors, *, kind: str = "exact", options: IndexOptions | None = None, progress: bool = False
) -> ItemIndex:
    """Build an index over a catalogue.

    FAISS reads the catalogue in blocks. ``flat`` and ``hnsw`` keep every vector (``4 * items * width`` bytes, and about
    ``8 * links`` bytes per item for the graph); ``ivfpq`` keeps ``code_bytes + 8`` bytes per item and, while it
    trains, 64 vectors per list.

    Args:
        items: Float [items, width]; may be memory-mapped. ``exact`` keeps a reference, not a copy.
        kind: One of ``INDEX_KINDS``.
        options: Of the approximate kinds.
        progress: Show a progress bar while items are added.

    Raises:
        InputError: If the kind is unknown, FAISS is needed and not installed, there is no item, a vector is not
            finite, or the items are too few or too narrow for ``ivfpq``.
    """
    if kind not in INDEX_KINDS:
        raise InputError(f"unknown index kind '{kind}'; {nearest(kind, INDEX_KINDS)}")
    if items.ndim != 2 or 0 in items.shape:
        raise InputError(f"items: shape {list(items.shape)}; give one vector per row and at least one item")
    if kind == "exact":
        return ExactIndex(items)
    options = options or IndexOptions()
    faiss = import_faiss(kind)
    n_items, width = items.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(width)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, options.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = options.build_effort
    else:
        index = _trained_ivfpq(faiss, items, options)
    starts = range(0, n_items, _BLOCK)
    for start in tqdm(starts, desc=f"index {kind}", unit="block", disable=not progress):
        index.add(_finite_block(items, slice(start, start + _BLOCK), first=start))
    return FaissIndex(index, kind=kind)


def load_index(directory: Path) -> ItemIndex:
    """Read an index that :meth:`ItemIndex.save` wrote; an exact one stays in its file until it is read.

    Raises:
        InputError: If the folder holds no whole index, or FAISS is needed and not installed.
    """
    checksums.check(directory, remedy="build and save the index again")
    try:
        described = parsed_json((directory / _META).read_text())
        kind, shape = described["kind"], (described["items"], described["width"])
        if described["format"] != _FORMAT or kind not in INDEX_KINDS:
            raise ValueError(f"format {described['format']}, kind {kind}")
        index: ItemIndex
        if kind == "exact":
            vectors = loaded_npy(directory / _VECTORS, mode="r")
            if vectors.dtype.kind != "f" or vectors.ndim != 2:
                raise ValueError(f"vectors of type {vectors.dtype} and {vectors.ndim} dimensions")
            index = ExactIndex(vectors)
        else:
            index = FaissIndex(import_faiss(kind).read_index(str(directory / _FAISS)), kind=kind)
        if (index.n_items, index.width) != shape:
            raise ValueError(f"{index.n_items} items of width {index.width}, expected {shape}")
    except InputError:
        raise
    except (*checksums.ARRAY_ERRORS, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{directory}: holds no whole index ({reason}); build and save it again") from error
    return index


def import_faiss(kind: str) -> Any:
    """Return the module ``faiss``, set to as many threads as torch uses.

    Both bring an OpenMP of their own, whose defaults are separate: one thread of torch and all of FAISS, say, where
    a program asked torch for one.

    Raises:
        InputError: If it cannot be imported.
    """
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            f"index kind '{kind}' needs FAISS ({error}): pip install \"illmrec[faiss]\", or take kind 'exact'"
        ) from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    return faiss


def _trained_ivfpq(faiss: Any, items: Vectors, options: IndexOptions) -> Any:
    n_items, width = items.shape
    if n_items < _PQ_MIN_ITEMS:
        raise InputError(
            f"index kind 'ivfpq': {n_items} items, and its codes need {_PQ_MIN_ITEMS} to be trained; take 'exact'"
        )
    lists = options.lists or min(2 ** round(np.log2(4 * n_items**0.5)), n_items // 39)
    code_bytes = options.code_bytes or max(n for n in range(1, max(2, width // 4 + 1)) if width % n == 0)
    if width % code_bytes or lists > n_items // 39:
        raise InputError(
            f"index kind 'ivfpq': code_bytes {code_bytes} must divide the width {width}, and lists {lists} be at most "
            f"{n_items // 39} for {n_items} items"
        )
    logger.info("training ivfpq: %d lists, %d bytes per item", lists, code_bytes)
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(width), width, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = index.pq.cp.seed = options.seed
    size = min(n_items, max(_TRAIN_PER_LIST * lists, 2 * _PQ_MIN_ITEMS))
    sample = np.sort(np.random.default_rng(options.seed).choice(n_items, size, replace=False))
    index.train(_finite_block(items, sample, first=0))
    return index


def _finite_block(items: Vectors, rows: slice | np.ndarray, *, first: int) -> np.ndarray:
    block = _float32_array(items[rows])
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        at = int(np.flatnonzero(~finite)[0])
        row = rows[at] if isinstance(rows, np.ndarray) else first + at
        raise InputError(f"items: row {row} is not finite; the model diverged or its features hold NaN")
    return block


def _float32_array(vectors: Vectors) -> np.ndarray:
    array = vectors.detach().float().cpu().numpy() if isinstance(vectors, Tensor) else vectors
    return np.ascontiguousarray(array, dtype=np.float32)


def _check_effort(kind: str, effort: int | None) -> None:
    if effort is None:
        return
    if kind not in _EFFORT:
        raise InputError(f"effort {effort}: index kind '{kind}' looks at every item; leave effort out")
    if effort < 1:
        raise InputError(f"effort {effort}: must be at least 1")
