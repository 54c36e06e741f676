"""How likely an experiment finds a difference: its variance between users and training runs, before it is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from bench.protocol.statistics import minimum_detectable

LEVEL = 0.05
"""Level of the two-sided test of no difference."""

_LEAST_USERS = 2
_MOST_USERS = 10_000_000_000
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Variances:
    """Variances of one user's paired difference in one training run: effects of user, of run and of both together.

    Attributes:
        users: Between users.
        runs: Between training runs; None where it is not known, because there was a single run.
        both: Of a user in a run beside these; of a single run it is part of the variance between users.
    """

    users: float
    runs: float | None
    both: float

    def stderr(self, *, users: int, runs: int) -> float:
        """Return the standard error of the mean paired difference.

        Where the variance between runs is not known it is that over users alone.

        Args:
            users: Users that are evaluated, the same in every run.
            runs: Training runs.
        """
        return math.sqrt(self.users / users + (self.runs or 0.0) / runs + self.both / (users * runs))

    def users_needed(self, *, difference: float, runs: int, power: float) -> int | None:
        """Return the smallest number of users with whom a true difference is found with a probability.

        Args:
            difference: The true difference, above 0.
            runs: Training runs.
            power: The probability, in (0, 1).

        Returns:
            The number, 2 or more; None where ten thousand million would not do, as where the variance between runs
            alone forbids it.
        """
        reach = minimum_detectable(1.0, power=power, level=LEVEL)
        if reach <= 0:
            return _LEAST_USERS
        room = (difference / reach) ** 2 - (self.runs or 0.0) / runs
        of_a_user = self.users + self.both / runs
        if room <= 0 or of_a_user > _MOST_USERS * room:
            return None
        users = max(_LEAST_USERS, math.ceil(of_a_user / room))
        while minimum_detectable(self.stderr(users=users, runs=runs), power=power, level=LEVEL) > difference:
            users += 1  # where the division was rounded down
        return users


def variances(differences: npt.ArrayLike) -> Variances:
    """Return the variances of crossed users and training runs: two-way random effects, one value a user and run.

    They are those with which the sums of squares by users, by runs and of all values would on average be what they are
    (Henderson 1953, method 1). Where all runs have the same users, that is the usual analysis by mean squares. None is
    negative: what would be is 0.

    Args:
        differences: Float [runs, users], or [users] of one run, first minus second; NaN where a run did not evaluate a
            user.

    Raises:
        ValueError: If there are fewer than two users, a run or a user has no value, or one is infinite.
    """
    values = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    known = ~np.isnan(values)
    if values.ndim != 2 or values.shape[1] < 2 or not known.any(axis=0).all() or not known.any(axis=1).all():
        raise ValueError(
            "paired differences are [runs, users] of two users or more; every run and user has some"
        )
    if np.isinf(values).any():
        raise ValueError("paired values must be finite")
    if len(values) == 1:
        return Variances(users=float(values.var(ddof=1)), runs=None, both=0.0)
    of_users, of_runs, n = known.sum(axis=0), known.sum(axis=1), int(known.sum())
    # Moved to a mean of 0, which changes no variance and loses no digits.
    moved = np.where(known, values - values[known].mean(), 0.0)
    squares = [
        (moved**2).sum(),
        (moved.sum(axis=0) ** 2 / of_users).sum(),
        (moved.sum(axis=1) ** 2 / of_runs).sum(),
        moved.sum() ** 2 / n,
    ]
    # What they are on average: so many times the squared mean and the variances of users, of runs and of both.
    runs, users = values.shape
    expected = np.array(
        [
            [n, n, n, n],
            [n, n, users, users],
            [n, runs, n, runs],
            [n, (of_users**2).sum() / n, (of_runs**2).sum() / n, 1],
        ],
        dtype=np.float64,
    )
    kept = np.arange(4)
    if n == users:  # nobody was in two runs: what both do together is part of what users do
        expected, kept = expected[:, :3], np.array([0, 2, 3])
    solved = np.linalg.solve(expected[kept], np.array(squares)[kept])
    # What is left of rounding is nothing, too.
    found = np.where(solved > _ROUNDING * squares[0] / n, solved, 0.0).tolist()
    return Variances(users=found[1], runs=found[2], both=found[3] if len(found) > 3 else 0.0)


def chance(difference: float, stderr: float) -> float:
    """Return the probability that a two-sided test of level .05 finds a true difference, by the normal distribution.

    Args:
        difference: The true difference.
        stderr: Standard error of its estimate.
    """
    if stderr == 0:
        return float(difference != 0)
    normal = NormalDist()
    away, needed = abs(difference) / stderr, normal.inv_cdf(1 - LEVEL / 2)
    return normal.cdf(away - needed) + normal.cdf(-away - needed)
