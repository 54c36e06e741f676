"""Let every operation that writes to disk fail, one at a time, in every command; then run the command again.

The process is preloaded with ``faults.c``, so that what pyarrow, safetensors and other libraries write by themselves
counts as well. After each fault the command has to end with one line of error, or to finish and to say what it did not
write; the same command without the fault has to leave what an undisturbed one leaves, and nothing temporary.
"""

from __future__ import annotations

import ctypes
import errno
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMANDS = ("ablation", "states", "report", "download", "study")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}
_LOADED = "ILLMREC_FAULTS"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An operation that fails.

    Attributes:
        command: In which command.
        number: Which operation, counted from 1.
        error: With which error.
    """

    command: str
    number: int
    error: str

    def __str__(self) -> str:
        return f"{self.command}, operation {self.number}, {self.error}"


def main(
    *,
    faults: int | None = None,
    seed: int = 0,
    commands: tuple[str, ...] = COMMANDS,
    errors: tuple[str, ...] = ("ENOSPC", "EIO", "EACCES"),
    every: bool = False,
    first: int = 1,
    last: int | None = None,
    log: Path | None = None,
) -> int:
    """Inject faults and say what came of them.

    Args:
        faults: So many, drawn over all operations of all commands; "none" takes every operation.
        seed: Of the draw.
        commands: Which commands, of ablation, states, report, download, study.
        errors: Errors; operations take turns.
        every: Each operation with each of the errors, instead of one of them.
        first: Number of the first operation of each command, to go on or to share the work between processes.
        last: Number of the last one; all that follow by default.
        log: A file that gets a line of JSON for each fault.
    """
    if _LOADED not in os.environ:
        return _preloaded(sys.argv)
    sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE.parent / "illmrec")]
    with tempfile.TemporaryDirectory() as folder:
        from tiny_runs import Runs  # imports everything that the commands need

        runs = Runs(Path(folder).resolve())
        with runs.ready():
            session = _Session(runs)
            counts = {name: session.undisturbed(name) for name in commands}
            print(f"operations: {counts}", flush=True)
            chosen = [
                fault
                for fault in _chosen(counts, errors, every=every)
                if first <= fault.number <= (last or counts[fault.command])
            ]
            if faults is not None:
                chosen = random.Random(seed).sample(chosen, faults)
            wrong = 0
            ends: Counter[str] = Counter()
            for fault in chosen:
                found = session.inject(fault)
                ends[found["end"]] += 1
                wrong += bool(found["wrong"])
                for line in found["wrong"]:
                    print(f"{fault} ({found['failed']}): {line}", flush=True)
                if log is not None:
                    with log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
    print(f"{len(chosen)} faults: {dict(ends)}; wrong: {wrong}")
    return int(wrong > 0)


def _preloaded(arguments: Sequence[str]) -> int:
    """Run this program again with the library in front of the system's."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "faults.so"
        options = ("-O1", "-shared", "-fPIC", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=0")
        subprocess.run(["cc", *options, "-o", library, HERE / "faults.c", "-ldl"], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), _LOADED: "1", "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


def _chosen(counts: dict[str, int], errors: Sequence[str], *, every: bool) -> Iterator[Fault]:
    for command, count in counts.items():
        for number in range(1, count + 1):
            for error in errors if every else [errors[number % len(errors)]]:
                yield Fault(command=command, number=number, error=error)


class _Session:
    """Undisturbed runs to compare with, and disturbed ones.

    Args:
        runs: The commands.
    """

    def __init__(self, runs: Any) -> None:
        self._runs = runs
        self._expected: dict[str, dict[str, Any]] = {}
        self._library = ctypes.CDLL(None)
        self._library.faults_failed.restype = ctypes.c_char_p
        self._library.faults_count.restype = self._library.faults_fired.restype = ctypes.c_long
        self._library.faults_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]

    def undisturbed(self, name: str) -> int:
        """Run a command, keep what it leaves, and return how many operations it takes."""
        place = self._runs.place(name)
        ended, count, _ = self._run(name, place, target=0, error=0)
        if ended.status or place.leftovers():
            raise RuntimeError(f"{name} undisturbed: {ended.status} {place.leftovers()} {ended.errors}")
        self._expected[name] = place.outcome()
        shutil.rmtree(place.folder)
        return count

    def inject(self, fault: Fault) -> dict[str, Any]:
        """Run a command with a fault, and then without; return what was found."""
        name, expected, wrong = fault.command, self._expected[fault.command], []
        place = self._runs.place(name)
        ended, _, failed = self._run(
            name, place, target=fault.number, error=ERRORS[fault.error], lasting=fault.error == "ENOSPC"
        )
        lines = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
        if not failed:
            end = "not reached"
        elif "Traceback" in ended.errors:
            end = "traceback"
            wrong.append(ended.errors[-3000:])
        elif ended.status == 2 and len(lines) == 1:
            end = "one line"
        elif ended.status == 0 and place.outcome() == expected:
            end = "finished all the same"
        elif ended.status == 0 and os.strerror(ERRORS[fault.error]) in ended.errors:
            end = "finished, and said what is not written"
        else:
            end = "other"
            wrong.append(f"status {ended.status}: {ended.errors[-2000:]}")
        again = self._runs.start(name, place).wait()
        if again.status:
            wrong.append(f"the next run: status {again.status}: {again.errors[-2000:]}")
        found = place.outcome()
        wrong += [
            f"the next run differs in {key}"
            for key in {*found, *expected}
            if found.get(key) != expected.get(key)
        ]
        if left := place.leftovers():
            wrong.append(f"the next run leaves {', '.join(left)}")
        shutil.rmtree(place.folder)
        said = lines[0].replace(str(place.folder), "") if lines else ""
        return {
            **vars(fault),
            "failed": failed.replace(str(place.folder), ""),
            "end": end,
            "said": said,
            "wrong": wrong,
        }

    def _run(
        self, name: str, place: Any, *, target: int, error: int, lasting: bool = False
    ) -> tuple[Any, int, str]:
        """Run a command with the counter on; return how it ended, its operations, and which of them failed."""
        receiving, sending = multiprocessing.Pipe(duplex=False)
        roots = f"{place.out}:{place.cache}:{place.temporary}".encode()
        # The counter lies in memory that the parent shares, armed here and started in the child alone.
        self._library.faults_arm(roots, target, error, int(lasting))
        ended = self._runs.start(name, place).wait()
        receiving.close()
        sending.close()
        count, failed = self._library.faults_count(), self._library.faults_failed().decode()
        self._library.faults_arm(b"", 0, 0, 0)
        return ended, count, failed


if __name__ == "__main__":
    from illmrec.command_line import run

    sys.exit(run(main, prog="python tests/reliability/write_faults.py"))
