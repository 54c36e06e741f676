"""Every reader of outside bytes on inputs of chance: ``python tests/reliability/fuzz_readers.py --minutes 60``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # small models of the tests

import hostile_archives
import hostile_models
import hostile_pictures
import hostile_publishers
import hostile_settings
import hostile_stores
import hostile_tables
from contained import Outcome, Reader, Sandbox, kept, outcomes, prepared
from tqdm import tqdm

from illmrec.command_line import run
from illmrec.errors import InputError, nearest

READERS: dict[str, Reader] = {
    reader.name: reader
    for module in (
        hostile_tables, hostile_archives, hostile_pictures, hostile_publishers, hostile_stores, hostile_models,
        hostile_settings,
    )
    for reader in module.READERS
}  # fmt: skip
_TURN = 20  # inputs that a reader reads before the next one's turn


@dataclass(kw_only=True)
class Counts:
    """What became of the inputs of one reader.

    Attributes:
        kinds: How many were accepted, refused and faulty.
        faults: Those that were faulty.
        seconds: Of processor time, all together.
        slowest: Seconds of the slowest.
        memory: Peak bytes of the largest.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.kinds[outcome.kind] += 1
        self.seconds += outcome.seconds
        self.slowest = max(self.slowest, outcome.seconds)
        self.memory = max(self.memory, outcome.memory)
        if outcome.kind == "faulty":
            self.faults.append(outcome)


def fuzz(reader: Reader, sandbox: Sandbox, *, seed: int, first: int, inputs: int) -> Iterator[Outcome]:
    """Yield what becomes of inputs ``first``, ``first + 1`` and so on."""
    yield from outcomes(reader, sandbox, seed=seed, numbers=range(first, first + inputs))


def quiet_environment() -> None:
    """Set what keeps threads and memory of libraries small; before they are imported where that is possible."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # others take address space in blocks of a gigabyte
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["RUST_BACKTRACE"] = "0"  # else a panic of a library in Rust prints a page


def _named(names: tuple[str, ...]) -> list[Reader]:
    for name in names:
        if name not in READERS:
            raise InputError(f"--readers: unknown reader '{name}': {nearest(name, READERS)}")
    return [READERS[name] for name in names] if names else list(READERS.values())


def main(
    *,
    minutes: float = 60.0,
    readers: tuple[str, ...] = (),
    seed: int = 0,
    first: int = 0,
    inputs: int | None = None,
    out: Path = Path("fuzzed"),
    progress: bool = True,
) -> int:
    """Read inputs of chance in turns of all readers, and count those accepted, refused and faulty.

    Args:
        minutes: How long.
        readers: Names of readers; all by default.
        seed: Of the inputs: seed, reader and number say what an input is.
        first: Number of the first input.
        inputs: How many inputs of each reader, in place of minutes.
        out: Folder for faulty inputs and for counts.json.
        progress: Show bars.
    """
    chosen = _named(readers)
    quiet_environment()
    counts = {reader.name: Counts() for reader in chosen}
    begun = time.monotonic()

    def over() -> bool:
        return time.monotonic() - begun > 60 * minutes if inputs is None else at >= first + inputs

    with tempfile.TemporaryDirectory(prefix="fuzz-") as work, tqdm(disable=not progress, unit="input") as bar:
        sandboxes = {reader.name: prepared(reader, Path(work) / reader.name) for reader in chosen}
        at = first
        while not over():
            for reader in chosen:
                turn = _TURN if inputs is None else min(_TURN, first + inputs - at)
                _one_turn(reader, sandboxes[reader.name], counts[reader.name], seed, at, turn, out, bar, over)
                _write_counts(out, counts, seed=seed, seconds=time.monotonic() - begun)
            at += _TURN
    print(table(counts))
    return 1 if any(count.faults for count in counts.values()) else 0


def _one_turn(
    reader: Reader,
    sandbox: Sandbox,
    counts: Counts,
    seed: int,
    first: int,
    inputs: int,
    out: Path,
    bar: tqdm,
    over: Callable[[], bool],
) -> None:
    bar.set_description(reader.name)
    for outcome in fuzz(reader, sandbox, seed=seed, first=first, inputs=inputs):
        counts.add(outcome)
        bar.update()
        if outcome.kind == "faulty":
            place = kept(out, sandbox, reader=reader, seed=seed, outcome=outcome)
            tqdm.write(f"{place}: {outcome.said.splitlines()[0]}", file=sys.stderr)
        if over():
            return


def _write_counts(out: Path, counts: dict[str, Counts], *, seed: int, seconds: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    told = {
        name: {
            **count.kinds,
            "seconds": round(count.seconds, 1),
            "slowest": round(count.slowest, 2),
            "memory": count.memory,
        }
        for name, count in counts.items()
    }
    (out / "counts.json").write_text(
        json.dumps({"seed": seed, "seconds": round(seconds), "readers": told}, indent=1) + "\n"
    )


def table(counts: dict[str, Counts]) -> str:
    """Return counts as a table in Markdown."""
    lines = [
        "| reader | inputs | accepted | refused | faulty | slowest, s | most memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, count in counts.items():
        kinds = count.kinds
        lines.append(
            f"| {name} | {kinds.total():,} | {kinds['accepted']:,} | {kinds['refused']:,} | {kinds['faulty']:,} | "
            f"{count.slowest:.1f} | {count.memory / 1e6:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main, prog="python tests/reliability/fuzz_readers.py"))
