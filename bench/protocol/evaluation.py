"""The shared evaluation: every method's scores become ranks here, among the same candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from tqdm import tqdm

from bench.protocol.lists import RecommendedLists
from illmrec.ranking import target_ranks

if TYPE_CHECKING:
    from illmrec.data.dataset import Dataset
    from illmrec.data.splits import Split


class Scorer(Protocol):
    """Anything that scores the catalogue for users given by their histories."""

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [len(histories), n_items], higher is better, for full histories of item rows."""


@runtime_checkable
class UserScorer(Protocol):
    """Anything that scores the catalogue for users given by who they are, as scores made elsewhere do."""

    def score_users(self, users: np.ndarray, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [len(users), n_items], higher is better, for row numbers of users and their full histories.

        Items of minus infinity have no score: they tie with each other below all that have one, and are in no list.
        """


@runtime_checkable
class ListScorer(Protocol):
    """Anything that finds items by a search, as beam search does, and can score given items without it.

    Among all items it is ranked by what it finds; sampled candidates, most of which no search would find, are ranked
    by their own scores.
    """

    def score(self, histories: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 [len(histories), n_items], higher is better, minus infinity for what was not found.

        What was not found ties with each other below all that was, and is in no list.
        """

    def score_candidates(self, histories: Sequence[np.ndarray], candidates: np.ndarray) -> np.ndarray:
        """Return finite float32 [len(histories), n] of int [len(histories), n], item rows in ascending order."""


class ScoresError(ValueError):
    """What a method gave as scores cannot be ranked; the message is one line that names the method and says why."""


def evaluate(
    method: Scorer | UserScorer,
    dataset: Dataset,
    split: Split,
    *,
    negatives: np.ndarray,
    name: str | None = None,
    users: np.ndarray | None = None,
    part: Literal["valid", "test"] = "test",
    lists: RecommendedLists | None = None,
    chunk: int = 256,
    progress: bool = True,
) -> pd.DataFrame:
    """Rank every user's target among the sampled and among all candidates.

    Where all items of a day are tested (:meth:`Split.every_target`), each of a user's targets is ranked by itself, from
    the same history; the others are no candidates of it.

    Args:
        method: Scores the catalogue; by ``score_users`` where it has that. Where it has ``score_candidates``
            (:class:`ListScorer`), sampled candidates are scored by that.
        dataset: The data; its ``user_ids`` and ``n_items`` are used.
        split: Histories and targets.
        negatives: Int [n_users, n], items each user never interacted with, from ``candidates.negatives``.
        name: What errors call the method; None takes the name of its class.
        users: Int [selected], row numbers of the users to evaluate; None for all who have a target.
        part: The target is the validation or the test item; the history is all that came before it.
        lists: Is given every user's scores and takes the items that would be recommended.
        chunk: Users scored at a time; bounds memory at chunk x n_items scores.
        progress: Show a progress bar over users.

    Returns:
        One row per selected user, in their order: user_id (str), history_length (int32, before a method cuts
        it), rank_sampled (int32, among target and negatives) and rank_full (int32, among the catalogue
        without the history). A target that repeats an item of the history is a candidate all the same. Where the data
        hold times, gap and days as well: how long after the last item of the history the target came
        (:meth:`Split.gaps`). Where all items of a day are tested, one row per user and target, and the target's number
        for the user, from 1: target (int32).

    Raises:
        ScoresError: If the scores are no floating-point array of the right shape, or a compared one is not finite.
    """
    name = name or type(method).__name__
    selected = split.users(part) if users is None else np.asarray(users)
    targets = split.every_target(part, selected)
    lengths = np.empty(len(selected), dtype=np.int32)
    sampled = np.empty(len(targets.items), dtype=np.int32)
    full = np.empty(len(targets.items), dtype=np.int32)
    partial = isinstance(method, UserScorer | ListScorer)
    with tqdm(total=len(selected), desc="evaluate", unit="user", leave=False, disable=not progress) as bar:
        for start in range(0, len(selected), chunk):
            rows = slice(start, min(start + chunk, len(selected)))
            histories = [split.history(int(user), part) for user in selected[rows]]
            lengths[rows] = [len(history) for history in histories]
            scores = scores_of(method, selected[rows], histories, n_items=dataset.n_items, name=name)
            # What has no score is ranked below all that have one; in lists it stands nowhere.
            ranked = np.maximum(scores, np.finfo(scores.dtype).min) if partial else scores
            seen = np.zeros(scores.shape, dtype=bool)
            seen[np.repeat(np.arange(len(histories)), lengths[rows]), np.concatenate(histories)] = True
            own = np.arange(*np.searchsorted(targets.places, [rows.start, rows.stop]))
            target = (targets.places[own] - start, targets.items[own])
            compared = ~seen
            compared[target] = True
            wrong = compared & ~np.isfinite(ranked)
            if wrong.any():
                raise ScoresError(_not_finite(ranked, wrong, dataset, selected[rows], name=name))
            if lists is not None:
                lists.add(scores, exclude=seen)
            # All targets are taken out, and each is its own candidate all the same.
            seen[target] = True
            for number in range(1, targets.numbers[own].max(initial=0) + 1):
                # One target of each user at a time: no more scores are held than those of the chunk, twice.
                these = own[targets.numbers[own] == number]
                place = targets.places[these]
                some = slice(None) if len(place) == len(histories) else place - start
                given, items = ranked[some], targets.items[these]
                drawn = negatives[selected[place]]
                if isinstance(method, ListScorer):
                    own_histories = [histories[row] for row in place - start]
                    sampled[these] = _ranks_by_themselves(method, own_histories, items, drawn, name=name)
                else:
                    sampled[these] = target_ranks(given, items, candidates=drawn)
                full[these] = target_ranks(given, items, exclude=seen[some])
            bar.update(len(histories))
    return rank_table(dataset, split, selected, sampled=sampled, full=full, part=part)


def rank_table(
    dataset: Dataset,
    split: Split,
    users: np.ndarray,
    *,
    sampled: np.ndarray,
    full: np.ndarray,
    part: Literal["valid", "test"] = "test",
) -> pd.DataFrame:
    """Return the ranks of users' targets as a table: the columns are those of :func:`evaluate`.

    Args:
        dataset: The data.
        split: Its split.
        users: Int [selected], row numbers.
        sampled: Int32 [targets], in the order of ``split.every_target``.
        full: The same, among the catalogue.
        part: The target is the validation or the test item.
    """
    targets = split.every_target(part, users)
    ranks = pd.DataFrame(
        {
            "user_id": np.asarray(dataset.user_ids)[users[targets.places]],
            "history_length": split.history_lengths(part)[users][targets.places].astype(np.int32),
            "rank_sampled": sampled,
            "rank_full": full,
            **split.gaps(targets),
        }
    )
    several = part == "test" and dataset.test_targets == "day"
    return ranks.assign(target=targets.numbers) if several else ranks


def _ranks_by_themselves(
    method: ListScorer, histories: Sequence[np.ndarray], targets: np.ndarray, drawn: np.ndarray, *, name: str
) -> np.ndarray:
    """Return the ranks of targets among drawn candidates, int64 [users], by scores of these alone.

    Args:
        method: Is not told which candidate is the target.
        histories: One for each user.
        targets: Int [users], item rows.
        drawn: Int [users, n], item rows.
        name: What errors call the method.

    Raises:
        ScoresError: If the scores are no floating-point array of the right shape, or one is not finite.
    """
    candidates = np.sort(np.concatenate([targets[:, None], drawn], axis=1), axis=1)
    scores = np.asarray(method.score_candidates(histories, candidates))
    if scores.shape != candidates.shape or not np.issubdtype(scores.dtype, np.floating):
        raise ScoresError(
            f"{name}: score_candidates returned {scores.dtype} {scores.shape}, expected float32 {candidates.shape}: "
            "a score for each candidate"
        )
    if not np.isfinite(scores).all():
        raise ScoresError(
            f"{name}: {int((~np.isfinite(scores)).sum()):,} of {scores.size:,} scores of candidates are not finite: "
            "the model diverged or its features hold NaN"
        )
    own = candidates == targets[:, None]
    place = own.argmax(axis=1)
    every = np.where(own, place[:, None], np.arange(candidates.shape[1]))
    return target_ranks(scores, place, candidates=every)


def scores_of(
    method: Scorer | UserScorer,
    users: np.ndarray,
    histories: Sequence[np.ndarray],
    *,
    n_items: int,
    name: str,
) -> np.ndarray:
    """Return a method's scores of some users, float [users, n_items].

    Args:
        method: Scores the catalogue; by ``score_users`` where it has that.
        users: Int [users], their row numbers.
        histories: Their histories, item rows.
        n_items: Size of the catalogue.
        name: What errors call the method.

    Raises:
        ScoresError: If the method scores neither way, or what it returns is no floating-point array of that shape.
    """
    if isinstance(method, UserScorer):
        called, given = "score_users", method.score_users(users, histories)
    elif hasattr(method, "score"):
        called, given = "score", method.score(histories)
    else:
        raise ScoresError(f"{name}: has neither score(histories) nor score_users(users, histories)")
    try:
        scores = np.asarray(given)
    except Exception as error:  # rows of different lengths, or tensors that are elsewhere
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ScoresError(
            f"{name}: {called} returned a {type(given).__name__} that is no array ({reason}); return a float32 array"
        ) from error
    if not np.issubdtype(scores.dtype, np.floating):
        raise ScoresError(
            f"{name}: {called} returned a {type(given).__name__} of {scores.dtype}; return a float32 array"
        )
    if scores.shape != (len(histories), n_items):
        raise ScoresError(
            f"{name}: {called} returned {scores.shape}, expected {(len(histories), n_items)}: a row for each history "
            "and a column for each item of the catalogue"
        )
    return scores


def _not_finite(
    scores: np.ndarray, wrong: np.ndarray, dataset: Dataset, users: np.ndarray, *, name: str
) -> str:
    """Return what is wrong with scores of which some, bool [users, n_items], are not finite: whose the first is."""
    row, item = np.argwhere(wrong)[0]
    return (
        f"{name}: the score of user {dataset.user_ids[users[row]]!r} and item {dataset.items['item_id'].iloc[item]!r} "
        f"is {scores[row, item]}, which is not finite ({int(wrong.sum()):,} of these {wrong.size:,} scores are not): "
        "the model diverged or its features hold NaN"
    )
