"""Programs run as processes of their own without importing everything anew: forked from one that has imported it.

A fresh interpreter takes five seconds for torch and transformers before a program does anything. Here a server that has
only imported, and computed nothing, is forked for each run, with arguments, folder and environment of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
IMPORTED = (
    "bench.__main__", "bench.comparison", "bench.efficiency", "bench.ablation", "reports.report",
    # What they import when they run.
    "transformers.models.llama.modeling_llama", "transformers.models.auto.image_processing_auto",
    "matplotlib.backends.backend_agg", "baselines.recbole_models", "recbole.trainer",
    "recbole.model.sequential_recommender",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that ended: its exit status (negative: the signal that killed it) and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


def start_program(
    module: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    output: Path,
    path: Sequence[Path] = (ROOT,),
    environment: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Start ``python -m MODULE ARGUMENTS``.

    Args:
        module: What follows ``-m``.
        arguments: What follows it.
        folder: Where it runs.
        output: A folder for the files ``stdout`` and ``stderr``.
        path: What ``PYTHONPATH`` would name.
        environment: In place of this process's.
    """
    environment = dict(os.environ if environment is None else environment)
    process = _context().Process(
        target=_run,
        args=(module, tuple(arguments), str(folder), str(output), tuple(map(str, path)), environment),
    )
    process.start()
    return process


def run_program(
    module: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    path: Sequence[Path] = (ROOT,),
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end; arguments are those of :func:`start_program`."""
    with TemporaryDirectory() as output:
        process = start_program(
            module, arguments, folder=folder, output=Path(output), path=path, environment=environment
        )
        process.join()
        assert process.exitcode is not None
        printed = [(Path(output) / name).read_text("utf-8", "replace") for name in ("stdout", "stderr")]
        return Finished(returncode=process.exitcode, stdout=printed[0], stderr=printed[1])


def _run(
    module: str,
    arguments: tuple[str, ...],
    folder: str,
    output: str,
    path: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    """Be the program: in the forked process."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(Path(output) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [folder, *path]
    sys.argv = [module, *arguments]
    # runpy says so of a module that the server has imported already
    warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
    with contextlib.suppress(BrokenPipeError):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
