"""What is trained on, what validates and what is tested: each user's last items, or what comes after one moment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from illmrec.data.dataset import DAY, Dataset, TestTargets, changed
from illmrec.data.time_resolution import day_numbers
from illmrec.errors import InputError

Part = Literal["valid", "test"]
SplitKind = Literal["leave-one-out", "global-time"]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What some users are asked for, user by user in the order of time.

    Attributes:
        places: Int64 [targets], ascending, whose a target is: a position among the users.
        numbers: Int32 [targets], 1 is a user's first target.
        items: Int32 [targets], item row numbers; none twice for a user.
        at: Int64 [targets], where each stands in ``dataset.sequence_items``.
        before: Int64 [targets], where the last item of the history stands.
    """

    places: np.ndarray
    numbers: np.ndarray
    items: np.ndarray
    at: np.ndarray
    before: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Split:
    """The training, validation and test parts of a data set's sequences, as read-only arrays.

    Leave-one-out, where the data set has no ``points``: the last item is the test target, the one before it validates,
    the rest trains (paper 4.1). Otherwise the same moments split all users: what came before the first trains; a user's
    first item from then on, if it came before the second, validates; the first item from the second on is the test
    target, or with ``dataset.test_targets`` of ``day`` every item of the day (UTC) of that first one. Users who have no
    target, or none before it to go by, are not evaluated.
    """

    dataset: Dataset

    @cached_property
    def train_offsets(self) -> np.ndarray:
        """int64 [n_users + 1]; user ``u`` has ``train_items()[train_offsets[u]:train_offsets[u + 1]]``."""
        return _frozen(np.concatenate([[0], np.cumsum(self.history_lengths("valid"))]).astype(np.int64))

    def train(self, user: int) -> np.ndarray:
        """Return a user's training items, oldest first: int32 [items]."""
        return self.history(user, "valid")

    def history(self, user: int, part: Part) -> np.ndarray:
        """Return what precedes a user's target, oldest first: all that came before validation, or before the test."""
        return self.dataset.sequence(user)[: self.history_lengths(part)[user]]

    def histories(self, part: Part) -> list[np.ndarray]:
        """Return the history of every user, in user order."""
        return [self.history(user, part) for user in range(self.dataset.n_users)]

    def users(self, part: Part) -> np.ndarray:
        """Return the users who have a target and a history, int64, ascending; with leave-one-out all."""
        return np.flatnonzero((self.targets(part) >= 0) & (self.history_lengths(part) > 0))

    def targets(self, part: Part) -> np.ndarray:
        """Return every user's target item, the first of several, int32 [n_users], -1 for users who have none."""
        return self._targets[part]

    def every_target(self, part: Part, users: np.ndarray | None = None) -> Targets:
        """Return all targets of users: the next item each, or those of a day where the test asks for them.

        Args:
            part: Validation asks for the next item whatever the test does.
            users: Int [selected], row numbers of users who have a target; None for all of them.
        """
        dataset = self.dataset
        chosen = self.users(part) if users is None else np.asarray(users)
        first = dataset.offsets[:-1][chosen] + self.history_lengths(part)[chosen]
        if part == "test" and dataset.test_targets == "day":
            at, of_user = self._day_targets
            counts = of_user[chosen]
            starts = (np.cumsum(of_user) - of_user)[chosen]
        else:
            at, counts, starts = first, np.ones(len(chosen), dtype=np.int64), np.arange(len(chosen))
        places = np.repeat(np.arange(len(chosen)), counts)
        numbers = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = at[starts[places] + numbers]
        return Targets(
            places=places,
            numbers=(numbers + 1).astype(np.int32),
            items=dataset.sequence_items[found],
            at=found,
            before=first[places] - 1,
        )

    def gaps(self, targets: Targets) -> dict[str, np.ndarray]:
        """Return how long after the last item of the history each target came.

        Returns:
            ``gap``: [targets], in the unit of the data's times; ``days``: int32 [targets], days of the calendar (UTC)
            between the two, 0 for the same day, where the unit can be told. Empty where the data hold no times.
        """
        times = self.dataset.times
        if times is None:
            return {}
        moments = {"gap": times, "days": self._days}
        return {
            name: values[targets.at] - values[targets.before]
            for name, values in moments.items()
            if values is not None
        }

    def train_items(self) -> np.ndarray:
        """Return all training interactions, user by user: int32 [training interactions]."""
        return self._train_items

    def train_users(self) -> np.ndarray:
        """Return the user of each of :meth:`train_items`: int64 [training interactions]."""
        return np.repeat(np.arange(self.dataset.n_users), np.diff(self.train_offsets))

    def train_times(self) -> np.ndarray | None:
        """Return the time of each of :meth:`train_items`, or None where the data set does not hold times."""
        times = self.dataset.times
        return None if times is None else times[self._is_train]

    @cached_property
    def learners(self) -> np.ndarray:
        """The users with a training target: those who have two training items or more, int64, ascending.

        Raises:
            InputError: If there is none.
        """
        found = np.flatnonzero(self.history_lengths("valid") >= 2)
        if not len(found):
            raise InputError(
                f"{self.dataset.name}: no user has two training items, so that nothing can be learnt; give users more "
                "interactions (--min-interactions keeps only such users)"
            )
        return _frozen(found)

    @cached_property
    def _is_train(self) -> np.ndarray:
        place = np.arange(self.dataset.n_interactions) - np.repeat(
            self.dataset.offsets[:-1], self.dataset.lengths
        )
        return _frozen(place < np.repeat(self.history_lengths("valid"), self.dataset.lengths))

    @cached_property
    def _train_items(self) -> np.ndarray:
        return _frozen(self.dataset.sequence_items[self._is_train])

    @cached_property
    def _targets(self) -> dict[str, np.ndarray]:
        dataset = self.dataset
        found = {}
        for part in ("valid", "test"):
            before = self.history_lengths(part)
            # What comes next, and where validation ends before it, nothing.
            ends = self.history_lengths("test") if part == "valid" and dataset.points else dataset.lengths
            at = np.minimum(dataset.offsets[:-1] + before, max(dataset.n_interactions - 1, 0))
            found[part] = _frozen(np.where(before < ends, dataset.sequence_items[at], -1).astype(np.int32))
        return found

    @cached_property
    def _days(self) -> np.ndarray | None:
        return None if self.dataset.times is None else day_numbers(self.dataset.times)

    @cached_property
    def _day_targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Where all targets of the test stand, int64 [targets], and their number for each user, int64 [n_users]."""
        dataset, days, tested = self.dataset, self._days, self.users("test")
        if days is None:
            raise ValueError("targets of a day need times whose unit can be told")
        first = dataset.offsets[tested] + self.history_lengths("test")[tested]
        day = np.full(dataset.n_users, -1, dtype=np.int64)
        start = np.full(dataset.n_users, dataset.n_interactions, dtype=np.int64)
        day[tested], start[tested] = days[first], first
        users = np.repeat(np.arange(dataset.n_users), dataset.lengths)
        at = np.flatnonzero((np.arange(dataset.n_interactions) >= start[users]) & (days == day[users]))
        # An item that was bought twice that day is one target.
        _, once = np.unique(users[at] * dataset.n_items + dataset.sequence_items[at], return_index=True)
        at = at[np.sort(once)]
        return _frozen(at), _frozen(np.bincount(users[at], minlength=dataset.n_users))

    def history_lengths(self, part: Part) -> np.ndarray:
        """Return the number of items that precede each user's target, int64 [n_users]."""
        try:
            return self._counts[part]
        except KeyError:
            raise ValueError(f"part is {part!r}; give 'valid' or 'test'") from None

    @cached_property
    def _counts(self) -> dict[str, np.ndarray]:
        dataset = self.dataset
        if dataset.points is None or dataset.times is None:
            return {"valid": dataset.lengths - 2, "test": dataset.lengths - 1}
        users = np.repeat(np.arange(dataset.n_users), dataset.lengths)
        return {
            part: np.bincount(users[dataset.times < point], minlength=dataset.n_users)
            for part, point in zip(("valid", "test"), dataset.points, strict=True)
        }


def leave_one_out(dataset: Dataset) -> Split:
    """Split each user's sequence: last item = test, last but one = validation, rest = training (paper 4.1).

    Raises:
        InputError: If a user has fewer than 3 interactions, so that nothing would be left to train on.
    """
    short = np.flatnonzero(dataset.lengths < 3)
    if len(short):
        user = int(short[0])
        raise InputError(
            f"{dataset.name}: user {dataset.user_ids[user]!r} has {int(dataset.lengths[user])} interactions "
            f"({len(short)} such users) and leave-one-out needs 3; set min_interactions to 3 or more"
        )
    return Split(dataset=dataset)


def split_of(dataset: Dataset) -> Split:
    """Return the split of a data set: at its points in time, or leave-one-out where it has none."""
    return leave_one_out(dataset) if dataset.points is None else Split(dataset=dataset)


def split_at_times(
    dataset: Dataset,
    *,
    valid_share: float = 0.1,
    test_share: float = 0.1,
    test_targets: TestTargets = "next",
) -> Dataset:
    """Return a data set that is split at the same moments for all users, with name and fingerprint of its own.

    With leave-one-out, models are trained on what happened after the moment at which a user is asked. Here nothing
    after the beginning of validation is trained on (as in "Time to Split", RecSys 2025, where the test targets are the
    first items after one moment).

    Args:
        dataset: The data set; it holds the times of its interactions.
        valid_share: Share of all interactions that lies between the two moments, about.
        test_share: Share of all interactions from the second moment on, about.
        test_targets: What is tested: the ``next`` item after the moment, or every item of the ``day`` (UTC) on which
            that one came. Training and validation are the same.

    Raises:
        InputError: If the data set holds no times, all are the same, a share is no share, or the unit of the times,
            which a day needs, cannot be told.
    """
    if dataset.times is None:
        raise InputError(f"{dataset.name}: holds no times, which --split global-time needs")
    if not (valid_share > 0 and test_share > 0 and valid_share + test_share < 1):
        raise InputError(
            f"shares of validation ({valid_share}) and test ({test_share}): above 0, together below 1"
        )
    ordered = np.sort(dataset.times)
    points = tuple(
        ordered[int(len(ordered) * (1 - share))].item() for share in (valid_share + test_share, test_share)
    )
    if not ordered[0] < points[0] < points[1]:
        raise InputError(
            f"{dataset.name}: too many interactions have one time for --split global-time; use leave-one-out"
        )
    if test_targets == "day" and day_numbers(dataset.times) is None:
        raise InputError(
            f"{dataset.name}: --test-targets day: the unit of the times cannot be told; write them in seconds, "
            "milliseconds, microseconds or nanoseconds since 1970, of the years 1980 to 2100"
        )
    name = f"{dataset.name}-global-time{DAY if test_targets == 'day' else ''}"
    return changed(dataset, name=name, points=points, test_targets=test_targets)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array
