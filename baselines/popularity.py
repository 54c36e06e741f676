"""The two floor lines: how often an item occurs in training, and chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.errors import InputError


class Popularity:
    """Scores an item by its number of interactions in the training part, whoever asks.

    Items of equal number are in an order drawn by seed. Ties count against the target (:mod:`illmrec.ranking`), and
    numbers of interactions tie where the scores of other methods never do: without an order among them this floor
    would stand lower than it is.
    """

    def __init__(self) -> None:
        self._places: np.ndarray | None = None

    def fit(
        self, dataset: Dataset, split: Split, *, seed: int = 0, negatives: np.ndarray | None = None
    ) -> None:
        """Count the training interactions of each item; ``negatives`` are not needed."""
        counts = np.bincount(split.train_items(), minlength=dataset.n_items)
        drawn = np.random.default_rng([seed, dataset.n_items]).random(dataset.n_items)
        self._places = np.empty(dataset.n_items, dtype=np.float32)
        self._places[np.lexsort((drawn, counts))] = np.arange(dataset.n_items)

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items], the same read-only row for every history: the item's place from below.

        Float32 holds the places of 16 million items exactly.
        """
        if self._places is None:
            raise RuntimeError("fit or load the method first")
        return np.broadcast_to(self._places, (len(histories), len(self._places)))

    def save(self, directory: Path) -> None:
        """Write ``parameters.safetensors`` and ``config.json`` into an existing folder."""
        if self._places is None:
            raise RuntimeError("fit or load the method first")
        save_file({"places": self._places}, directory / "parameters.safetensors")
        (directory / "config.json").write_text(json.dumps({"method": "popularity"}), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Popularity:
        """Read what ``save`` wrote.

        Raises:
            InputError: If the folder does not hold it.
        """
        loaded = cls()
        try:
            loaded._places = load_file(directory / "parameters.safetensors")["places"]
        except (OSError, KeyError) as error:
            raise InputError(f"{directory}: holds no saved popularity ({error}); train it again") from error
        return loaded


class Random:
    """Scores by chance: a function of seed, history and item only, whatever else is in the batch."""

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed
        self._n_items = 0

    def fit(
        self, dataset: Dataset, split: Split, *, seed: int = 0, negatives: np.ndarray | None = None
    ) -> None:
        """Take the seed and the size of the catalogue; nothing is learnt."""
        self._seed, self._n_items = seed, dataset.n_items

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items], uniform in [0, 1)."""
        digests = b"".join(
            hashlib.blake2b(
                np.ascontiguousarray(history, dtype="<i8").tobytes(),
                digest_size=8,
                salt=self._seed.to_bytes(16, "little", signed=True),
            ).digest()
            for history in histories
        )
        keys = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
        items = np.arange(1, self._n_items + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = _splitmix(keys[:, None] + items)
        # The upper 24 bits are what a float32 in [0, 1) can hold exactly.
        return (mixed >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)

    def save(self, directory: Path) -> None:
        """Write ``config.json`` into an existing folder."""
        config = {"method": "random", "seed": self._seed, "n_items": self._n_items}
        (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Random:
        """Read what ``save`` wrote.

        Raises:
            InputError: If the folder does not hold it.
        """
        try:
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
            loaded = cls(seed=int(config["seed"]))
            loaded._n_items = int(config["n_items"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{directory}: holds no saved random method ({error}); train it again"
            ) from error
        return loaded


def _splitmix(state: np.ndarray) -> np.ndarray:
    """Mix uint64 states into uniform bits: the finaliser of the SplitMix64 generator (wraps by design)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
