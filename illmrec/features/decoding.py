"""Pictures read and decoded ahead of an encoder, in threads or, of many, in processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

import numpy as np
from PIL import Image

from illmrec.data.dataset import ImageSource
from illmrec.errors import InputError
from illmrec.features.shards import split

logger = logging.getLogger(__name__)

MANY = 5_000
"""As many pictures and more are decoded in processes, which take seconds to start; fewer in threads."""
_AHEAD = 2  # batches that are read while one is encoded: memory holds these, whatever the number of pictures
_MOST_THREADS, _MOST_PROCESSES = 8, 16

Load = Callable[[Image.Image], Any]


class PictureReader:
    """Reads batches of pictures in order, some ahead of what is asked for."""

    def __init__(
        self,
        images: ImageSource,
        *,
        load: Load,
        stack: Callable[[list[Any]], Any],
        pictures: int,
        workers: int | None = None,
    ) -> None:
        """Describe the work; nothing starts before pictures are asked for.

        Args:
            images: Pictures by item row.
            load: Makes of a picture what the encoder reads.
            stack: Makes one batch of what was loaded.
            pictures: How many there are to read.
            workers: Processes that decode, 0 for threads of this one; None is one a core where there are
                :data:`MANY` pictures and threads below.

        Raises:
            InputError: If processes are wanted that cannot be handed the pictures.
        """
        self._images, self._load, self._stack = images, load, stack
        cores = _cores()
        self.processes = workers
        if workers is None:
            self.processes = min(_MOST_PROCESSES, cores) if pictures >= MANY else 0
        if self.processes and (fault := _not_portable(images, load)):
            if workers is not None:
                raise InputError(f"--workers {workers}: these pictures cannot be read in processes ({fault})")
            logger.info("pictures are decoded in threads: processes cannot be handed them (%s)", fault)
            self.processes = 0
        self.threads = 0 if self.processes else min(_MOST_THREADS, cores)
        self._executor: Executor | None = None

    def __enter__(self) -> PictureReader:
        """Return this reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """End processes or threads."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def described(self) -> dict[str, int]:
        """Return who reads, for the record of what the time depended on."""
        return {"processes": self.processes} if self.processes else {"decoding_threads": self.threads}

    def __call__(self, batches: Sequence[np.ndarray]) -> Generator[Any, None, None]:
        """Yield what the encoder reads of each batch of rows, in order.

        Raises:
            InputError: If a picture cannot be decoded, or a process ended by itself.
        """
        upcoming = iter(batches)
        pending: deque[list[Future[list[Any]]]] = deque()
        try:
            for batch in itertools.islice(upcoming, _AHEAD):
                pending.append(self._submitted(batch))
            while pending:
                loaded = [one for future in pending.popleft() for one in future.result()]
                for batch in itertools.islice(upcoming, 1):
                    pending.append(self._submitted(batch))
                yield self._stack(loaded)
        except BrokenProcessPool as error:
            raise InputError(
                "a process that decodes pictures was ended from outside, as happens where memory runs out: give fewer "
                "--workers; what is computed is kept"
            ) from error
        finally:
            for future in itertools.chain.from_iterable(pending):
                future.cancel()

    def _submitted(self, batch: np.ndarray) -> list[Future[list[Any]]]:
        """Hand out a batch in even shares, so that none waits for one worker."""
        executor, read = self._started()
        share = -(-len(batch) // (self.processes or self.threads))
        return [executor.submit(read, rows.tolist()) for rows in split(batch, share)]

    def _started(self) -> tuple[Executor, Callable[[list[int]], list[Any]]]:
        if self.processes:
            if self._executor is None:
                self._executor = ProcessPoolExecutor(
                    self.processes,
                    mp_context=_Context(),
                    initializer=_begin,
                    initargs=(self._images, self._load),
                )
            return self._executor, _read_in_process
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.threads, thread_name_prefix="pictures")
        return self._executor, partial(_read, self._images, self._load)


@contextlib.contextmanager
def _bare_main() -> Iterator[None]:
    """Hide the program that runs, which a new process would otherwise import: an experiment with all its libraries."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _bare_main():
            return SpawnProcess._Popen(process_obj)


class _Context(SpawnContext):
    """Starts new processes: a copy of this one would hold its locks and its device's state."""

    Process = _Process


def _read(images: ImageSource, load: Load, rows: list[int]) -> list[Any]:
    return [load(images.read(row)) for row in rows]


_own: Callable[[list[int]], list[Any]] | None = None  # of a process that decodes: what it reads


def _begin(images: ImageSource, load: Load) -> None:
    """Prepare a process that decodes: it ends when the process that reads does, and by nothing else."""
    global _own
    _own = partial(_read, images, load)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends its processes
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # a killed parent ends no one


def _read_in_process(rows: list[int]) -> list[Any]:
    assert _own is not None
    return _own(rows)


def _not_portable(images: ImageSource, load: Load) -> str | None:
    """Return why these cannot travel to another process, or None where they can."""
    try:
        with _bare_main():  # what the program itself defines is not known there
            pickle.dumps((images, load))  # our own objects, to our own processes: nothing is read from a file
    except Exception as error:  # whatever a source of one's own holds
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return None


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def explained(
    read: Callable[[Sequence[np.ndarray]], Iterator[Any]], error_of: Callable[[], InputError | None]
) -> Callable[[Sequence[np.ndarray]], Generator[Any, None, None]]:
    """Return a reader whose error on a picture is another, which says more.

    Args:
        read: The reader.
        error_of: Gives the error to raise in place of one, or None to leave it.
    """

    def reading(batches: Sequence[np.ndarray]) -> Generator[Any, None, None]:
        try:
            yield from read(batches)
        except InputError as error:
            raise error_of() or error from error

    return reading
