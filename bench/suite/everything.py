"""``python -m bench all``: every experiment, each in a process of its own, and the report at the end.

A process each costs some seconds of start-up, and buys that memory is measured as if the experiment ran alone, that
one that runs out of memory takes no other with it, and that the command stored beside a result is one that can be
typed. What they share, they share through the store and the cache.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from tqdm import tqdm

from bench.frames.experiment import Experiment
from bench.harness.settings import Settings
from bench.store.results import build_report, print_table
from bench.store.shared import open_store
from bench.suite.catalogue import chosen
from bench.suite.options import experiment_options, option_list
from bench.suite.words import in_words
from illmrec.command_line import EXIT_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated
from illmrec.errors import InputError
from illmrec.model import processes

logger = logging.getLogger(__name__)

_TAIL_BYTES = 16_384
_GRACE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """How an experiment ended.

    Attributes:
        name: The experiment.
        outcome: ``done``; ``skipped``, because the data cannot support it; or ``failed``.
        seconds: How long it took.
        reason: Why it was skipped or failed, in one line.
    """

    name: str
    outcome: Literal["done", "skipped", "failed"]
    seconds: float
    reason: str = ""


def main(settings: Settings, *, experiments: tuple[str, ...] = ()) -> int:
    """Run every experiment with the same options, say what that costs before, and build the report once at the end.

    What is stored already is not computed again, so the same command resumes after an interruption. An experiment
    that the data cannot support is skipped; the list at the end says why. The exit status is 1 only where one failed.

    Args:
        settings: Data, model and training, for all of them.
        experiments: Run only these, in the order of python -m bench list; all by default.
    """
    if processes.count() > 1:
        raise InputError(
            "bench all starts each experiment as a program of its own: start it without a launcher, or experiments one "
            "by one with it: accelerate launch -m bench.ablation"
        )
    to_run = chosen(experiments)
    store = open_store(settings.out, settings.store)
    store.check_writable()
    if settings.overwrite != "only-cache":
        # Also finds bad data or a bad LLM, once for all.
        listing = ["list", *option_list(settings), "--table", str(_estimates(settings.out))]
        status, _ = run_program("bench", [*listing, *_only(experiments)])
        if status:
            return status
    results: list[Result] = []
    with tqdm(total=len(to_run), desc="bench all", unit="experiment", disable=not settings.progress) as bar:
        for experiment in to_run:
            bar.set_postfix_str(experiment.name)
            results.append(run_experiment(experiment, settings))
            bar.update()
    if settings.report:
        build_report(settings.out, settings.pricing().options())
    print_table(outcomes(results, _estimates(settings.out)), title="Experiments")
    for outcome in ("skipped", "failed"):
        for result in results:
            if result.outcome == outcome:
                print(f"{outcome}: {result.name}: {result.reason}", flush=True)
    return int(any(result.outcome == "failed" for result in results))


def outcomes(results: Sequence[Result], estimates: Path) -> pd.DataFrame:
    """Return how each experiment ended, how long it took, and how far that is from what was expected.

    Args:
        results: Of the experiments.
        estimates: What ``bench list`` has written; where it is missing, nothing was expected.

    Returns:
        Columns experiment, outcome, time, and of those that are done expected and off: time over expectation.
    """
    table = pd.DataFrame(
        [(result.name, result.outcome, in_words(result.seconds)) for result in results],
        columns=["experiment", "outcome", "time"],
    )
    if not estimates.is_file():
        return table
    expected = pd.read_csv(estimates).set_index("experiment")["seconds"]
    known = [expected.get(result.name, 0.0) if result.outcome == "done" else 0.0 for result in results]
    pairs = list(zip(results, known, strict=True))
    return table.assign(
        expected=[in_words(seconds) if seconds else "" for _, seconds in pairs],
        off=[f"{result.seconds / seconds:.1f} times" if seconds else "" for result, seconds in pairs],
    )


def _estimates(out: Path) -> Path:
    return out / "tables" / "estimates.csv"


def run_experiment(experiment: Experiment, settings: Settings) -> Result:
    """Run an experiment in a process of its own and say how it ended.

    Raises:
        KeyboardInterrupt: If it was interrupted.
    """
    arguments = experiment_options(experiment, settings)
    logger.info("python -m %s %s", experiment.module, shlex.join(arguments))
    began = time.monotonic()
    status, tail = run_program(experiment.module, arguments)
    seconds = time.monotonic() - began
    if status == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if status == EXIT_TERMINATED:
        raise Terminated
    if status == EXIT_INPUT:
        return Result(name=experiment.name, outcome="skipped", seconds=seconds, reason=_error_line(tail))
    if status:
        return Result(name=experiment.name, outcome="failed", seconds=seconds, reason=_failure(status, tail))
    return Result(name=experiment.name, outcome="done", seconds=seconds)


def run_program(module: str, arguments: Sequence[str]) -> tuple[int, str]:
    """Run ``python -m MODULE`` with its output shown as it comes.

    Returns:
        Its exit status, negative if a signal ended it, and the end of what it wrote to stderr.

    Raises:
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after the program has ended too.
    """
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stderr=subprocess.PIPE)
    tail = b""
    if process.stderr is None:
        raise RuntimeError("stderr of the program is not a pipe")
    try:
        while chunk := os.read(process.stderr.fileno(), 8192):
            _show(chunk)
            tail = (tail + chunk)[-_TAIL_BYTES:]
        return process.wait(), tail.decode(errors="replace")
    except KeyboardInterrupt:
        _end(process)
        raise
    finally:
        process.stderr.close()


def _only(experiments: Sequence[str]) -> list[str]:
    return ["--experiments", ",".join(experiments)] if experiments else []


def _show(chunk: bytes) -> None:
    """Pass on what a program wrote to stderr; a stream without bytes underneath, as in a test, gets text."""
    raw = getattr(sys.stderr, "buffer", None)
    if raw is None:
        sys.stderr.write(chunk.decode(errors="replace"))
    else:
        raw.write(chunk)
    sys.stderr.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for an interrupted program: Ctrl-C in a terminal reached it too, a signal to this process alone did not."""
    try:
        process.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _error_line(tail: str) -> str:
    """Return what a program says cannot be used."""
    found = [line for line in tail.splitlines() if line.startswith("error: ")]
    return found[-1].removeprefix("error: ") if found else "it says that its input cannot be used; see above"


def _failure(status: int, tail: str) -> str:
    """Return why a program failed, in one line."""
    if status < 0:
        name = signal.Signals(-status).name
        memory = ", as when memory runs out" if name == "SIGKILL" else ""
        return f"ended by {name}{memory}"
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    cells = [line.partition("failed: ")[2] for line in lines if " failed: " in line and "ERROR" in line]
    return (cells or lines or [f"exit status {status}"])[-1]
