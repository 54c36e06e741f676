"""Methods compared user by user: NDCG@10 from stored ranks, bootstrap intervals, permutation tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from bench.protocol.metrics import per_user
from bench.protocol.statistics import Difference, paired_bootstrap, paired_permutation
from bench.store.cell import Record
from bench.store.store import Store

METRIC = "ndcg@10"
_DRAWS = 4_000_000
"""Bound on resamples times users: a large data set has narrow intervals already from fewer resamples."""


class Ranks:
    """NDCG@10 of every user from the ranks stored beside accuracy cells; each file is read once.

    Args:
        store: The store of the cells.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._values: dict[str, pd.DataFrame | None] = {}

    def values(self, record: Record, candidates: str = "sampled") -> pd.Series | None:
        """Return NDCG@10 of each user, float64 indexed by user_id, or None where a cell has no ranks.

        Args:
            record: An accuracy cell.
            candidates: ``sampled`` or ``full``.

        Raises:
            InputError: If the ranks cannot be read.
        """
        if record.key not in self._values:
            self._values[record.key] = self._read(record)
        values = self._values[record.key]
        return None if values is None else values[candidates]

    def paired(
        self,
        first: Iterable[Record],
        second: Iterable[Record],
        candidates: str = "sampled",
        users: Collection[str] | None = None,
    ) -> pd.DataFrame | None:
        """Return NDCG@10 of the users that two methods have in common, on the same seeds.

        Args:
            first: Cells of one method, one per seed.
            second: Cells of the other.
            candidates: ``sampled`` or ``full``.
            users: Only these users.

        Returns:
            Columns first and second, means over the common seeds, indexed by user_id; None where no seed has ranks of
            both, or no user is left.
        """
        others = {record.seed: record for record in second}
        pairs = []
        for record in first:
            if record.seed in others:
                left = self.values(record, candidates)
                right = self.values(others[record.seed], candidates)
                if left is not None and right is not None:
                    pairs.append(pd.concat({"first": left, "second": right}, axis="columns", join="inner"))
        if not pairs:
            return None
        together = pd.concat(pairs)
        if users is not None:
            together = together[together.index.isin(list(users))]
        if together.empty:
            return None
        return together.sort_index() if len(pairs) == 1 else together.groupby(level=0).mean()

    def p_value(self, first: Iterable[Record], second: Iterable[Record], candidates: str) -> float | None:
        """Return the p value of the paired permutation test between two methods, or None without their ranks."""
        both = self.paired(first, second, candidates)
        if both is None:
            return None
        return paired_permutation(both["first"], both["second"], resamples=_resamples(9999, len(both)))

    def _read(self, record: Record) -> pd.DataFrame | None:
        if not (record.folder / "ranks.parquet").is_file():
            return None
        ranks = self.store.read_frame(record, "ranks").set_index("user_id")
        return pd.DataFrame(
            {
                candidates: per_user(ranks[f"rank_{candidates}"].to_numpy())[METRIC]
                for candidates in ("sampled", "full")
            },
            index=ranks.index,
        )


def interval(both: pd.DataFrame) -> Difference:
    """Return mean and 95 % bootstrap interval over users of ``first - second``.

    Args:
        both: What ``Ranks.paired`` returns.
    """
    return paired_bootstrap(both["first"], both["second"], resamples=_resamples(2000, len(both)))


def _resamples(most: int, users: int) -> int:
    return max(min(most, _DRAWS // users), min(most, 999))
