"""Stored files cut short and with flipped bits: named, and made again or refused, never read as another number.

The program computes a small comparison by stored states, damages its files one at a time, and runs the command that
reads the file. It ends in the numbers of the undisturbed run, or in one line that names what is damaged.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from programs import Finished, run_program  # noqa: E402

from bench.store.store import Store  # noqa: E402
from illmrec import checksums  # noqa: E402
from illmrec.command_line import run  # noqa: E402
from illmrec.errors import InputError  # noqa: E402
from illmrec.features.table import FeatureTable  # noqa: E402
from illmrec.states.table import StateTable  # noqa: E402

CELLS, MODELS = "out/store/cells", "out/store/artifacts"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Files that the same code reads.

    Attributes:
        name: What they are.
        pattern: Of their paths below the folder of the comparison.
        forgotten: What is removed before, so that the comparison reads them.
        ends: ``refused``, ``made again``, or ``unread`` where no number is read from them.
    """

    name: str
    pattern: str
    forgotten: tuple[str, ...] = (CELLS, MODELS)
    ends: str = "made again"


KINDS = (
    Kind(name="cells", pattern=CELLS + r"/.*", forgotten=(), ends="refused"),
    Kind(name="notes beside a model", pattern=MODELS + r"/.*/results/.*", forgotten=(CELLS,), ends="unread"),
    Kind(name="trained models", pattern=MODELS + r"/.*", forgotten=(CELLS,), ends="refused"),
    Kind(name="tables for readers", pattern=r"out/tables/.*", forgotten=(), ends="unread"),
    Kind(name="claims and locks", pattern=r".*\.(claim|lock)", forgotten=(), ends="unread"),
    Kind(name="state tables", pattern=r"cache/states/.*"),
    Kind(name="feature tables", pattern=r"cache/features/.*"),
    Kind(name="projectors", pattern=r"cache/projectors/.*"),
    Kind(name="sampled candidates", pattern=r"cache/candidates/.*"),
    Kind(name="RecBole models", pattern=r"cache/recbole/.*", forgotten=(CELLS, MODELS, "cache/features/{key}")),
    Kind(name="how the LLM is run", pattern=r"cache/checks/.*"),
    Kind(name="speed of data types", pattern=r"cache/precision/.*", ends="unread"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is done to a file: cut after so many bytes, or one bit flipped."""

    cut: int | None = None
    byte: int = 0
    bit: int = 0

    def __str__(self) -> str:
        return f"cut to {self.cut} bytes" if self.cut is not None else f"bit {self.bit} of byte {self.byte}"

    def of(self, content: bytes) -> bytes:
        """Return the damaged content."""
        if self.cut is not None:
            return content[: self.cut]
        changed = bytearray(content)
        changed[self.byte] ^= 1 << self.bit
        return bytes(changed)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A folder with a finished comparison, ``out`` and ``cache``, and what it found.

    Attributes:
        folder: The folder, which is not written to again.
        arguments: Of the command.
        numbers: What :func:`numbers` returns of it.
    """

    folder: Path
    arguments: tuple[str, ...]
    numbers: dict[str, Any]

    def files(self) -> list[str]:
        """Return the paths of all files below the folder, but empty ones."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size)
        return sorted(path.relative_to(self.folder).as_posix() for path in found)


def compare(folder: Path, arguments: Sequence[str]) -> Comparison:
    """Run the comparison once, undisturbed."""
    done = _run(folder, arguments)
    if done.returncode:
        raise InputError(f"the undisturbed comparison ended with {done.returncode}: {done.stderr[-500:]}")
    return Comparison(folder=folder, arguments=tuple(arguments), numbers=numbers(folder / "out"))


def _run(folder: Path, arguments: Sequence[str]) -> Finished:
    environment = {**os.environ, "ILLMREC_CACHE": str(folder / "cache")}
    command = [*arguments, "--out", str(folder / "out"), "--no-report", "--no-progress"]
    return run_program("bench.comparison", command, folder=folder, environment=environment)


def numbers(out: Path) -> dict[str, Any]:
    """Return every metric and every rank of a store by cell."""
    store = Store(out)
    return {
        record.key: [
            {name: value for name, value in record.results.items() if name in ("sampled", "full")},
            {name: store.read_frame(record, name).to_csv() for name in ("ranks", "lists")},
        ]
        for record in store.records("accuracy")
    }


def kind_of(path: str) -> Kind:
    """Return the kind of a file.

    Raises:
        InputError: If it has none: a new kind of file needs a line in ``KINDS``, and checksums.
    """
    for kind in KINDS:
        if re.fullmatch(kind.pattern, path):
            return kind
    raise InputError(f"{path}: a kind of file that KINDS does not know")


def damages(size: int, *, flips: int, seed: int) -> Iterator[Damage]:
    """Yield cuts at each tenth of a file, and flips near its beginning, in its middle and near its end."""
    yield from (Damage(cut=size * tenth // 10) for tenth in range(10))
    drawn = random.Random(f"{seed} {size}")
    for number in range(flips):
        low, high = ((0, min(64, size)), (0, size), (max(0, size - 64), size))[number % 3]
        yield Damage(byte=drawn.randrange(low, high), bit=drawn.randrange(8))


def read_by_command(comparison: Comparison, path: str, damage: Damage, *, where: Path) -> tuple[str, str]:
    """Damage a file and run the comparison again.

    Returns:
        How it ended, ``refused``, ``made again`` or ``unread``, and what is wrong with that, or "".
    """
    kind = kind_of(path)
    where = where / "run"
    if where.exists():
        shutil.rmtree(where)
    shutil.copytree(comparison.folder, where)
    _damage(where / path, damage)
    for name in kind.forgotten:
        shutil.rmtree(where / name.format(key=Path(path).parent.name), ignore_errors=True)
    done = _run(where, comparison.arguments)
    if "Traceback" in done.stderr:
        return "traceback", done.stderr.splitlines()[-1]
    named = str((where / path).parent) in done.stderr
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        wrong = "" if len(errors) == 1 and str((where / path).parent) in errors[0] else done.stderr[-300:]
        return "refused", wrong
    try:
        found = numbers(where / "out")
    except InputError as error:  # the command had no use for the file; who reads all of the store has
        return "refused", "" if str((where / path).parent) in str(error) else str(error)
    return "made again" if named else "unread", "" if found == comparison.numbers else "other numbers"


def read_by_reader(comparison: Comparison, path: str, damage: Damage, *, where: Path) -> tuple[str, str]:
    """Damage a file and read it by the function that reads such files, without a command: a millisecond.

    Returns:
        How it ended, ``named`` or ``the same``, and what is wrong with that, or "".
    """
    original, copied = (comparison.folder / path).parent, where / "read" / Path(path).parent
    if copied.exists():
        shutil.rmtree(copied)
    shutil.copytree(original, copied)
    _damage(copied / Path(path).name, damage)
    expected = _content(original / Path(path).name)
    try:
        found = _content(copied / Path(path).name)
    except InputError as error:
        said = str(error)
        return "named", "" if str(copied) in said and "\n" not in said else said
    return "the same", "" if found == expected else "other numbers"


def _content(path: Path) -> Any:
    """Return all that is read of the folder, or the lone file, by those who read such."""
    folder = path.parent
    if "/states/" in str(path):
        table = StateTable.open(folder)
        return table.rows(slice(None)).numpy().tobytes(), dict(table.meta)
    if "/features/" in str(path):
        features = FeatureTable.open(folder)
        return features.values.tobytes(), features.present.tobytes(), dict(features.meta)
    if "/cells/" in str(path):
        store = Store(folder.parents[3])
        record = store.read(folder.parent.name, folder.name)
        frames = {
            name.stem: store.read_frame(record, name.stem).to_csv() for name in folder.glob("*.parquet")
        }
        return record.results, record.config, frames
    if (folder / checksums.CHECKSUMS).exists():
        checksums.check(folder, remedy="make it again")
        return {name.name: name.read_bytes() for name in folder.iterdir() if name.name != checksums.CHECKSUMS}
    return checksums.read_json(path)


def _damage(path: Path, damage: Damage) -> None:
    content = damage.of(path.read_bytes())
    path.unlink()  # a file of its own, as after a copy
    path.write_bytes(content)


def one_of_each(paths: Sequence[str]) -> list[str]:
    """Return one file of each kind and name."""
    found: dict[tuple[str, str], str] = {}
    for path in paths:
        lone = "/checks/" in path or "/precision/" in path or "/results/" in path
        found.setdefault((kind_of(path).name, Path(path).suffix if lone else Path(path).name), path)
    return list(found.values())


def comparison_arguments(llm: Path, encoders: Sequence[str], *, users: int = 24) -> list[str]:
    """Return the arguments of a comparison that trains by stored states, with one LLM method and a floor."""
    return [
        "--preset", "smoke", "--max-users", str(users), "--methods", "popularity,illmrec", "--strategy", "cached",
        "--llm", str(llm), *encoders, "--dtype", "float32",
    ]  # fmt: skip


def main(
    llm: Path,
    vision: Path,
    text: Path,
    flips: int = 6,
    every: bool = False,
    seed: int = 0,
    most: int = 0,
) -> int:
    """Damage stored files and read them.

    Args:
        llm: Folder of a small LLM.
        vision: Folder of a small vision encoder.
        text: Folder of a small text encoder.
        flips: Bits that are flipped in each file, one at a time.
        every: All files, not one of each kind and name.
        seed: Of the places.
        most: Run the command this often at most, in an order drawn by the seed; 0 for all.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        where = Path(made)
        encoders = ["--vision", str(vision), "--text", str(text)]
        comparison = compare(_made(where / "whole"), comparison_arguments(llm, encoders))
        paths = comparison.files() if every else one_of_each(comparison.files())
        cases = [
            (path, damage)
            for path in paths
            for damage in damages((comparison.folder / path).stat().st_size, flips=flips, seed=seed)
        ]
        random.Random(seed).shuffle(cases)
        ended: Counter[tuple[str, str]] = Counter()
        wrong = 0
        for path, damage in cases[: most or None]:
            how, fault = read_by_command(comparison, path, damage, where=where)
            ended[kind_of(path).name, how] += 1
            if fault:
                wrong += 1
                print(f"WRONG {path}, {damage}: {how}: {fault}", flush=True)
        for (name, how), count in sorted(ended.items()):
            print(f"{name}: {count} {how}")
        print(f"{sum(ended.values())} damaged files, {wrong} wrong, {time.monotonic() - began:,.0f} s")
    return int(wrong > 0)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(run(main, prog="python tests/reliability/damaged_files.py"))
