"""Methods compared user by user: NDCG@10 from stored ranks, with intervals over training runs and users."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from bench.protocol.metrics import by_user
from bench.store.cell import Record
from bench.store.store import Store

METRIC = "ndcg@10"


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
        """Return NDCG@10 of two methods on the seeds and users that they have in common.

        Args:
            first: Cells of one method, one per seed.
            second: Cells of the other.
            candidates: ``sampled`` or ``full``.
            users: Only these users.

        Returns:
            Columns first and second, indexed by seed and user_id; None where no seed has ranks of both, or no user is
            left.
        """
        others = {record.seed: record for record in second}
        pairs = {}
        for record in first:
            if record.seed in others:
                left = self.values(record, candidates)
                right = self.values(others[record.seed], candidates)
                if left is not None and right is not None:
                    both = pd.concat({"first": left, "second": right}, axis="columns", join="inner")
                    pairs[record.seed] = both
        if not pairs:
            return None
        together = pd.concat(pairs, names=["seed", "user_id"])
        if users is not None:
            together = together[together.index.isin(list(users), level="user_id")]
        return None if together.empty else together.sort_index()

    def _read(self, record: Record) -> pd.DataFrame | None:
        if not (record.folder / "ranks.parquet").is_file():
            return None
        ranks = self.store.read_frame(record, "ranks")
        return pd.DataFrame(
            {candidates: by_user(ranks, candidates, metric=METRIC) for candidates in ("sampled", "full")}
        )
