"""What runs on a worker: one cell, something that cells share, or the cells that measure a machine."""

from __future__ import annotations

import errno
import importlib
import logging
import os
from collections.abc import Callable
from typing import Any

from distributed import Worker, get_worker

from bench.cluster.replay import Replay, Stage, replaying
from bench.cluster.stamp import project_stamp
from bench.cluster.task import Answer, Task
from bench.store import provenance
from bench.store.cell import Cell
from illmrec.command_line import parse_options
from illmrec.errors import InputError, UnsupportedError

OUR_PACKAGES = ("illmrec", "baselines", "bench")

_stages: dict[str, Stage] = {}
"""The last stage that was reached in this process, by its program."""
_loaded: dict[Any, Any] = {}
"""Workspaces by their settings: data and LLM are loaded once in a process."""
_KEPT = 8
_RUNNER = "bench.harness.runner"


async def admit(stamp: str, resource: str, dask_worker: Worker) -> str:
    """Let a worker of the caller's version take cells; return the worker's version.

    Args:
        stamp: The caller's version of the project.
        resource: Of which the worker then has one: a cell asks for one, so that it is alone on its worker.
        dask_worker: Given by dask.
    """
    own = project_stamp()
    if own == stamp:
        await dask_worker.set_resources(**{resource: 1})
    return own


async def dismiss(resource: str, dask_worker: Worker) -> None:
    """Give no more cells to a worker."""
    await dask_worker.set_resources(**{resource: 0})


def run_task(task: Task) -> Answer:
    """Run a task on this worker."""
    worker = get_worker()
    forwarded = _Forwarded(worker, task.topic)
    loggers = [logging.getLogger(name) for name in OUR_PACKAGES]
    token = provenance.COMMAND.set(task.command)
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(forwarded)
        logger.setLevel(logging.INFO)
    try:
        return _answer(task, worker.address)
    finally:
        provenance.COMMAND.reset(token)
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(forwarded)
            logger.setLevel(level)


def _answer(task: Task, address: str) -> Answer:
    try:
        if not task.key:
            return _measured(task, address)
        stage, cell = _planned(task)
    except InputError as error:
        return Answer(kind="unfit", message=str(error), worker=address)
    if cell is None:
        reason = (
            "it plans other cells: its data, LLM, encoders or data type are others; give --dtype and --device, and a "
            "file system that all workers share"
        )
        return Answer(kind="unfit", message=reason, worker=address)
    try:
        if task.part:
            stage.prepare(cell, task.part)
            return Answer(kind="done", worker=address)
        done = stage.run([cell], keep=task.keep, wait=False, abandoned=task.abandoned)
    except UnsupportedError as error:
        return Answer(kind="unsupported", message=str(error), worker=address)
    except InputError as error:
        return Answer(kind="unfit" if _of_disk(error) else "input", message=str(error), worker=address)
    except Exception as error:
        if not task.part:
            raise
        # The cells that share it compute it themselves, and say what fails.
        return Answer(kind="failed", message=f"{type(error).__name__}: {error}", worker=address)
    if done.held:
        return Answer(kind="held", message=done.held[cell.key], worker=address)
    if done.failures:
        return Answer(kind="failed", message=done.failures[0].message, worker=address)
    return Answer(kind="done", worker=address)


def _planned(task: Task) -> tuple[Stage, Cell | None]:
    """Return the stage of a task and its cell, or None where it is not planned here."""
    stage = _stage(task)
    if task.key not in stage.cells:
        # Data may have changed since this process read them.
        _stages.clear()
        _loaded.clear()
        stage = _stage(task)
    return stage, stage.cells.get(task.key)


def _stage(task: Task) -> Stage:
    """Return the stage of a task, reached anew where another one was the last here."""
    if task.program not in _stages:
        _stages.clear()
        _stages[task.program] = _replayed(task)
    return _stages[task.program]


def _replayed(task: Task, inside: Callable[[Stage], None] | None = None) -> Stage:
    """Run a task's program up to its stage."""
    try:
        os.chdir(task.folder)
    except OSError as error:
        raise InputError(f"it has no folder {task.folder}: {error.strerror}") from error
    if len(_loaded) > _KEPT:
        _loaded.clear()
    main = importlib.import_module(task.module).main
    options = parse_options(main, prog=task.module, args=list(task.args))
    replay = Replay(stage=task.stage, known=task.known, inside=inside, loaded=_loaded)
    with replaying(replay):
        main(**options)
    if replay.found is None:
        raise InputError("the command ends here before it comes to these cells")
    return replay.found


def _measured(task: Task, address: str) -> Answer:
    """Run the cells of a stage that measure a machine: this one."""
    done: list[Any] = []

    def measure(stage: Stage) -> None:
        cells = [cell for cell in stage.cells.values() if "machine" in cell.config]
        done.append(stage.run(cells, keep=task.keep, wait=True))

    try:
        _replayed(task, measure)
    except UnsupportedError as error:
        return Answer(kind="unsupported", message=str(error), worker=address)
    (run,) = done
    return Answer(
        kind="done",
        worker=address,
        keys=tuple((record.experiment, record.key) for record in run.records),
        failures=tuple((failure.cell.label, failure.message) for failure in run.failures),
    )


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def _of_disk(error: BaseException) -> bool:
    """Tell whether an error comes from a disk that is full or cannot be written, which is this worker's alone."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _DISK


class _Forwarded(logging.Handler):
    """Sends log records to the caller."""

    def __init__(self, worker: Worker, topic: str) -> None:
        super().__init__()
        self._worker, self._topic = worker, topic

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _RUNNER and record.exc_info is None:
            return  # how many of this worker's one cell are done: the caller counts
        try:
            text = logging.Formatter("%(message)s").format(record)
            event = {"worker": self._worker.address, "level": record.levelno, "message": text}
            self._worker.log_event(self._topic, event)
        except Exception:
            self.handleError(record)
