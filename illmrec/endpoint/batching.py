"""Concurrent requests computed together: whatever waits when the model becomes free is one batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from illmrec.endpoint.limits import Limits
from illmrec.endpoint.meters import Meters
from illmrec.endpoint.refusals import Refusal

logger = logging.getLogger(__name__)

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Batcher(Generic[Question, Answer]):
    """Answers questions in batches, on one thread of its own: a model computes one batch at a time.

    Nothing waits for a batch to fill: a lone request is computed at once, and while it is, others gather.

    Args:
        compute: Returns an answer for each question, in their order.
        limits: How many may wait, are computed together, and how long one may take.
        meters: Where batches are counted.
    """

    def __init__(
        self, compute: Callable[[Sequence[Question]], Sequence[Answer]], *, limits: Limits, meters: Meters
    ) -> None:
        self._compute, self.limits, self.meters = compute, limits, meters
        self._waiting: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]] = asyncio.Queue(
            limits.max_queue
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer; called in the event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End after the batch that is computed; who still waits is refused."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._waiting.empty():
            _, future = self._waiting.get_nowait()
            if not future.done():
                future.set_exception(Refusal(503, "stopping", "the server is stopping", retry_after=5))
        self._thread.shutdown()

    async def ask(self, question: Question) -> Answer:
        """Return the answer to a question.

        Raises:
            Refusal: If too many wait already, or it takes too long.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((question, future))
        except asyncio.QueueFull:
            raise Refusal(503, "busy", "too many requests wait; come again", retry_after=1) from None
        self.meters.waiting = self._waiting.qsize()
        try:
            return await asyncio.wait_for(future, self.limits.timeout)
        except asyncio.TimeoutError:
            message = f"no answer within {self.limits.timeout:g} s; come again"
            raise Refusal(503, "timeout", message, retry_after=1) from None

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self.limits.max_batch and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            self.meters.waiting = self._waiting.qsize()
            # Who gave up or went away is not computed.
            await self._answer([entry for entry in batch if not entry[1].done()])

    async def _answer(self, batch: Sequence[tuple[Question, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        self.meters.batches.add(len(batch))
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(
                self._thread, self._compute, [question for question, _ in batch]
            )
        except Exception:
            logger.exception("a batch of %d requests failed", len(batch))
            for _, future in batch:
                if not future.done():
                    future.set_exception(
                        Refusal(500, "internal", "the model failed; the server's log says why")
                    )
            return
        except asyncio.CancelledError:
            for _, future in batch:
                if not future.done():
                    future.set_exception(Refusal(503, "stopping", "the server is stopping", retry_after=5))
            raise
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
