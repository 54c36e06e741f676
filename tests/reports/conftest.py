"""A store with plausible numbers in the layout that the experiments write, made without running them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.protocol import metrics
from bench.store.cell import Cell, Record
from bench.store.store import Store
from illmrec.files import hash_json
from reports.build import build_report

USERS = 400
LENGTHS = (2, 5, 10, 15, 20)
# Method: tokens an item, NDCG@10 among sampled candidates.
METHODS = {
    "illmrec": (17.2, 0.407),
    "illmrec+": (131.5, 0.401),
    "tallrec": (27.9, 0.333),
    "trsr": (56.4, 0.377),
    "full-description": (130.4, 0.383),
    "title": (14.6, 0.312),
}
FLOORS = {"sasrec": 0.351, "gru4rec": 0.241, "popularity": 0.168, "random": 0.046}
ROWS = {
    "a": (False, ("image",), 0.304),
    "b": (True, ("image",), 0.340),
    "c": (True, ("cf",), 0.326),
    "d": (True, ("image", "cf"), 0.363),
}
LLM = {"name": "smollm2-135m", "layers": 30}


class Filler:
    """Writes cells of one data set and LLM into a store.

    Attributes:
        noise: How much methods differ in which users they find hard.
    """

    noise = 0.05

    def __init__(
        self,
        out: Path,
        *,
        dataset: str = "toyshop",
        fingerprint: str = "5f1c0a9be27d4e83",
        llm: dict[str, Any] | None = None,
        command_options: str = "",
    ) -> None:
        self.store = Store(out)
        self.dataset = {"name": dataset, "fingerprint": fingerprint}
        self.llm = LLM if llm is None else llm
        self.statistics = {
            "dataset": dataset,
            "users": 2000,
            "items": 600,
            "interactions": 23480,
            "avg_length": 11.74,
            "images": 1.0,
            "descriptions": 0.987,
        }
        self.options = command_options
        self.random = np.random.default_rng(7)

    def write(
        self,
        experiment: str,
        config: dict[str, Any],
        results: dict[str, Any],
        frames: dict[str, pd.DataFrame] | None = None,
        *,
        version: int = 1,
    ) -> Record:
        """Store one cell; its command is the one a user would have typed."""
        config = {"dataset": self.dataset, "seed": 0, **config}
        cell = Cell(
            experiment=experiment,
            version=version,
            config=config,
            method=config["method"],
            seed=config["seed"],
            dataset=self.statistics,
        )
        record = self.store.write(cell, results, frames, seconds=12.5)
        # As of before there were checksums: tests change what is stored.
        (record.folder / "checksums.json").unlink()
        return record

    def efficiency(
        self,
        methods: Iterable[str] = tuple(METHODS),
        lengths: Sequence[int] = LENGTHS,
        *,
        llm: bool = True,
        device: str = "cpu",
        **changes: Any,
    ) -> None:
        """Store one timing per method and history length, with ``changes`` of the results."""
        for method in methods:
            tokens = METHODS.get(method, (40.0, 0.35))[0]
            for length in lengths:
                prompt = 38 + tokens * length
                median = 9.0 + 0.011 * prompt + 0.0000021 * prompt**2
                self.write(
                    "efficiency",
                    {
                        "method": method,
                        "representation": f"package.module:{method.title()}",
                        "history_length": length,
                        "users": [f"user-{length}-{number}" for number in range(3)],
                        **({"llm": self.llm, "context": None} if llm else {}),
                        "device": device,
                        "machine": {"cpu": "a CPU", "cores": 2},
                        "batch_users": 4,
                    },
                    {
                        "method": method,
                        "history_length": length,
                        "users": 64,
                        "tokens_per_item": tokens + self.random.normal(0, 0.2),
                        "prompt_tokens": prompt,
                        "latency_ms_median": median,
                        "batch_users": 2,
                        "repeats": 3,
                        "latency_ms_low": median * 0.95,
                        "latency_ms_high": median * 1.07,
                        "latency_ms_p95_users": median * self.random.uniform(1.04, 1.18),
                        "latency_ms_p95_repeats": median * 1.06,
                        "users_per_second": 1000 / median,
                        "weights_mb": 270.0,
                        "features_mb": 50.0,
                        "activations_mb": 300 + 0.1 * prompt,
                        "peak_memory_mb": 620 + 0.1 * prompt,
                        "session": "0a1b2c3d4e5f",
                        "model_gflops": 0.27 * prompt,
                        "utilisation": 0.41,
                        "peak_gflops": 310.0,
                        "dtype": "bfloat16",
                        **changes,
                    },
                    {"timings": timings(median)},
                )

    def accuracy(
        self,
        method: str,
        ndcg: float,
        *,
        seeds: Sequence[int] = (0, 1, 2),
        risa: bool | None = None,
        features: Sequence[str] = (),
        version: int = 1,
        training: dict[str, Any] | None = None,
        evaluation: dict[str, Any] | None = None,
        variant: dict[str, Any] | None = None,
    ) -> list[Record]:
        """Store one accuracy cell per seed, with ranks that have about this NDCG@10 among sampled candidates.

        Args:
            method: Name of the method.
            ndcg: NDCG@10 among sampled candidates; that over the catalogue is a third.
            seeds: Seeds.
            risa: Whether RISA was trained.
            features: Feature types; none for methods without an LLM.
            version: Version of the experiment.
            training: Training options.
            evaluation: Evaluation options besides the number of candidates.
            variant: What was changed of the data set.
        """
        config: dict[str, Any] = {"method": method, "evaluation": {"candidates": 100, **(evaluation or {})}}
        if variant:
            fingerprint = hash_json(variant)
            config["dataset"] = {**self.dataset, "fingerprint": fingerprint, "variant": variant}
        if features:
            config |= {
                "risa": risa,
                "features": list(features),
                "llm": self.llm,
                "history_length": 10,
                "context": None,
                "training": training or {"preset": "small", "epochs": 8, "risa": risa},
            }
        dropped = float((evaluation or {}).get("context", 4096) < 512)
        written = []
        for seed in seeds:
            ranks = self.ranks(ndcg, seed)
            results = {
                "users": len(ranks),
                "prompt": {"tokens": 240.0, "dropped_items": dropped, "dropped_tokens": 0.0},
                "sampled": metrics.summarise(ranks["rank_sampled"].to_numpy()),
                "full": metrics.summarise(ranks["rank_full"].to_numpy()),
            }
            written.append(
                self.write("accuracy", {**config, "seed": seed}, results, {"ranks": ranks}, version=version)
            )
        return written

    def ranks(self, ndcg: float, seed: int) -> pd.DataFrame:
        """Return ranks with about this NDCG@10; a user that is hard for one method is hard for the others."""
        hardness = np.random.default_rng(seed).uniform(size=USERS)
        place = np.clip(hardness + self.random.normal(0, self.noise, USERS), 0, 1)
        return pd.DataFrame(
            {
                "user_id": [f"user-{number}" for number in range(USERS)],
                "history_length": np.arange(USERS) % 17 + 3,
                "rank_sampled": rank_at(place, ndcg, 101),
                "rank_full": rank_at(place, ndcg / 3, 600),
            }
        )

    def popularity(self) -> Record:
        """Store how popular each user's test item is: every tenth is not in training, every second is cold."""
        numbers = np.arange(USERS)
        targets = pd.DataFrame(
            {
                "user_id": [f"user-{number}" for number in numbers],
                "target_frequency": np.where(numbers % 10 == 0, 0, 1 + numbers % 40),
                "item_group": np.where(numbers % 2 == 0, 1 + numbers % 4 // 2, 3 + numbers % 3),
            }
        )
        groups = pd.DataFrame(
            {"group": range(1, 6), "items": 120, "lowest": range(0, 50, 10), "highest": range(9, 59, 10)}
        )
        return self.write(
            "target_popularity",
            {"method": "popularity", "groups": 5},
            {"users": USERS},
            {"targets": targets, "groups": groups},
        )

    def date(self, created: str) -> None:
        """Say of all cells in the store that they were computed at this time."""
        for path in self.store.cells.rglob("cell.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps({**content, "created": created}), encoding="utf-8")

    def ablation(self, rows: Iterable[str] = "abcd", **options: Any) -> None:
        """Store rows of the ablation; row (e) is the overall method."""
        for row in rows:
            risa, features, ndcg = ROWS[row]
            self.accuracy("illmrec", ndcg, risa=risa, features=features, **options)

    def comparison(self, **options: Any) -> None:
        """Store the accuracy of every method."""
        for method, (_, ndcg) in METHODS.items():
            self.accuracy(method, ndcg, risa=True, features=("image", "cf", "text"), **options)
        for method, ndcg in FLOORS.items():
            self.accuracy(method, ndcg, seeds=(0,))


def rank_at(place: np.ndarray, ndcg: float, worst: int) -> np.ndarray:
    """Return ranks by place in [0, 1]: three fifths of the NDCG from rank 1, the rest from ranks 2 to 10."""
    first, later = 0.6 * ndcg, 0.6 * ndcg + 0.97 * ndcg
    near = 2 + 9 * (place - first) / (later - first)
    far = 11 + (worst - 11) * (place - later) / (1 - later)
    return np.where(place < first, 1, np.where(place < later, np.minimum(near, 10), far)).astype(np.int32)


def timings(median: float) -> pd.DataFrame:
    """Return three repeats over four users alone and over two batches of them, in seconds, for a median in ms."""
    repeats = {0: 0.97, 1: 1.0, 2: 1.06}
    spread = {0: 0.9, 1: 1.0, 2: 1.0, 3: 1.2}
    alone = [
        {"repeat": r, "kind": "alone", "number": user, "users": 1, "seconds": 1e-3 * median * factor * own}
        for r, factor in repeats.items()
        for user, own in spread.items()
    ]
    together = [
        {"repeat": r, "kind": "batch", "number": batch, "users": 2, "seconds": 1.5e-3 * median * factor}
        for r, factor in repeats.items()
        for batch in range(2)
    ]
    return pd.DataFrame(alone + together)


@pytest.fixture(scope="session", autouse=True)
def _typed_command() -> Iterator[None]:
    """Cells say that they come from this command, not from pytest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "bench.store.provenance.command",
            lambda: "python -m bench.efficiency --dataset toyshop --preset small",
        )
        yield


@pytest.fixture
def filler(tmp_path: Path) -> Filler:
    """An empty store under ``tmp_path / "out"``."""
    return Filler(tmp_path / "out")


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory, _typed_command: None) -> Filler:
    """A store with cells for every figure and table, and its report; for reading only."""
    filler = Filler(tmp_path_factory.mktemp("full") / "out")
    filler.efficiency()
    filler.comparison()
    filler.ablation()
    build_report(filler.store.out)
    return filler


@pytest.fixture
def another(tmp_path: Path, filler: Filler) -> Filler:
    """The same store, filled for a second data set whose name is hostile."""
    return Filler(
        tmp_path / "out",
        dataset='<script>alert("x")</script> $a_b$ 100% & ../../',
        fingerprint="00aa11bb22cc33dd",
    )
