"""Each result logged once, whether it was computed now or found, and a tracker that fails in mid-run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from bench.store.cell import Record
from bench.store.store import Store
from bench.trackers.mlflow_runs import MLflowRuns
from bench.trackers.names import TrackerName
from bench.trackers.tensorboard_runs import TensorBoardRuns
from bench.trackers.tracked import Tracker, run_id, tracked
from bench.trackers.trackio_runs import TrackioRuns
from bench.trackers.wandb_runs import WandbRuns
from illmrec.errors import InputError
from illmrec.files import atomic_write_text, hash_json
from illmrec.locks import exclusive
from illmrec.model import processes

logger = logging.getLogger(__name__)

TRACKERS: dict[TrackerName, Callable[[Path], Tracker]] = {
    "mlflow": MLflowRuns,
    "tensorboard": TensorBoardRuns,
    "trackio": TrackioRuns,
    "wandb": WandbRuns,
}


class Tracking:
    """Logs results to a tracker.

    A note below ``OUT/tracking`` says what was logged where, so that a cell that is found in the store is logged if it
    was not before, and never twice. Of several processes the main one logs.

    Args:
        name: The tracker.
        store: Where results are.

    Raises:
        InputError: If its package is missing or it cannot be reached: before anything is computed.
    """

    def __init__(self, name: TrackerName, store: Store) -> None:
        self.name, self.store = name, store
        self._failed = False
        if not processes.is_main():
            return
        self.tracker = TRACKERS[name](store.out)
        try:
            self.tracker.check()
        except InputError:
            raise
        except Exception as error:  # of the tracker's own kinds, which are many
            raise InputError(
                f"--track {name}: {self.tracker.destination} does not answer ({_reason(error)}); "
                "start it, or leave --track out: results that are stored are logged by a later run"
            ) from error
        self._notes = store.out / "tracking" / "logged" / f"{name}-{hash_json(self.tracker.destination)}"
        logger.info("results go to %s: %s", name, self.tracker.destination)

    def log(self, record: Record) -> None:
        """Log a result, unless it was logged before.

        A tracker that fails now does not stop the experiment: it is said once, and the rest is left to a later run.
        """
        if self._failed or not processes.is_main():
            return
        note = self._notes / run_id(record)
        if note.exists():
            return
        try:
            with exclusive(self._notes / "all", f"logging to {self.name}"):
                if not note.exists():
                    self.tracker.log(tracked(record, self.store))
                    atomic_write_text(note, f"{record.experiment} {record.key}\n")
        except Exception as error:
            self._failed = True
            logger.warning(
                "%s fails (%s): the experiment goes on without it; the same command logs what is missing",
                self.name,
                _reason(error),
            )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
