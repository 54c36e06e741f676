"""A scheduler and the workers that are let in: those of another version are refused, those that cannot go on leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.cluster.stamp import project_stamp
from illmrec.errors import InputError
from illmrec.files import hash_json

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)
T = TypeVar("T")

_AWAY = (OSError, TimeoutError, asyncio.TimeoutError)  # the last two are one from Python 3.11 on
CONNECT_SECONDS = 20.0
PATIENCE_SECONDS = 600.0
"""How long a run waits while no worker is there that it may use."""
_LOOK_SECONDS = 0.5


class Connection:
    """The scheduler of a run and its workers.

    Args:
        client: Connected to the scheduler.
        address: The scheduler, as the user names it.
        log: The file that log records of all workers go to.
        close: Ends what was started for this run alone.
        local: All workers run on this machine.

    Attributes:
        resource: What a cell asks for; each worker that was let in has one.
        topic: Where workers send their log records.
        workers: Addresses of the workers that were let in, and the resources that each has.
    """

    def __init__(
        self, client: Client, *, address: str, log: Path, close: Callable[[], None], local: bool
    ) -> None:
        self.client, self.local = client, local
        self._address, self._log, self._close = address, log, close
        self._stamp = project_stamp()
        self.resource = f"illmrec-{hash_json(self._stamp)}"
        self.topic = f"illmrec-{uuid.uuid4().hex[:12]}"
        self.workers: dict[str, dict[str, float]] = {}
        self._names: dict[str, str] = {}
        self._out: set[str] = set()
        self._looked = 0.0
        self._waiting_since = time.monotonic()
        self._reason = "no worker has come"
        self.ask(lambda: client.subscribe_topic(self.topic, self._show))

    def ask(self, question: Callable[[], T]) -> T:
        """Ask the scheduler something.

        Raises:
            InputError: If it went away.
        """
        try:
            if self.client.status != "running":
                raise OSError("no connection")
            return question()
        except (*_AWAY, asyncio.CancelledError) as error:
            raise self.gone() from error

    def gone(self) -> InputError:
        """Return what is said when the scheduler is no more."""
        return InputError(
            f"the scheduler {self._address} went away: finished cells are kept, the same command resumes when a "
            "scheduler is there"
        )

    def look(self) -> None:
        """Let new workers in, or refuse them; notice those that left.

        Raises:
            InputError: If the scheduler went away, or no worker was there for long that could be used.
        """
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            self.ask(lambda: None)
            return
        self._looked = time.monotonic()
        there = self.ask(lambda: self.client.scheduler_info(n_workers=-1)["workers"])
        for address in [address for address in self.workers if address not in there]:
            del self.workers[address]
            self._warn(f"worker {self._names[address]} was lost: what it computed goes to another one")
        new = [address for address in there if address not in self.workers and address not in self._out]
        if new:
            self._names |= {address: str(there[address]["name"]) for address in new}
            self._let_in({address: dict(there[address]["resources"]) for address in new})
        if self.workers:
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > PATIENCE_SECONDS:
            raise InputError(
                f"no worker of the scheduler {self._address} can compute cells: {self._reason}; finished cells are kept"
            )

    def _let_in(self, new: dict[str, dict[str, float]]) -> None:
        from bench.cluster.worker import admit

        answers = self.ask(
            lambda: self.client.run(admit, self._stamp, self.resource, workers=list(new), on_error="return")
        )
        for address, resources in new.items():
            name, answer = self._names[address], answers.get(address)
            if answer == self._stamp:
                self.workers[address] = resources
                logger.info("worker %s at %s computes cells", name, address)
                continue
            has = f"has {answer}" if isinstance(answer, str) else f"cannot say its version ({answer!r})"
            self._out.add(address)
            self._reason = f"worker {name} {has}, this is {self._stamp}"
            self._warn(f"worker {name} at {address} is refused: it {has}, and this is illmrec {self._stamp}")

    def dismiss(self, address: str, reason: str) -> None:
        """Give no more cells to a worker, and say why.

        Raises:
            InputError: If the scheduler went away, or this was the last worker.
        """
        from bench.cluster.worker import dismiss

        if address in self._out:
            return
        self._out.add(address)
        self.workers.pop(address, None)
        name = self._names[address]
        self._reason = f"worker {name}: {reason}"
        self._warn(f"worker {name} computes no more cells: {reason}")
        self.ask(lambda: self.client.run(dismiss, self.resource, workers=[address], on_error="return"))
        if not self.workers:
            raise InputError(
                f"no worker is left that can compute cells; {self._reason}; finished cells are kept"
            )

    def close(self) -> None:
        """Leave the scheduler, and end it and its workers where they were started for this run."""
        with contextlib.suppress(Exception), _quiet():
            self._close()

    def _show(self, event: tuple[float, Any]) -> None:
        """Show a worker's log record here, and keep it in the store's log."""
        _, message = event
        if not isinstance(message, dict):
            return
        address = str(message.get("worker"))
        text = f"[{self._names.get(address, address)}] {message.get('message')}"
        logger.log(int(message.get("level", logging.INFO)), "%s", text)
        self.note(text)

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self.note(text)

    def note(self, text: str) -> None:
        """Write a line to the store's log, which this process alone writes; a full disk does not end the run."""
        with contextlib.suppress(OSError):
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(timezone.utc).isoformat(timespec='seconds')} {text}\n")


def connect(*, workers: int, scheduler: str | None, out: Path) -> Connection:
    """Connect to a scheduler, or start one with workers on this machine.

    Args:
        workers: Processes to start here; 0 where there is a scheduler.
        scheduler: Its address, ``tcp://HOST:PORT``.
        out: The output folder, for the log.

    Raises:
        InputError: If dask.distributed is not installed, or the scheduler does not answer.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        option = "--workers" if scheduler is None else "--scheduler"
        raise InputError(f"{option} needs dask.distributed: run 'pip install illmrec[cluster]'") from None
    # What it has to say of lost connections is said here in one line.
    for name in ("distributed", "distributed.client", "distributed.core", "distributed.batched"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    log = out / "store" / "logs" / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{os.getpid()}.log"
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (*_AWAY, ValueError) as error:
            raise InputError(
                f"--scheduler {scheduler}: no answer ({' '.join(str(error).split()) or type(error).__name__}); "
                "start one: dask scheduler"
            ) from error
        return Connection(client, address=scheduler, log=log, close=client.close, local=False)
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address=None,
        env={name: os.environ.get(name, threads) for name in names},
        silence_logs=logging.CRITICAL,
    )
    client = Client(cluster, set_as_default=False)

    def close() -> None:
        client.close()
        cluster.close()

    return Connection(client, address="of this machine", log=log, close=close, local=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep libraries from telling how a connection ended that was to end."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
