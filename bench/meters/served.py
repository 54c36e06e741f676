"""The next recommendation after one more item, by a session and anew, timed in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bench.frames.serving import WAYS
from bench.meters.time_and_memory import BYTES_PER_MB, Timer
from illmrec.data.dataset import Dataset
from illmrec.model.illmrec import ILLMRec
from illmrec.retrieval import exact_top_k
from illmrec.serving import Sessions

K = 10
"""Items that are recommended."""


@dataclass(frozen=True, kw_only=True)
class Served:
    """Users who are recommended items after one more.

    Attributes:
        name: For progress.
        model: A model that reads as many items as the histories have.
        dataset: Its items.
        catalogue: Their projections.
        requests: The histories of each request, the last item the one that is added; all of a request at once.
    """

    name: str
    model: ILLMRec
    dataset: Dataset
    catalogue: torch.Tensor
    requests: Sequence[Sequence[np.ndarray]]

    def sessions(self, histories: Sequence[np.ndarray]) -> Sessions:
        """Return sessions that have encoded everything but the last item of each history."""
        pool = Sessions(model=self.model, dataset=self.dataset, catalogue=self.catalogue, max_bytes=None)
        for number, history in enumerate(histories):
            pool.open(str(number), self._ids(history[:-1]))
        pool.recommend(_names(histories), k=K)
        return pool

    def append(self, pool: Sessions, histories: Sequence[np.ndarray]) -> None:
        """Add the last item of each history and recommend."""
        pool.append({str(number): self._ids(history[-1:]) for number, history in enumerate(histories)})
        pool.recommend(_names(histories), k=K)

    @torch.inference_mode()
    def anew(self, histories: Sequence[np.ndarray]) -> None:
        """Recommend after whole histories, which the engine encodes anew."""
        users = self.model.project_users(self.model.encode(histories)).flatten(1)
        exact_top_k(users, self.catalogue, k=K, exclude=histories)

    def tokens(self, way: str) -> float:
        """Return the mean of tokens that go through the LLM for a user, those of the common prefix left out."""
        histories = [history for request in self.requests for history in request]
        prompts = self.model.prompts
        fitted = [prompts.fit(history) for history in histories]
        whole = self.model.token_counts(fitted, [np.array([len(each.items)]) for each in fitted])
        if way == "anew":
            return float(whole.mean() - len(prompts.task))
        pool = self.sessions(histories)
        self.append(pool, histories)
        encodings = [pool[name].encoding for name in _names(histories)]
        return float(np.mean([each.tokens for each in encodings if each is not None]))

    def score_difference(self) -> float:
        """Return the largest difference of a score by a session from the one anew, in standard deviations of scores."""
        histories = self.requests[0]
        pool = self.sessions(histories)
        self.append(pool, histories)
        expected = self.model.score(histories, catalogue=self.catalogue)
        return float(np.abs(pool.scores(_names(histories)) - expected).max() / expected.std())

    def kept_mb(self) -> float:
        """Return the keys and values that the sessions of the first request keep, in 10^6 bytes."""
        pool = self.sessions(self.requests[0])
        self.append(pool, self.requests[0])
        return pool.bytes / BYTES_PER_MB

    def _ids(self, rows: np.ndarray) -> list[str]:
        return [str(item_id) for item_id in self.dataset.items["item_id"].iloc[rows]]


def _names(histories: Sequence[np.ndarray]) -> list[str]:
    return [str(number) for number in range(len(histories))]


def time_served(
    served: Mapping[str, Served], *, repeats: int, device: str, progress: bool
) -> dict[str, pd.DataFrame]:
    """Time everything in turns: in each round every request of each entry both ways, in an order drawn anew.

    Args:
        served: What to time, by key.
        repeats: Rounds, after one that is not counted.
        device: Where the LLM runs.
        progress: Show a progress bar.

    Returns:
        By key, columns repeat, request, way and seconds.
    """
    runs = [
        (key, request, way)
        for key, each in served.items()
        for request in range(len(each.requests))
        for way in WAYS
    ]
    rows: dict[str, list[tuple[int, int, str, float]]] = {key: [] for key in served}
    generator = np.random.default_rng(0)
    for repeat in tqdm(range(repeats + 1), desc="rounds", unit="round", disable=not progress):
        for number in generator.permutation(len(runs)):
            key, request, way = runs[number]
            each, histories = served[key], served[key].requests[request]
            pool = each.sessions(histories) if way == "append" else None
            with Timer(device) as timer:
                if pool is None:
                    each.anew(histories)
                else:
                    each.append(pool, histories)
            if repeat:
                rows[key].append((repeat - 1, request, way, timer.seconds))
    columns = ["repeat", "request", "way", "seconds"]
    return {key: pd.DataFrame(found, columns=columns) for key, found in rows.items()}
