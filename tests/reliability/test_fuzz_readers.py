"""The short form of fuzzing: some inputs of each reader, the same in every run, none of them faulty."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import fuzz_readers
import pytest
from contained import CANARY, MEMORY, Reader, outcomes, prepared
from fuzz_readers import READERS, Counts, fuzz, quiet_environment, table

from illmrec.errors import InputError

quiet_environment()


@pytest.mark.parametrize("name", READERS)
def test_no_input_is_faulty(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    reader = READERS[name]
    sandbox = prepared(reader, tmp_path_factory.mktemp(name))
    counts = Counts()
    for outcome in fuzz(reader, sandbox, seed=0, first=0, inputs=reader.inputs):
        counts.add(outcome)
    said = [f"{fault.number}: {fault.said}" for fault in counts.faults]
    assert not said, "\n".join(
        [f"python tests/reliability/fuzz_readers.py --readers {name} --first N --inputs 1", *said]
    )
    # Lines of a manifest that are not sound are left out, and no manifest is refused.
    assert counts.kinds.total() == reader.inputs and (counts.kinds["refused"] or name == "manifest")
    assert f"| {name} | {reader.inputs:,} |" in table({name: counts})


def _raise(error: BaseException) -> None:
    raise error


def _waits(folder: Path, corpus: Path) -> None:
    while True:
        pass


def _reserves(folder: Path, corpus: Path) -> None:
    bytearray(MEMORY + (1 << 28))


FAULTS = {
    "another error": (lambda folder, corpus: _raise(KeyError("x")), "KeyError"),
    "an assertion": (lambda folder, corpus: _raise(AssertionError("wrong")), "AssertionError: wrong"),
    "an exit": (lambda folder, corpus: _raise(SystemExit(3)), "SystemExit"),
    "a long message": (lambda folder, corpus: _raise(_Long()), "a message of 9000 characters"),
    "memory": (_reserves, "MemoryError"),
    "a file outside": (
        lambda folder, corpus: (folder / "../../outside/secret.txt").read_text(), "outside of the folder"
    ),
    "a file written outside": (lambda folder, corpus: (folder / "../x").write_text("x"), "opened .* to write"),
    "a folder made outside": (lambda folder, corpus: (folder / "../y").mkdir(), "os.mkdir"),
    "what lies outside": (lambda folder, corpus: f"a {CANARY}", "holds what lies outside"),
    "a connection": (lambda folder, corpus: socket.create_connection(("127.0.0.1", 9)), "socket|Connection"),
    "a flood": (lambda folder, corpus: [print("warning", file=sys.stderr) for _ in range(50)], "50 lines"),
    "an end of the process": (lambda folder, corpus: os.abort(), "the process ended by SIGABRT"),
    "a hang": (_waits, "more than 1 s of processor time"),
}  # fmt: skip


class _Long(InputError):
    def __str__(self) -> str:
        return "x" * 9000


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_is_seen(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fuzzer that sees nothing finds nothing."""
    import contained

    monkeypatch.setattr(contained, "CPU_SECONDS", 1.0)
    read, said = FAULTS[kind]
    reader = Reader(name="made", write=lambda rng, folder, corpus: None, read=read, inputs=1)
    (outcome,) = outcomes(reader, prepared(reader, tmp_path), seed=0, numbers=[0])
    assert outcome.kind == "faulty"
    assert re.search(said, outcome.said), outcome.said


def test_a_refusal_and_an_answer_are_no_faults(tmp_path: Path) -> None:
    reader = Reader(
        name="made", write=lambda rng, folder, corpus: None, read=lambda folder, corpus: None, inputs=1
    )
    refused = Reader(
        name="made", write=reader.write, read=lambda folder, corpus: _raise(InputError("a: no")), inputs=1
    )
    sandbox = prepared(reader, tmp_path)
    kinds = [
        found.kind for one in (reader, refused) for found in outcomes(one, sandbox, seed=0, numbers=range(2))
    ]
    assert kinds == ["accepted", "accepted", "refused", "refused"]


def test_the_same_seed_makes_the_same_inputs(tmp_path: Path) -> None:
    import contained

    reader = READERS["jsonl"]
    sandbox = prepared(reader, tmp_path)
    found = []
    for seed in (0, 0, 1):
        contained.written(reader, sandbox, seed=seed, number=3)
        found.append({path.name: path.read_bytes() for path in sandbox.input.iterdir() if path.is_file()})
    assert found[0] == found[1] != found[2]


def test_the_program_counts_and_keeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    faulty = Reader(
        name="made",
        write=lambda rng, folder, corpus: (folder / "x").write_bytes(rng.randbytes(4)) and None,
        read=lambda folder, corpus: _raise(KeyError("x")),
        inputs=1,
    )
    monkeypatch.setitem(READERS, "made", faulty)
    assert fuzz_readers.main(readers=("made",), inputs=3, out=tmp_path / "out", progress=False) == 1
    assert "| made | 3 | 0 | 0 | 3 |" in capsys.readouterr().out
    assert len((tmp_path / "out" / "made-0-2" / "input" / "x").read_bytes()) == 4
    assert "KeyError" in (tmp_path / "out" / "made-0-2" / "fault.json").read_text()
    with pytest.raises(InputError, match="unknown reader 'mode'"):
        fuzz_readers.main(readers=("mode",), out=tmp_path)
