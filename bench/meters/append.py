"""How long the next recommendation takes after one more item: read on from what is kept, and anew, in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bench.frames.serving import APPEND, WAYS
from bench.meters.time_and_memory import Timer
from illmrec.data.dataset import Dataset
from illmrec.model.illmrec import ILLMRec
from illmrec.retrieval import exact_top_k
from illmrec.sessions import Sessions

BYTES_PER_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Appends:
    """Users whose last item of history is appended to a session that has read the others.

    Attributes:
        name: How progress names them.
        model: A method's model.
        dataset: Its data.
        histories: Per user, int [2 or more] item row numbers, the most recent last.
        sessions: How many of the users are served at once, for throughput.
    """

    name: str
    model: ILLMRec
    dataset: Dataset
    histories: Sequence[np.ndarray]
    sessions: int


def time_appends(appends: Appends, *, repeats: int, seed: int = 0, progress: bool = True) -> pd.DataFrame:
    """Return one row for each timed run: ``repeat, kind, way, users, seconds, tokens, megabytes``.

    In every repeat each user is served alone once in each way, and ``sessions`` of them together, in an order that is
    drawn anew; a first repeat is not counted. Appending is timed without what was read before, both with the list of
    the ten best items at the end.

    Args:
        appends: The users.
        repeats: Times that all is run.
        seed: Of the order.
        progress: Show a progress bar over the runs.
    """
    catalogue = appends.model.catalogue()
    users = len(appends.histories)
    together = range(min(appends.sessions, users))
    groups = [("alone", range(user, user + 1)) for user in range(users)] + [("together", together)]
    runs = [(kind, group, way) for kind, group in groups for way in WAYS]
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    with tqdm(
        total=(1 + repeats) * len(runs), desc=appends.name, unit="run", leave=False, disable=not progress
    ) as bar:
        for repeat in range(-1, repeats):
            for number in generator.permutation(len(runs)):
                kind, group, way = runs[int(number)]
                measured = _append(appends, group) if way == APPEND else _anew(appends, group, catalogue)
                if repeat >= 0:
                    rows.append({"repeat": repeat, "kind": kind, "way": way, "users": len(group), **measured})
                bar.update()
    return pd.DataFrame(rows)


def _append(appends: Appends, group: range) -> dict[str, float]:
    ids = appends.dataset.items["item_id"].to_numpy()
    sessions = Sessions(model=appends.model, dataset=appends.dataset)
    names = [str(user) for user in group]
    for user, name in zip(group, names, strict=True):
        sessions.open(name, [*ids[appends.histories[user][:-1]]])
    sessions.top_k(names)
    with Timer(appends.model.engine.backbone.device) as timer:
        for user, name in zip(group, names, strict=True):
            sessions.append(name, ids[appends.histories[user][-1]])
        sessions.top_k(names)
    tokens = sum(sessions.reading(name).tokens for name in names)
    return {"seconds": timer.seconds, "tokens": tokens, "megabytes": sessions.nbytes / BYTES_PER_MB}


@torch.inference_mode()
def _anew(appends: Appends, group: range, catalogue: torch.Tensor) -> dict[str, float]:
    model = appends.model
    histories = [appends.histories[user] for user in group]
    with Timer(model.engine.backbone.device) as timer:
        vectors = model.project_users(model.encode(histories)).flatten(1)
        exact_top_k(vectors, catalogue, k=10, exclude=histories)
    fitted = [model.prompts.fit(history, max_items=model.history_length) for history in histories]
    tokens = int(model.prompts.token_counts(fitted).sum()) - len(fitted) * len(model.prompts.task)
    return {"seconds": timer.seconds, "tokens": tokens, "megabytes": 0.0}


def summarised(timings: pd.DataFrame) -> dict[str, Any]:
    """Return what the tables show of timed runs: ``alone`` by way, and ``together``.

    Args:
        timings: What :func:`time_appends` returned.
    """
    alone, together = (timings[timings["kind"] == kind] for kind in ("alone", "together"))
    found: dict[str, Any] = {"alone": {}, "together": {}}
    for way in WAYS:
        of_way = alone[alone["way"] == way]
        milliseconds = 1e3 * of_way["seconds"].to_numpy()
        found["alone"][way] = {
            "tokens": float(of_way["tokens"].mean()),
            "latency_ms_median": float(np.median(milliseconds)),
            "latency_ms_p95": float(np.percentile(milliseconds, 95)),
        }
        rounds = together[together["way"] == way]
        found["together"][way] = float((rounds["users"] / rounds["seconds"]).median())
    kept = together[together["way"] == APPEND]
    found["together"]["sessions"] = int(kept["users"].iloc[0])
    found["together"]["megabytes_per_session"] = float((kept["megabytes"] / kept["users"]).mean())
    return found
