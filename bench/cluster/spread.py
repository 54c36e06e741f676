"""The cells of one stage on the workers of a scheduler: what they share first, then cells, one a worker."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.cluster.connection import Connection
from bench.cluster.order import Job, Order, in_order
from bench.cluster.task import Answer, Needs, Task
from bench.cluster.worker import run_task
from bench.store.cell import Cell
from bench.store.store import Store

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_HELD_SECONDS = 2.0
"""How often a cell that another run computes is looked at."""
LOSSES = 3
"""A cell whose worker was lost so many times is given up: it may be what kills them."""


@dataclass(frozen=True, kw_only=True)
class _Going:
    """A job on its worker."""

    job: Job
    worker: str
    future: Any


class Spread:
    """Cells of one stage on the workers of a scheduler.

    Args:
        connection: The scheduler.
        task: The stage; its key is filled in for each cell.
        needs: By key of a cell, what it needs.
        store: Where workers leave results, for claims that are watched.
    """

    def __init__(
        self, connection: Connection, task: Task, *, needs: Mapping[str, Needs], store: Store
    ) -> None:
        self._connection, self._needs, self._store = connection, needs, store
        self._task = replace(task, topic=connection.topic)
        self._tasks: dict[str, Task] = {}
        self._going: dict[str, _Going] = {}
        self._held: dict[str, _Watched] = {}
        self._lost: Counter[str] = Counter()
        self._submitted = 0

    def run(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Answer]]:
        """Compute cells; yield each with how it ended, as they end.

        A cell whose worker is lost, cannot go on or meets another run's claim is computed again elsewhere or later.

        Raises:
            InputError: If the scheduler went away, or no worker is left. What is finished is in the store.
        """
        by_key = {cell.key: cell for cell in cells}
        order = self._ordered(list(by_key))
        try:
            while len(order) or self._going or self._held:
                self._connection.look()
                self._hand_out(order)
                for job, answer in self._ended(order):
                    cell = by_key.get(job.name)
                    if cell is None:  # something shared; the cells say what fails
                        order.finish(job)
                    elif answer.kind == "held":
                        logger.info("waiting for another run that computes %s", cell.label)
                        self._held[cell.key] = _Watched(job, self._store.claim(cell))
                    else:
                        order.finish(job)
                        yield cell, answer
                self._try_held_again(order)
                time.sleep(_POLL_SECONDS)
        finally:
            self._cancel()

    def measure(self) -> Answer:
        """Run the cells of the stage that measure a machine, all of them on one worker that does nothing else."""
        order = Order([Job(name="measure")])
        self._tasks = {"measure": self._task}
        try:
            while True:
                self._connection.look()
                self._hand_out(order)
                for _, answer in self._ended(order):
                    return answer
                time.sleep(_POLL_SECONDS)
        finally:
            self._cancel()

    def _ordered(self, keys: Sequence[str]) -> Order:
        """Return the jobs of cells, and note the task of each."""
        needs = {key: self._needs.get(key, Needs()) for key in keys}
        for key in keys:
            self._tasks[key] = replace(self._task, key=key)
            for name, part in needs[key].parts.items():
                self._tasks.setdefault(part, replace(self._task, key=key, part=name))
        return Order(
            in_order(
                keys,
                {key: need.parts.values() for key, need in needs.items()},
                {key: need.group for key, need in needs.items()},
                {key: need.resources for key, need in needs.items()},
            )
        )

    def _hand_out(self, order: Order) -> None:
        """Give each worker that is free a job."""
        busy = {going.worker for going in self._going.values()}
        for worker, resources in list(self._connection.workers.items()):
            if worker in busy:
                continue
            job = order.take(worker, resources)
            if job is not None:
                future = self._submit(self._tasks[job.name], worker, job.resources)
                self._going[job.name] = _Going(job=job, worker=worker, future=future)

    def _submit(self, task: Task, worker: str, resources: Mapping[str, float]) -> Any:
        self._submitted += 1
        wanted = {**resources, self._connection.resource: 1}
        name = f"{self._connection.topic}-{task.stage}-{self._submitted}-{task.part or 'cell'}"
        client = self._connection.client
        return self._connection.ask(
            lambda: client.submit(run_task, task, workers=[worker], resources=wanted, key=name, pure=False)
        )

    def _ended(self, order: Order) -> list[tuple[Job, Answer]]:
        """Return what has ended; jobs whose worker was lost or cannot go on are handed out again."""
        ended = []
        for name, going in list(self._going.items()):
            if going.future.done():
                del self._going[name]
                answer = self._answer(going)
                if answer.kind != "unfit":
                    ended.append((going.job, answer))
                    continue
                order.give_back(going.job)
                self._connection.dismiss(going.worker, answer.message)
            elif going.worker not in self._connection.workers:
                del self._going[name]
                self._connection.ask(going.future.cancel)
                self._lost[name] += 1
                if self._lost[name] < LOSSES:
                    order.give_back(going.job)
                else:
                    reason = f"{LOSSES} workers were lost while they computed it, as when memory runs out"
                    ended.append((going.job, Answer(kind="failed", message=reason)))
            else:
                continue
            if going.worker not in self._connection.workers:
                order.forget(going.worker)
        return ended

    def _answer(self, going: _Going) -> Answer:
        """Return how a task ended; one that was cancelled was lost with its scheduler."""
        future = going.future
        if future.status == "finished":
            answer = self._connection.ask(future.result)
            if not isinstance(answer, Answer):
                raise TypeError(f"a worker answered with {type(answer).__name__}")
            return answer
        if future.status != "error":
            raise self._connection.gone()
        error = self._connection.ask(future.exception)
        return Answer(kind="failed", message=f"{type(error).__name__}: {error}")

    def _try_held_again(self, order: Order) -> None:
        """Hand out cells of other runs whose claims are free."""
        for key, watched in list(self._held.items()):
            if watched.free():
                del self._held[key]
                self._tasks[key] = replace(self._tasks[key], abandoned=(watched.claim.holder,))
                order.give_back(watched.job)

    def _cancel(self) -> None:
        """Take back what was not started; what runs on a worker ends there, and its result is stored."""
        client = self._connection.client
        if self._going and client.status == "running":
            client.cancel([going.future for going in self._going.values()])
        self._going.clear()


class _Watched:
    """A cell that another run computes.

    Args:
        job: The cell's.
        claim: The other run's.
    """

    def __init__(self, job: Job, claim: Any) -> None:
        self.job, self.claim = job, claim
        self._looked = 0.0

    def free(self) -> bool:
        """Tell whether the cell can be tried again: its claim is free, or its last owner gave no sign of life."""
        if time.monotonic() - self._looked < _HELD_SECONDS:
            return False
        self._looked = time.monotonic()
        return bool(self.claim.vacant())
