"""Which job a free worker takes next: dependencies first, then where the shared state is, then as they came.

The same rule hands out cells to real workers and, in :mod:`bench.suite.scaling_out`, to simulated ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Job:
    """A cell, or something that cells share.

    Attributes:
        name: Tells jobs apart.
        after: Names of the jobs that come before it.
        group: Jobs of a group share something that the worker of an earlier one holds; empty for none.
        resources: What it asks for of its worker.
    """

    name: str
    after: Collection[str] = ()
    group: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)


class Order:
    """Hands out jobs.

    Args:
        jobs: In the order in which they are wanted.

    Raises:
        ValueError: If a job comes after one that there is not, after itself, or twice.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = {job.name: job for job in jobs}
        if len(self._waiting) < len(jobs):
            raise ValueError("two jobs have one name")
        self._done: set[str] = set()
        self._home: dict[str, str] = {}
        self._check()

    def _check(self) -> None:
        left, reached = dict(self._waiting), set[str]()
        while free := [name for name, job in left.items() if reached.issuperset(job.after)]:
            reached.update(free)
            for name in free:
                del left[name]
        if left:
            raise ValueError(f"jobs that can never start: {', '.join(sorted(left))}")

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, worker: str, resources: Mapping[str, float] | None = None) -> Job | None:
        """Return the next job for a free worker, or None where none is ready for it.

        Args:
            worker: The worker.
            resources: What it has.
        """
        has = resources or {}
        fresh: Job | None = None
        elsewhere: Job | None = None
        for job in self._waiting.values():
            if not self._done.issuperset(job.after):
                continue
            if any(has.get(name, 0) < amount for name, amount in job.resources.items()):
                continue
            home = self._home.get(job.group)
            if home == worker:
                return self._given(job, worker)
            if home is None:
                fresh = fresh or job
            else:
                elsewhere = elsewhere or job
        chosen = fresh or elsewhere
        return None if chosen is None else self._given(chosen, worker)

    def _given(self, job: Job, worker: str) -> Job:
        del self._waiting[job.name]
        if job.group:
            self._home.setdefault(job.group, worker)
        return job

    def finish(self, job: Job) -> None:
        """Note that a job is done, whatever came of it: what comes after it may start."""
        self._done.add(job.name)

    def give_back(self, job: Job) -> None:
        """Hand a job out again, before all others: its worker was lost or cannot go on."""
        self._waiting = {job.name: job, **self._waiting}

    def forget(self, worker: str) -> None:
        """Note that a worker is no more, and with it what it held."""
        self._home = {group: home for group, home in self._home.items() if home != worker}


def in_order(
    cells: Sequence[str],
    parts: Mapping[str, Collection[str]],
    groups: Mapping[str, str],
    resources: Mapping[str, Mapping[str, float]],
) -> list[Job]:
    """Return the jobs of a grid: what cells share, then the cells; of a group the first comes before the others.

    Args:
        cells: Names of the cells, in the order in which they are wanted.
        parts: Of a cell, the names of what it shares with others and can be computed beforehand.
        groups: Of a cell, the group of those that share its state table or model.
        resources: Of a cell, what it asks for of its worker; what it shares asks for the same.
    """
    jobs: dict[str, Job] = {}
    first: dict[str, str] = {}
    for cell in cells:
        for part in parts.get(cell, ()):
            jobs.setdefault(part, Job(name=part, resources=resources.get(cell, {})))
    for cell in cells:
        group = groups.get(cell, "")
        after = {*parts.get(cell, ())}
        if group and first.setdefault(group, cell) != cell:
            after.add(first[group])
        jobs[cell] = Job(name=cell, after=after, group=group, resources=resources.get(cell, {}))
    return list(jobs.values())
