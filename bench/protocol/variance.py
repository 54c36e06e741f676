"""What a mean over training runs and users may be off by: its variance from each, and margins by Student's t.

A mean of S runs on the same U users differs from the truth because other runs would have done otherwise, and because
other users would have. The variance between runs is estimated from S values, of which there are few: a normal interval
of two runs covers the truth seven to eight times in ten where runs differ much, not nineteen times in twenty. Each
source therefore has its own quantile, and the margins add up as independent ones do:

    margin^2 = t(S - 1)^2 V_runs + t(U - 1)^2 V_users
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

LEVEL = 0.05
"""Level of the two-sided test of no difference."""
POWER = 0.8

_LEAST_USERS = 2
_MOST_USERS = 10_000_000_000
_ROUNDING = 1e-12
_STEPS = 100
_LEAST_P = 1e-140  # the square of its quantile is still a number
_QUANTILES = (np.arange(256) + 0.5) / 256


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The variance of a mean over runs and users, by where it comes from.

    Attributes:
        of_runs: Variance of the mean because runs differ; 0 of a single run, which does not tell.
        of_users: Variance of the mean because users differ.
        of_both: The part of that which users and runs have together, where it is known.
        runs: Training runs. Of one, where ``of_runs`` is known from others it is taken as exact.
        users: Users.
    """

    of_runs: float
    of_users: float
    runs: int
    users: int
    of_both: float = 0.0

    @property
    def stderr(self) -> float:
        """Standard error of the mean."""
        return math.sqrt(self.of_runs + self.of_users)

    def margin(self, level: float = LEVEL) -> float:
        """Return half the width of the interval that leaves out the truth with this probability."""
        by_runs, by_users = self._quantiles(level / 2)
        return math.sqrt(by_runs**2 * self.of_runs + by_users**2 * self.of_users)

    def widening(self, level: float = LEVEL) -> float:
        """Return how many times as wide the interval is as by the normal distribution."""
        return self.margin(level) / (-float(ndtri(level / 2)) * self.stderr) if self.stderr else 1.0

    def p_value(self, mean: float) -> float:
        """Return the two-sided p value of no difference: the level at which the interval's end is 0."""
        if mean == 0:
            return 1.0
        low, high = math.log(_LEAST_P), 0.0
        if abs(mean) >= self.margin(_LEAST_P):
            return 0.0
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.margin(math.exp(middle)) < abs(mean) else (middle, high)
        return math.exp(high)

    def chance(self, difference: float) -> float:
        """Return the probability that a two-sided test of 5 % finds a true difference.

        Over what the variance between runs may be estimated as: that of the runs' means is a chi-squared multiple of
        the true one, of which the part of both is taken off.

        Args:
            difference: The true difference.
        """
        if self.stderr == 0:
            return float(difference != 0)
        by_runs, by_users = self._quantiles(LEVEL / 2)
        estimated: np.ndarray = np.full(1, self.of_runs)
        if self.runs > 1:
            multiple = 2 * gammaincinv((self.runs - 1) / 2, _QUANTILES) / (self.runs - 1)
            estimated = np.maximum((self.of_runs + self.of_both) * multiple - self.of_both, 0.0)
        margins = np.sqrt(by_runs**2 * estimated + by_users**2 * self.of_users)
        found = ndtr((difference - margins) / self.stderr) + ndtr((-difference - margins) / self.stderr)
        return float(found.mean())

    def detectable(self, power: float = POWER) -> float:
        """Return the true difference that a two-sided test of 5 % finds with this probability.

        Args:
            power: The probability, above .05 and below 1.
        """
        if self.stderr == 0:
            return 0.0
        low, high = 0.0, self.stderr
        while self.chance(high) < power:
            low, high = high, 2 * high
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.chance(middle) >= power else (middle, high)
        return high

    def _quantiles(self, tail: float) -> tuple[float, float]:
        """Return the lower quantiles of runs and of users, whose squares alone are used."""
        by_runs = ndtri(tail) if self.runs == 1 else stdtrit(self.runs - 1, tail)
        return float(by_runs), float(stdtrit(max(1, self.users - 1), tail))


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

    def spread(self, *, users: int, runs: int) -> Spread:
        """Return the variance of the mean paired difference.

        Where the variance between runs is not known it is that over users alone.

        Args:
            users: Users that are evaluated, the same in every run.
            runs: Training runs.
        """
        return Spread(
            of_runs=(self.runs or 0.0) / runs,
            of_users=self.users / users + self.both / (users * runs),
            of_both=self.both / (users * runs),
            runs=runs,
            users=users,
        )

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

        def enough(users: int) -> bool:
            return self.spread(users=users, runs=runs).chance(difference) >= power

        if not enough(_MOST_USERS):
            return None
        low, high = _LEAST_USERS - 1, _LEAST_USERS
        while not enough(high):
            low, high = high, min(2 * high, _MOST_USERS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


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
