"""Inputs read in a forked process that is bounded and watched, and what became of each."""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from illmrec.errors import InputError

CPU_SECONDS = 10.0
WALL_SECONDS = 40.0  # for what waits instead of computing; other programs share the machine
MEMORY = 2 << 30
"""Bytes beyond what imports have taken."""
LONGEST_MESSAGE = 4_000
MOST_LINES = 10  # on stderr, where warnings of libraries and of ours go
_KEPT = 3_000  # characters of a traceback

CANARY = "canary-that-nobody-reads"
"""A word in the files that lie beside the folder of an input; nothing that is read may hold it."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": (0,), "os.rmdir": (0,), "os.remove": (0,), "os.rename": (0, 1), "os.link": (0, 1),
    "os.symlink": (1,), "os.chmod": (0,), "os.chown": (0,), "os.truncate": (0,), "os.utime": (0,),
    "shutil.rmtree": (0,),
}  # fmt: skip
_NEVER = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect",
          "socket.getaddrinfo", "webbrowser.open", "ctypes.dlopen")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What reads outside bytes.

    Attributes:
        name: Of the reader.
        write: Writes an input into an empty folder, from a source of chance and the folder of valid files.
        read: Reads it as the toolkit does and checks what comes back; an AssertionError is a fault.
        inputs: How many the short form reads.
        prepare: Writes the valid files into their folder, once, in a process of its own.
        load: Imports what the reader needs, before anything is forked.
    """

    name: str
    write: Callable[[random.Random, Path, Path], None]
    read: Callable[[Path, Path], object]
    inputs: int
    prepare: Callable[[Path], None] | None = None
    load: Callable[[], object] | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an input.

    Attributes:
        number: Of the input; with the seed it says what the input is.
        kind: ``accepted``, ``refused`` or ``faulty``.
        said: The message of a refusal, or what is wrong.
        seconds: Of processor time.
        memory: Peak bytes of resident memory beyond what imports have taken.
    """

    number: int
    kind: str
    said: str
    seconds: float
    memory: int


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """Folders of one reader: ``input`` is made anew for each input, ``outside`` is not to be touched."""

    root: Path

    @property
    def input(self) -> Path:
        """The input's folder; it has a parent of its own, so that ``..`` leads somewhere."""
        return self.root / "data" / "input"

    @property
    def cache(self) -> Path:
        """``ILLMREC_CACHE`` and the folder for temporary files."""
        return self.root / "cache"

    @property
    def corpus(self) -> Path:
        """Valid files."""
        return self.root / "corpus"

    @property
    def outside(self) -> Path:
        """Files that nobody is to read."""
        return self.root / "outside"

    def made(self) -> Sandbox:
        """Return this sandbox with its folders and canaries there."""
        for folder in (self.input, self.cache, self.corpus, self.outside):
            folder.mkdir(parents=True, exist_ok=True)
        for name in ("B1.jpg", "secret.txt", "meta.json"):
            (self.outside / name).write_text(CANARY + "\n")
        return self

    def surroundings(self) -> dict[str, tuple[int, int]]:
        """Return size and time of change of everything but input, cache and corpus."""
        found = {}
        for folder in (self.root, self.root / "data", self.outside):
            for path in folder.iterdir():
                if path not in (self.input, self.cache, self.corpus, self.root / "data"):
                    state = path.lstat()
                    found[str(path)] = (state.st_size, state.st_mtime_ns)
        return found


def prepared(reader: Reader, root: Path) -> Sandbox:
    """Return a reader's sandbox with its valid files, made in a process of its own."""
    sandbox = Sandbox(root=root).made()
    if reader.load is not None:
        reader.load()
    if reader.prepare is not None and not any(sandbox.corpus.iterdir()):
        process = multiprocessing.get_context("fork").Process(target=reader.prepare, args=(sandbox.corpus,))
        process.start()
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"{reader.name}: its valid files could not be made")
    return sandbox


def outcomes(reader: Reader, sandbox: Sandbox, *, seed: int, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Yield what becomes of inputs; one that ends its process is faulty, and a new process goes on after it.

    Args:
        reader: Who reads.
        sandbox: Its folders.
        seed: Of all inputs.
        numbers: Which inputs.
    """
    context = multiprocessing.get_context("fork")
    remaining = list(numbers)
    while remaining:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(reader, sandbox, seed, remaining, theirs))
        process.start()
        theirs.close()
        begun: int | None = None
        try:
            while True:
                event = ours.recv()
                if isinstance(event, int):
                    begun = event
                else:
                    remaining.remove(event["number"])
                    begun = None
                    yield Outcome(**event)
        except EOFError:
            process.join()
        finally:
            ours.close()
            if process.is_alive():
                process.kill()
                process.join()
        if begun is None and remaining:
            raise RuntimeError(f"{reader.name}: ended between inputs ({process.exitcode})")
        if begun is not None:
            remaining.remove(begun)
            yield Outcome(number=begun, kind="faulty", said=_ended(process.exitcode), seconds=0.0, memory=0)


def written(reader: Reader, sandbox: Sandbox, *, seed: int, number: int) -> None:
    """Write an input into the sandbox, in place of what is there."""
    if sandbox.input.is_symlink() or sandbox.input.exists():
        shutil.rmtree(sandbox.input)
    sandbox.input.mkdir()
    _write(reader, sandbox.input, sandbox.corpus, seed=seed, number=number)


def _write(reader: Reader, folder: Path, corpus: Path, *, seed: int, number: int) -> None:
    reader.write(random.Random(f"{seed}/{reader.name}/{number}"), folder, corpus)


def _ended(code: int | None) -> str:
    if code is not None and code < 0:
        known = {
            signal.SIGPROF: f"more than {CPU_SECONDS:.0f} s of processor time",
            signal.SIGALRM: f"no end after {WALL_SECONDS:.0f} s",
        }
        number = signal.Signals(-code)
        return known.get(number, f"the process ended by {number.name}")
    return f"the process ended with status {code}"


def _serve(reader: Reader, sandbox: Sandbox, seed: int, numbers: Sequence[int], pipe: Connection) -> None:
    """Read inputs, one after the other: in the forked process."""
    os.environ.update(ILLMREC_CACHE=str(sandbox.cache), TMPDIR=str(sandbox.cache))
    error = sandbox.cache / "stderr"
    handle = os.open(error, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX: an arena for each thread would count as its memory
    limit = _status("VmSize") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = _Watch(sandbox)
    sys.addaudithook(watch)
    gc.collect()
    gc.freeze()  # what was imported need not be looked through before each input
    for number in numbers:
        pipe.send(number)
        try:
            written(reader, sandbox, seed=seed, number=number)
        except Exception:  # a fault of what writes inputs, told as such
            said = f"could not be written: {traceback.format_exc()[-_KEPT:]}"
            pipe.send(asdict(Outcome(number=number, kind="faulty", said=said, seconds=0.0, memory=0)))
            continue
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        pipe.send(asdict(_read(reader, sandbox, number, watch, error)))
    pipe.close()
    os._exit(0)


def _read(reader: Reader, sandbox: Sandbox, number: int, watch: _Watch, error: Path) -> Outcome:
    before = sandbox.surroundings()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    resident = _status("VmRSS")
    clock = _cpu()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    kind, said = "accepted", ""
    watch.found.clear()
    watch.on = True
    try:
        _holds_no_canary(reader.read(sandbox.input, sandbox.corpus))
    except InputError as refusal:
        kind, said = _judged(refusal)
    except BaseException as fault:
        trace = traceback.format_exc()
        kind = "faulty"
        said = f"{type(fault).__name__}: {str(fault)[:200]}\n{trace[-_KEPT:]}"
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds, memory = _cpu() - clock, max(0, _status("VmHWM") - resident)
    sys.stderr.flush()
    # A bar goes back to the beginning of its line and is one.
    lines = [line for line in error.read_text(errors="replace").split("\n") if line.strip()]
    if kind != "faulty":
        faults = list(watch.found)
        if memory > MEMORY:
            faults.append(f"{memory / 1e9:.2f} GB of memory")
        if len(lines) > MOST_LINES:
            faults.append(f"{len(lines)} lines on stderr, such as {lines[0][:300]}")
        if sandbox.surroundings() != before:
            faults.append("something was written beside the folder")
        if faults:
            kind, said = "faulty", "; ".join(faults)
    return Outcome(number=number, kind=kind, said=said, seconds=seconds, memory=memory)


def _judged(refusal: InputError) -> tuple[str, str]:
    """Return whether a refusal is one line, and as long as one reads."""
    said = str(refusal)
    if len(said.splitlines()) != 1 or not all(letter.isprintable() for letter in said):
        return "faulty", f"a message that is not one printable line: {said[:500]!r}"
    if len(said) > LONGEST_MESSAGE:
        return "faulty", f"a message of {len(said)} characters: {said[:300]}"
    cause: BaseException | None = refusal
    while cause is not None:
        if isinstance(cause, MemoryError):
            return "faulty", f"refused only where memory ended: {said}"
        cause = cause.__cause__ or cause.__context__
    return "refused", said


def _holds_no_canary(value: object) -> None:
    if isinstance(value, str | bytes):
        word: Any = CANARY if isinstance(value, str) else CANARY.encode()
        assert word not in value, "holds what lies outside of the folder"


class _Watch:
    """An audit hook: what a reader opens and changes, and what it must never do."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.on = False
        self.found: list[str] = []
        self._own = (os.path.realpath(sandbox.input), os.path.realpath(sandbox.cache))
        self._readable = (*self._own, os.path.realpath(sandbox.corpus))
        self._root = os.path.realpath(sandbox.root)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False  # what is called below is not the reader's
        try:
            self._look(event, arguments)
        finally:
            self.on = True

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NEVER:
            self._say(f"{event} {arguments!r:.200}")
        elif event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or path in ("/dev/null", b"/dev/null"):
                return
            place = os.path.realpath(os.fsdecode(path))
            if flags & _WRITES and not self._within(place, self._own):
                self._say(f"opened {place} to write")
            elif (place.startswith(self._root) and not self._within(place, self._readable)) or (
                place in ("/etc/passwd", "/etc/hostname")
            ):
                self._say(f"opened {place}, which is outside of the folder")
        elif event in _CHANGES:
            for at in _CHANGES[event]:
                path = arguments[at]
                if isinstance(path, str | bytes | os.PathLike):
                    parent, name = os.path.split(os.path.abspath(os.fsdecode(path)))
                    place = os.path.join(os.path.realpath(parent), name)
                    if not self._within(place, self._own):
                        self._say(f"{event} {place}")

    def _say(self, text: str) -> None:
        if text not in self.found and len(self.found) < 5:
            self.found.append(text)

    @staticmethod
    def _within(place: str, folders: Sequence[str]) -> bool:
        return any(place == folder or place.startswith(folder + os.sep) for folder in folders)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def kept(folder: Path, sandbox: Sandbox, *, reader: Reader, seed: int, outcome: Outcome) -> Path:
    """Keep a faulty input with what is wrong and how to repeat it."""
    place = folder / f"{reader.name}-{seed}-{outcome.number}"
    shutil.rmtree(place, ignore_errors=True)
    (place / "input").mkdir(parents=True)
    # In a process of its own: threads of libraries that it starts would not outlive the next fork.
    arguments = (reader, place / "input", sandbox.corpus)
    numbers = {"seed": seed, "number": outcome.number}
    process = multiprocessing.get_context("fork").Process(target=_write, args=arguments, kwargs=numbers)
    process.start()
    process.join()
    about = {"reader": reader.name, "seed": seed, **asdict(outcome)}
    (place / "fault.json").write_text(json.dumps(about, indent=1) + "\n")
    return place
