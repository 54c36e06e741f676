"""The contract of scorers: what :mod:`bench.protocol.evaluation` needs of their scores, as named checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.checks.report import Check, NotChecked, Violation
from bench.checks.small_data import with_other_targets
from bench.protocol.evaluation import ListScorer, ScoresError, UserScorer, scores_of
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split
from illmrec.prompts.contract import takes

USERS = 12
"""So many users are scored."""

TOLERANCE = 1e-4
"""Scores that are to be the same may differ by this share of the range of all of them: sums in another order do."""


@dataclass(frozen=True, kw_only=True)
class ScorerCase:
    """A scorer and the data that it is checked on.

    Attributes:
        scorer: What is checked.
        dataset: The data that it was fitted on.
        fit: Fits another one to a data set; None where the scorer was given as it is.
    """

    scorer: Any
    dataset: Dataset
    fit: Callable[[Dataset], Any] | None

    @cached_property
    def split(self) -> Split:
        """The data set's split."""
        return Split(dataset=self.dataset)

    @cached_property
    def users(self) -> np.ndarray:
        """Row numbers of the users that are scored, int64 [users]: they have histories of different lengths."""
        tested = self.split.users("test")
        by_length = tested[np.argsort(self.split.history_lengths("test")[tested], kind="stable")]
        return by_length[np.unique(np.linspace(0, len(by_length) - 1, USERS).astype(int))]

    def histories(self, users: np.ndarray) -> list[np.ndarray]:
        """Return the users' histories before the test, int32, copies that can be written to."""
        return [self.split.history(int(user), "test").copy() for user in users]

    def raw(self, users: np.ndarray, histories: Sequence[np.ndarray] | None = None) -> Any:
        """Return what the scorer itself returns for some users."""
        given = self.histories(users) if histories is None else histories
        if isinstance(self.scorer, UserScorer):
            return self.scorer.score_users(users.copy(), given)
        return self.scorer.score(given)

    def scores(self, users: np.ndarray, scorer: Any = None) -> np.ndarray:
        """Return scores of some users, float [users, n_items], a copy.

        Raises:
            Violation: If they are none.
        """
        chosen = self.scorer if scorer is None else scorer
        try:
            found = scores_of(
                chosen, users.copy(), self.histories(users), n_items=self.dataset.n_items, name="the scorer"
            )
        except ScoresError as error:
            raise Violation(str(error)) from None
        return np.array(found)

    @cached_property
    def expected(self) -> np.ndarray:
        """Scores of all users together, float [users, n_items]."""
        return self.scores(self.users)

    def refuse_other(self, scores: np.ndarray, wanted: np.ndarray, *, what: str) -> None:
        """Raise a violation if scores are others than those wanted, equal infinities aside."""
        finite = wanted[np.isfinite(wanted)]
        scale = float(np.ptp(finite)) if len(finite) else 0.0
        wrong = ~np.isclose(scores, wanted, rtol=0.0, atol=TOLERANCE * scale + 1e-12, equal_nan=True)
        if wrong.any():
            row, item = np.argwhere(wrong)[0]
            raise Violation(
                f"{what}: {int(wrong.sum()):,} of {wrong.size:,} scores, the first of item row {item}: "
                f"{wanted[row, item]:.6g}, then {scores[row, item]:.6g}"
            )


def has_parts(case: ScorerCase) -> None:
    """It has score(histories), or score_users(users, histories) where it must know who the users are."""
    by_user, by_history = (getattr(case.scorer, name, None) for name in ("score_users", "score"))
    if by_user is not None:
        if not callable(by_user) or not takes(by_user, 2):
            raise Violation("score_users cannot be called as score_users(users, histories)")
    elif by_history is None:
        raise Violation("lacks score(histories), or score_users(users, histories)")
    elif not callable(by_history) or not takes(by_history, 1):
        raise Violation("score cannot be called as score(histories)")


def scores_everyone(case: ScorerCase) -> None:
    """It scores users with short and with long histories, one alone and several together, without an error."""
    for users in (case.users, case.users[:1]):
        case.raw(users)


def has_shape(case: ScorerCase) -> None:
    """Scores are an array with a row for each history and a column for each item, for one user as well."""
    for users in (case.users, case.users[:1]):
        wanted, given = (len(users), case.dataset.n_items), case.raw(users)
        try:
            shape = np.asarray(given).shape
        except Exception as error:
            said = " ".join(str(error).split())
            raise Violation(f"returned a {type(given).__name__} that is no array: {said}") from None
        if shape != wanted:
            raise Violation(
                f"returned {shape} for {len(users)} histories and {wanted[1]} items, expected {wanted}"
            )


def has_dtype(case: ScorerCase) -> None:
    """Scores are floating-point numbers; float32 is enough."""
    given = np.asarray(case.raw(case.users))
    if not np.issubdtype(given.dtype, np.floating):
        raise Violation(f"scores are {given.dtype}; return float32")


def is_finite(case: ScorerCase) -> None:
    """Scores of what is no part of the user's history are finite; score_users may say minus infinity for none.

    So may ``score`` of what has ``score_candidates`` beside it.
    """
    compared = np.ones(case.expected.shape, dtype=bool)
    for row, history in enumerate(case.histories(case.users)):
        compared[row, history] = False
    allowed = np.isfinite(case.expected)
    if isinstance(case.scorer, UserScorer | ListScorer):
        allowed |= np.isneginf(case.expected)
    wrong = np.argwhere(compared & ~allowed)
    if len(wrong):
        row, item = wrong[0]
        raise Violation(
            f"{len(wrong):,} of {int(compared.sum()):,} scores are not finite, the first of item row {item}: "
            f"{case.expected[row, item]}"
        )


def repeats(case: ScorerCase) -> None:
    """The same users have the same scores when they are asked for again."""
    case.refuse_other(
        case.scores(case.users), case.expected, what="the same histories have other scores the second time"
    )


def keeps_inputs(case: ScorerCase) -> None:
    """Histories and users are as they were after scoring."""
    histories, users = case.histories(case.users), case.users.copy()
    before = [history.copy() for history in histories]
    if isinstance(case.scorer, UserScorer):
        case.scorer.score_users(users, histories)
    else:
        case.scorer.score(histories)
    if not np.array_equal(users, case.users):
        raise Violation("the users that it was given were changed; work on a copy")
    same = len(histories) == len(before) and all(map(np.array_equal, histories, before))
    if not same:
        raise Violation("the histories that it was given were changed; work on copies")


def ignores_batch(case: ScorerCase) -> None:
    """A user's scores do not depend on who else is scored, in which order, or how many at a time."""
    users = case.users
    case.refuse_other(
        case.scores(users[::-1])[::-1],
        case.expected,
        what="a user has other scores when the users come in another order",
    )
    for size in (1, 5):
        parts = [case.scores(users[start : start + size]) for start in range(0, len(users), size)]
        case.refuse_other(
            np.concatenate(parts), case.expected, what=f"a user has other scores in batches of {size}"
        )


def fits_again(case: ScorerCase) -> None:
    """Fitted again to the same data, it gives the same scores: what it draws, it draws by a seed."""
    if case.fit is None:
        raise NotChecked("was given as it is: give the class or function that makes it")
    again = case.scores(case.users, case.fit(case.dataset))
    case.refuse_other(again, case.expected, what="fitted again to the same data, it has other scores")


def sees_no_target(case: ScorerCase) -> None:
    """Fitted to data whose validation and test items are others, it gives the same scores for the same histories."""
    if case.fit is None:
        raise NotChecked("was given as it is: give the class or function that makes it")
    other = case.scores(case.users, case.fit(with_other_targets(case.dataset)))
    case.refuse_other(other, case.expected, what="scores change with the held-out items")


SCORER_CHECKS = (
    Check(name="contract", run=has_parts),
    Check(name="runs", run=scores_everyone, needs=("contract",)),
    Check(name="shape", run=has_shape, needs=("runs",)),
    Check(name="dtype", run=has_dtype, needs=("shape",)),
    Check(name="finite", run=is_finite, needs=("dtype",)),
    Check(name="inputs", run=keeps_inputs, needs=("runs",)),
    Check(name="repeatable", run=repeats, needs=("dtype",)),
    Check(name="batches", run=ignores_batch, needs=("repeatable",)),
    Check(name="fitting", run=fits_again, needs=("repeatable",)),
    Check(name="held-out items", run=sees_no_target, needs=("fitting",)),
)
"""Of any method that scores: ``held-out items`` finds what learns from validation or test."""
