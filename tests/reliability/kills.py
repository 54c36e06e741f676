"""Kill commands at random moments, some of them again while they recover, and run each once more to its end.

After each kill every cell that was reported stored is there and whole; after the last run tables, cells and ranks are
those of an undisturbed run, cells that were there are the same bytes, and nothing temporary is left.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMANDS = ("ablation", "states", "recbole", "report", "download", "study")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_SAID = "interrupted: finished cells are kept, the same command resumes"
_AT_MOST = 3  # kills of one command before it may end
_GRACE = 10.0  # seconds until processes of a killed command have to be gone


def main(
    *,
    kills: int = 100,
    seed: int = 0,
    commands: tuple[str, ...] = COMMANDS,
    log: Path | None = None,
) -> int:
    """Kill commands and say what came of it.

    Args:
        kills: How often.
        seed: Of moments and signals.
        commands: Which commands, of ablation, states, recbole, report, download, study.
        log: A file that gets a line of JSON for each kill and each last run.
    """
    sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "illmrec")]
    from tiny_runs import Runs  # imports everything that the commands need

    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder).resolve())
        with runs.ready():
            session = _Session(runs, random.Random(seed), log)
            for name in commands:
                session.undisturbed(name)
            number = 0
            while sum(session.signals.values()) < kills:
                session.life(commands[number % len(commands)], at_most=kills)
                number += 1
    print(f"{sum(session.signals.values())} kills of {number} commands: {dict(session.signals)}")
    print(f"ends: {dict(session.ends)}; wrong: {len(session.wrong)}")
    return int(bool(session.wrong))


class _Session:
    """Undisturbed runs to compare with, and killed ones.

    Args:
        runs: The commands.
        chance: Where moments and signals come from.
        log: A file for what happens.
    """

    def __init__(self, runs: Any, chance: random.Random, log: Path | None) -> None:
        self._runs, self._chance, self._log = runs, chance, log
        self._expected: dict[str, dict[str, Any]] = {}
        self._seconds: dict[str, float] = {}
        self.signals: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []

    def undisturbed(self, name: str) -> None:
        """Run a command, and keep how long it takes and what it leaves."""
        place = self._runs.place(name)
        ended = self._runs.start(name, place).wait()
        if ended.status or place.leftovers():
            raise RuntimeError(f"{name} undisturbed: {ended.status} {place.leftovers()} {ended.errors}")
        self._expected[name], self._seconds[name] = place.outcome(), ended.seconds
        shutil.rmtree(place.folder)

    def life(self, name: str, *, at_most: int) -> None:
        """Kill a command some times, and run it to its end."""
        place = self._runs.place(name)
        before: dict[str, bytes] = {}
        for _ in range(self._chance.randint(1, _AT_MOST)):
            if sum(self.signals.values()) >= at_most or not self._kill(name, place, before):
                break
            before |= _cells(place)
        ended = self._runs.start(name, place).wait()
        wrong = []
        if ended.status:
            wrong.append(f"the last run: status {ended.status}: {ended.errors[-2000:]}")
        found, expected = place.outcome(), self._expected[name]
        wrong += [f"differs: {key}" for key in {*found, *expected} if found.get(key) != expected.get(key)]
        after = _cells(place)
        # A search is one cell, which later trials replace.
        wrong += [f"lost: {key}" for key in before if name != "study" and after.get(key) != before[key]]
        wrong += [f"left: {path}" for path in place.leftovers()]
        self._note(name, "last run", ended.seconds, wrong)
        shutil.rmtree(place.folder)

    def _kill(self, name: str, place: Any, before: dict[str, bytes]) -> bool:
        """Start a command and kill it; tell whether it was still there to be killed."""
        number = self._chance.choice(SIGNALS)
        moment = self._chance.uniform(0.0, 1.05 * self._seconds[name])
        running = self._runs.start(name, place, prepare=partial(_report_stored, place.folder / "reported"))
        running.kill_after(moment, number)
        ended = running.wait()
        if ended.status == 0:  # a quieter machine than before
            self._seconds[name] = min(self._seconds[name], ended.seconds)
            return False
        self.signals[number.name] += 1
        wrong, said = [], _SAID in ended.errors.splitlines()[-1:]
        if ended.status == -number:
            end = "killed" if number == signal.SIGKILL else "before it began"
        elif ended.status == 98:
            end = "before it began"
        elif ended.status == {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number) and said:
            end = "one line"
        else:
            end = "other"
            wrong.append(f"status {ended.status}: {ended.errors[-3000:]}")
        if end != "before it began" and "Traceback" in ended.errors:
            wrong.append(f"a traceback: {ended.errors[-3000:]}")
        self.ends[end] += 1
        cells, expected = _cells(place), self._expected[name]
        wrong += [f"lost: {key}" for key in before if cells.get(key) != before[key]]
        found = place.outcome()  # reads every file of every cell
        wrong += [
            f"half: {key}"
            for key, value in found.items()
            if name != "study" and key.startswith("store/cells/") and value != expected.get(key)
        ]
        reported = place.folder / "reported"
        stored = reported.read_text().split() if reported.is_file() else []
        wrong += [f"reported, and not there: {key}" for key in stored if not _holds(cells, key)]
        if alive := _left_alive(ended.pid):
            wrong.append(f"processes are left: {alive}")
        self._note(name, f"{number.name} after {moment:.2f} s: {end}", ended.seconds, wrong)
        return True

    def _note(self, name: str, what: str, seconds: float, wrong: list[str]) -> None:
        self.wrong += wrong
        for line in wrong:
            print(f"{name}, {what}: {line}", flush=True)
        if self._log is not None:
            entry = {"command": name, "what": what, "seconds": round(seconds, 2), "wrong": wrong}
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def _report_stored(path: Path) -> None:
    """Note each cell once the store says that it is written: in the process that is killed."""
    from bench.store.store import Store

    os.setsid()
    write = Store.write

    def noting(self: Store, *arguments: Any, **options: Any) -> Any:
        record = write(self, *arguments, **options)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(descriptor, f"{record.key}\n".encode())
        os.close(descriptor)
        return record

    Store.write = noting  # type: ignore[method-assign]


def _cells(place: Any) -> dict[str, bytes]:
    """Return the files of the cells that the store shows."""
    folders = (place.out / "store" / "cells").glob("*/[!.]*")
    return {
        str(path.relative_to(place.out)): path.read_bytes() for folder in folders for path in folder.iterdir()
    }


def _holds(cells: dict[str, bytes], key: str) -> bool:
    return any(f"/{key}/cell.json" in path for path in cells)


def _left_alive(session: int) -> list[int]:
    """Return processes of a killed command that are still there after some seconds."""
    import psutil

    deadline = time.monotonic() + _GRACE
    while True:
        alive = [pid for pid in psutil.pids() if _session(pid) == session]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.1)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return -1


if __name__ == "__main__":
    from illmrec.command_line import run

    sys.exit(run(main, prog="python tests/reliability/kills.py"))
