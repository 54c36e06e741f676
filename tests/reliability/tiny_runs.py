"""The commands that are disturbed: small enough to run in a second, each a forked copy of a process that has imported.

What a run left is compared with what an undisturbed one leaves: tables, results of cells and users' ranks, but for
columns of times.
"""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import hostile_server
import llm_models
import pandas as pd
import publishers
import sentence_models
import vision_models
from tqdm import tqdm

import reports.__main__ as reports_main
from bench import ablation, comparison, tune
from illmrec.command_line import run
from illmrec.data import commands
from illmrec.data.fetching.transport import AddressRules
from illmrec.data.registry import source_named

_TINY = (
    *("--preset", "smoke", "--users", "16", "--items", "40", "--min-interactions", "1", "--negatives", "5"),
    *("--layers", "1", "--hidden", "16", "--shared", "8", "--history-length", "3", "--instruction", "before"),
    *("--epochs", "1", "--cf-epochs", "1", "--batch-size", "8", "--token-budget", "4096"),
    *("--no-progress", "--no-report"),
    *("--dtype", "float32"),  # "auto" takes what is faster at the moment, and results differ by it
)
_TIMES = ("seconds", "created", "hours", "_ms", "per_second", "date", "cost")
_HELD_BACK = {signal.SIGINT, signal.SIGTERM}
OUTSIDE = 98
"""Exit status of a process that was interrupted outside of the command."""
TEMPORARY = (".tmp-*", ".probe-*", ".states-*", "*.part", "*.part.json", "*.partial", "illmrec-*", "tmp*")
"""What a run may leave only as long as nobody has run the same command again."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended.

    Attributes:
        status: Its exit status; negative for the signal that killed it.
        errors: What it said on stderr.
        seconds: How long it took.
        pid: Its process.
    """

    status: int
    errors: str
    seconds: float
    pid: int


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run reads and writes.

    Attributes:
        folder: All of it.
    """

    folder: Path

    @property
    def out(self) -> Path:
        """Results."""
        return self.folder / "out"

    @property
    def cache(self) -> Path:
        """Features, states, downloads."""
        return self.folder / "cache"

    @property
    def temporary(self) -> Path:
        """What ``TMPDIR`` names."""
        return self.folder / "temporary"

    def leftovers(self) -> list[str]:
        """Return what is there of an unfinished run."""
        found = {path for pattern in TEMPORARY for path in self.folder.rglob(pattern)}
        return sorted(str(path.relative_to(self.folder)) for path in found if path != self.temporary)

    def outcome(self) -> dict[str, Any]:
        """Return everything that has to be the same after each undisturbed end, and that readers are shown."""
        found: dict[str, Any] = {}
        for path in sorted(self.out.rglob("*.csv")):
            table = pd.read_csv(path)
            kept = [name for name in table.columns if not any(part in name for part in _TIMES)]
            found[str(path.relative_to(self.out))] = table[kept].to_csv(index=False, float_format="%.6g")
        for path in sorted((self.out / "store" / "cells").glob("*/[!.]*/*")):  # hidden ones are being written
            name = str(path.relative_to(self.out))
            if path.suffix == ".parquet":
                frame = pd.read_parquet(path)
                kept = [column for column in frame.columns if not any(part in column for part in _TIMES)]
                found[name] = frame[kept].to_csv(index=False, float_format="%.6g")
            elif path.name == "cell.json":
                found[name] = json.loads(path.read_text(encoding="utf-8"))["results"].get("sampled")
        for path in sorted((self.cache / "data-sets" / "built").rglob("*")):
            if path.is_file() and path.suffix in (".parquet", ".zip"):
                found[str(path.relative_to(self.cache))] = hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((self.out / "figures").glob("*")):
            found[str(path.relative_to(self.out))] = path.stat().st_size > 0
        return found


class Runs:
    """The commands, with what they need.

    Args:
        folder: Where models, publisher's files and runs go.
    """

    def __init__(self, folder: Path) -> None:
        self._inputs = folder / "inputs"
        self._places = folder / "places"
        self._number = 0
        self._base = ""
        self._inputs.mkdir(parents=True, exist_ok=True)
        llm = llm_models.save_llm(self._inputs / "llm")
        vision = vision_models.save_model(self._inputs / "vision", "clip")
        text = sentence_models.save_sentence_model(self._inputs / "text", "mean", self._inputs / "work")
        self._tiny = [*_TINY, "--llm", str(llm), "--vision", str(vision), "--text", str(text)]
        self.commands: dict[str, Callable[[Place], int]] = {
            "ablation": self._experiment(ablation.main, "--rows", "c"),
            "states": self._experiment(
                comparison.main, "--methods", "illmrec,popularity", "--strategy", "cached"
            ),
            "report": lambda place: run(
                reports_main.main, prog="reports", args=["--out", str(place.out), "--format", "svg"]
            ),
            "download": self._download,
            "study": self._experiment(tune.main, "--methods", "item-knn", "--trials", "3"),
            "recbole": self._experiment(comparison.main, "--methods", "sasrec,popularity", "--seeds", "0,1"),
        }

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Serve the publisher's files; fill the store that reports are built from."""
        with _served(self._inputs / "published") as self._base:
            gc.collect()
            gc.freeze()  # else each copy looks for garbage among what was imported, and copies its pages
            self._filled = self.place("states")
            ended = self.start("states", self._filled).wait()
            if ended.status:
                raise RuntimeError(f"the undisturbed comparison ends with {ended.status}: {ended.errors}")
            yield

    def place(self, name: str) -> Place:
        """Return where a command starts from: nothing, or for a report a filled store."""
        self._number += 1
        place = Place(folder=self._places / f"{self._number:05d}")
        place.temporary.mkdir(parents=True)
        if name == "report":
            shutil.copytree(self._filled.out, place.out)
        return place

    def start(self, name: str, place: Place, *, prepare: Callable[[], None] = lambda: None) -> Running:
        """Start a command in a forked process.

        Args:
            name: Of :attr:`commands`.
            place: Where it reads and writes.
            prepare: Is called in the process before it begins.
        """
        process = multiprocessing.get_context("fork").Process(
            target=_be, args=(self.commands[name], place, prepare)
        )
        started = time.monotonic()
        # Neither may come before the process has handlers of its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        return Running(process, place, started)

    def _experiment(self, main: Callable[..., int], *arguments: str) -> Callable[[Place], int]:
        def command(place: Place) -> int:
            args = [*self._tiny, *arguments, "--out", str(place.out)]
            return run(main, prog=f"python -m {main.__module__}", args=args)

        return command

    def _download(self, place: Place) -> int:
        """Get a data set from the server of this machine, which no registry may name and no rule allows."""
        source = source_named("amazon18-art")
        files = {
            role: replace(file, url=f"{self._base}/published/{file.name}")
            for role, file in source.files.items()
        }
        build = commands.Build
        commands.source_named = lambda *_: replace(source, files=files)  # type: ignore[assignment]
        commands.Build = lambda **given: build(**given, rules=AddressRules(allow_loopback=True))  # type: ignore
        args = ["--name", "amazon18-art", "--no-progress", "--per-second", "10000"]
        return run(commands.get, prog="python -m illmrec.data get", args=args)


class Running:
    """A command at work.

    Args:
        process: Its process.
        place: Where it reads and writes.
        started: When it began.
    """

    def __init__(self, process: BaseProcess, place: Place, started: float) -> None:
        self._process, self._place, self._started = process, place, started

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def kill_after(self, seconds: float, number: int) -> None:
        """Send a signal, unless the command ends before."""
        self._process.join(max(0.0, seconds - (time.monotonic() - self._started)))
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def wait(self, limit: float = 600.0) -> Ended:
        """Wait for its end; after the limit it is killed, which is a failure."""
        self._process.join(limit)
        if self._process.exitcode is None:
            os.kill(self.pid, signal.SIGKILL)
            self._process.join()
        assert self._process.exitcode is not None
        errors = self._place.folder / "stderr"
        return Ended(
            status=self._process.exitcode,
            errors=errors.read_text("utf-8", "replace") if errors.is_file() else "",
            seconds=time.monotonic() - self._started,
            pid=self.pid,
        )


def _be(command: Callable[[Place], int], place: Place, prepare: Callable[[], None]) -> None:
    """Be the command: in the forked process, whose exit status is the command's."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        descriptor = os.open(place.folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ["ILLMREC_CACHE"] = str(place.cache)
    os.environ["TMPDIR"] = tempfile.tempdir = str(place.temporary)
    os.chdir(place.folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # tqdm's own lock is shared by processes that fork: one that is killed while it holds it would stop all later ones.
    tqdm.set_lock(threading.RLock())
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
        prepare()
        status = command(place)
    except KeyboardInterrupt:  # before the command began, or after its end
        status = OUTSIDE
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a publisher's files from a process of its own and give its address."""
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(folder, sending), daemon=True)
    process.start()
    try:
        yield receiving.recv()
    finally:
        process.terminate()
        process.join()


def _serve(folder: Path, sending: Any) -> None:
    def published(handler: hostile_server.Handler, _: hostile_server.Server) -> None:
        handler.reply((folder / handler.path.rpartition("/")[2]).read_bytes(), ETag='"one"')

    hostile_server.BEHAVIOURS["published"] = published
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with hostile_server.serving() as state:
        publishers.write_amazon18(folder, items=lambda _: publishers.amazon18_items(f"{state.base}/good"))
        sending.send(state.base)
        signal.pause()
