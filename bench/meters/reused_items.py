"""``python -m bench.meters.reused_items``: what histories put together from items' own keys and values save and cost.

A trained model of text reads the same users exactly, by the engine, and from what
:class:`~bench.meters.item_blocks.ItemBlocks` keeps, in turns. That is made before and not timed: a frozen LLM makes it
once.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bench.meters.item_blocks import ItemBlocks, Recomputed
from bench.meters.time_and_memory import BYTES_PER_MB, Timer
from bench.protocol.evaluation import evaluate
from bench.protocol.metrics import by_user
from bench.protocol.statistics import paired_interval
from illmrec.command_line import run
from illmrec.data.candidates import negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split, split_of
from illmrec.errors import InputError
from illmrec.files import cache_dir
from illmrec.model.illmrec import ILLMRec
from illmrec.recommender import Recommender
from illmrec.states.positions import Positions, evaluation_positions, training_positions
from illmrec.training.head_training import States
from illmrec.training.options import CachedOptions
from illmrec.training.projectors import initialise_projectors, train_projectors

logger = logging.getLogger(__name__)

EXACT = "exact"


class Scored:
    """Scores of histories whose states are known.

    Args:
        model: The model.
        histories: Per user, item row numbers.
        states: Float32 [users, width].
    """

    def __init__(self, model: ILLMRec, histories: Sequence[np.ndarray], states: Tensor) -> None:
        with torch.inference_mode():
            users = model.project_users(states).flatten(1)
            self.values: np.ndarray = (users @ model.catalogue().T).numpy()
        self._rows = {history.tobytes(): row for row, history in enumerate(histories)}

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [histories, n_items]."""
        return self.values[[self._rows[history.tobytes()] for history in histories]]


@dataclass(frozen=True, kw_only=True)
class Users:
    """Whose histories are read, and among what their targets are ranked.

    Attributes:
        dataset: The data.
        split: Leave-one-out.
        rows: Int64 [users], their row numbers.
        negatives: Int32 [n_users, n], of all users.
    """

    dataset: Dataset
    split: Split
    rows: np.ndarray
    negatives: np.ndarray

    @property
    def histories(self) -> list[np.ndarray]:
        """What came before each target of the test."""
        return [self.split.history(int(user), "test") for user in self.rows]

    def ndcg(self, scored: Scored) -> dict[str, pd.Series]:
        """Return NDCG@10 by user among sampled and among all candidates."""
        ranks = evaluate(
            scored, self.dataset, self.split, negatives=self.negatives, users=self.rows, progress=False
        )
        return {candidates: by_user(ranks, candidates) for candidates in ("sampled", "full")}


def agreement(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return how alike two score tables [users, items] order each user's items.

    Returns:
        Spearman's correlation, the mean over users, and the share of the first 10 that both have.
    """
    ranked = [np.argsort(np.argsort(scores, axis=1), axis=1).astype(np.float64) for scores in (first, second)]
    centred = [ranks - ranks.mean(axis=1, keepdims=True) for ranks in ranked]
    lengths = np.prod([np.sqrt((ranks**2).sum(axis=1)) for ranks in centred], axis=0)
    spearman = (centred[0] * centred[1]).sum(axis=1) / lengths
    best = [ranks >= ranks.shape[1] - 10 for ranks in ranked]
    return float(spearman.mean()), float((best[0] & best[1]).sum(axis=1).mean() / 10)


def main(
    *,
    model: Path,
    first_tokens: tuple[int, ...] = (0, 1, 2, 4, 8),
    first_blocks: tuple[int, ...] = (),
    last_blocks: tuple[int, ...] = (),
    users: int | None = None,
    timed_users: int = 64,
    repeats: int = 5,
    retrain: bool = False,
) -> int:
    """Compare histories put together from items' own keys and values with histories that are read exactly.

    Columns: way; computed, the tokens of histories that the LLM's blocks compute, over those of the exact way; speedup
    over the engine, the median over repeats in turns and, least and most, of them; NDCG@10, its difference from the
    exact way's and the 95 % interval of that over users; Spearman's correlation of scores with the exact ones, and the
    share of the first 10 items that both have. With --retrain, retrained rows have projectors that were trained on
    states of their own way.

    Args:
        model: Folder of a trained model of text, such as reports/out/store/artifacts/model/KEY.
        first_tokens: Ways that compute the first so many tokens of each item.
        first_blocks: Ways that compute all tokens in the first so many blocks.
        last_blocks: Ways that compute all tokens in the last so many blocks.
        users: Users to rank for, drawn; "none" takes all.
        timed_users: Of them, so many are timed.
        repeats: Timed runs of each way.
        retrain: Train projectors on states of each way, too.
    """
    if min(timed_users, repeats, 1 if users is None else users) < 1:
        raise InputError("--users, --timed-users and --repeats: give at least 1")
    found = Recommender.load(model)
    split = split_of(found.dataset)
    rows = split.users("test")
    if users is not None and users < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, users, replace=False))
    ways = {
        f"{name} {count}": Recomputed(**{field: count})
        for name, field, counts in (
            ("first tokens", "first_tokens", first_tokens),
            ("first blocks", "first_blocks", first_blocks),
            ("last blocks", "last_blocks", last_blocks),
        )
        for count in counts
    }
    drawn = negatives(found.dataset, seed=0, cache=cache_dir())
    read = Users(dataset=found.dataset, split=split, rows=rows, negatives=drawn)
    options = None
    if retrain:
        saved = json.loads((model / "model.json").read_text())["training"]["options"]["cached"]
        options = CachedOptions(**(saved or {}))
    table = compared(found.model, read, ways, timed_users=timed_users, repeats=repeats, options=options)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    return 0


def compared(
    model: ILLMRec,
    users: Users,
    ways: dict[str, Recomputed],
    *,
    timed_users: int,
    repeats: int,
    options: CachedOptions | None = None,
) -> pd.DataFrame:
    """Return one row for each way, after one for the exact; columns are those of :func:`main`.

    Args:
        model: A trained model of text.
        users: Whose histories are read.
        ways: What is recomputed, by name.
        timed_users: The first so many are timed.
        repeats: Timed runs.
        options: Train projectors by them, on states of each way; ``None`` trains none.
    """
    histories = users.histories
    depth = model.engine.backbone.layers
    entering = sorted({depth - way.last_blocks for way in ways.values() if 0 < way.last_blocks < depth})
    blocks = ItemBlocks(model, np.arange(model.n_items), entering=entering)
    logger.info("keys and values of %d items take %.0f MB", model.n_items, blocks.bytes / BYTES_PER_MB)
    timed = histories[:timed_users]
    runs: dict[str, Callable[[], Tensor]] = {EXACT: lambda: model.encode(timed)}
    runs |= {name: partial(blocks.encode, timed, way) for name, way in ways.items()}
    seconds = _seconds(runs, repeats)
    exact = Scored(model, histories, model.encode(histories))
    before = users.ndcg(exact)
    found = [_row(EXACT, 1.0, seconds, exact, exact, users, before)]
    for name, way in ways.items():
        scored = Scored(model, histories, blocks.encode(histories, way))
        so, whole = blocks.work(histories, way)
        found.append(_row(name, so / whole, seconds, scored, exact, users, before))
        if options is not None:
            trained = {key: value.clone() for key, value in model.state_dict().items()}
            retrain(model, blocks, way, users, options)
            again = Scored(model, histories, blocks.encode(histories, way))
            found.append(
                {**_row(name, so / whole, seconds, again, exact, users, before), "way": f"{name}, retrained"}
            )
            model.load_state_dict(trained)
    return pd.DataFrame(found)


def _seconds(runs: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, list[float]]:
    """Return seconds of each way's runs, which take turns after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(1 + repeats):
        for name, encode in runs.items():
            with Timer() as timer:
                encode()
            if number:
                seconds[name].append(timer.seconds)
    return seconds


def _row(
    name: str,
    computed: float,
    seconds: dict[str, list[float]],
    scored: Scored,
    exact: Scored,
    users: Users,
    before: dict[str, pd.Series],
) -> dict[str, float | str]:
    ratios = np.array(seconds[EXACT]) / np.array(seconds[name])
    spearman, shared = agreement(scored.values, exact.values)
    row: dict[str, float | str] = {
        "way": name,
        "computed": computed,
        "speedup": float(np.median(ratios)),
        "least": float(ratios.min()),
        "most": float(ratios.max()),
    }
    for candidates, values in users.ndcg(scored).items():
        difference = paired_interval(pd.DataFrame({"first": values, "second": before[candidates]}))
        row |= {
            f"ndcg_{candidates}": float(values.mean()),
            f"difference_{candidates}": difference.mean,
            f"low_{candidates}": difference.low,
            f"high_{candidates}": difference.high,
        }
    return {**row, "spearman": spearman, "first_10": shared}


def retrain(
    model: ILLMRec, blocks: ItemBlocks, way: Recomputed, users: Users, options: CachedOptions
) -> None:
    """Train the projectors of a model anew on states of a way, as strategy ``cached`` does on exact ones.

    Args:
        model: The model, whose standardisation and projectors change.
        blocks: The items'.
        way: What is recomputed.
        users: Whose validation targets choose the epoch; all users' training positions are learnt.
        options: How projectors are trained.
    """

    def states(positions: Positions) -> Tensor:
        read = zip(positions.trunks, positions.boundaries, strict=True)
        return blocks.encode([trunk[:end] for trunk, ends in read for end in ends.tolist()], way)

    length = model.history_length
    train = training_positions(users.split, length=length, last=options.last_targets)
    valid = evaluation_positions(users.split, "valid", length=length)
    values, checked = states(train), states(valid)
    model.standardise_by(values)
    initialise_projectors(model, seed=0)
    drawn = negatives(users.dataset, seed=0, part="valid", cache=cache_dir())
    train_projectors(
        model,
        train=States(values=model.standardised(values), targets=train.targets),
        valid=States(values=model.standardised(checked), targets=valid.targets),
        negatives=drawn[valid.users],
        options=options,
        seed=0,
        progress=False,
    )


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.meters.reused_items", interrupted=""))
