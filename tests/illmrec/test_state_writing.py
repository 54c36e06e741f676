"""Tables written in batches: interrupted, killed, damaged, by several at once, one or some together."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from illmrec.errors import DamagedError, InputError
from illmrec.states import writing
from illmrec.states.table import StateTable
from illmrec.states.writing import TablePlan, begin_together, compute_states

WIDTH = 3
BATCHES = [np.array([4, 5]), np.array([0, 1]), np.array([2, 3]), np.array([6])]


def expected(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(10.0 * rows[:, None] + np.arange(WIDTH)).float()


class Encoder:
    """States are a function of the row; remembers what it was asked and can fail at one batch."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.calls: list[int] = []
        self._fail_at, self._error = fail_at, error

    def __call__(self, number: int) -> torch.Tensor:
        if number == self._fail_at and self._error is not None:
            raise self._error
        self.calls.append(number)
        return expected(BATCHES[number])


def plan(directory: Path, **options) -> TablePlan:
    arguments = {"width": WIDTH, "dtype": "float32", "batches": BATCHES}
    arguments |= {"tokens": [8, 8, 8, 4], "meta": {"llm": "a"}}
    return TablePlan(directory=directory, **(arguments | options))


def compute(directory: Path, encode, **options) -> StateTable:
    return compute_states(plan(directory, **options), encode, progress=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no")], ids=["ctrl-c", "error"])
def test_interruption_keeps_finished_batches(tmp_path, error, caplog):
    with pytest.raises(type(error)):
        compute(tmp_path / "k", Encoder(2, error))
    assert not (tmp_path / "k").exists()
    second = Encoder()
    with caplog.at_level("INFO"):
        table = compute(tmp_path / "k", second)
    assert second.calls == [2, 3] and "continuing after 2 of 4 batches" in caplog.text
    torch.testing.assert_close(table.values, expected(np.arange(7)))
    again = Encoder()
    compute(tmp_path / "k", again)
    assert again.calls == []


def test_kill_loses_only_what_was_not_recorded(tmp_path):
    program = f"""
import pathlib, sys, time
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parent.parent)!r}]
import test_state_writing
from illmrec.states import writing
writing._RECORD_SECONDS = 0.0
def encode(number):
    if number == 2:
        print("at 2", flush=True)
        time.sleep(60)
    return test_state_writing.expected(test_state_writing.BATCHES[number])
test_state_writing.compute(pathlib.Path({str(tmp_path / "k")!r}), encode)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"at 2\n"
        process.send_signal(signal.SIGKILL)
    second = Encoder()
    torch.testing.assert_close(compute(tmp_path / "k", second).values, expected(np.arange(7)))
    assert second.calls == [2, 3]


def test_a_plan_of_something_else_starts_anew(tmp_path):
    with pytest.raises(RuntimeError):
        compute(tmp_path / "k", Encoder(2, RuntimeError()))
    second = Encoder()
    compute(tmp_path / "k", second, meta={"llm": "b"})
    assert second.calls == [0, 1, 2, 3]


def test_two_runs_write_one_table_once(tmp_path):
    class Slow(Encoder):
        def __call__(self, number: int) -> torch.Tensor:
            time.sleep(0.01)
            return super().__call__(number)

    encoders = [Slow() for _ in range(4)]
    tables: list[StateTable] = []
    threads = [
        threading.Thread(target=lambda e=e: tables.append(compute(tmp_path / "k", e))) for e in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 4 and sum(len(encoder.calls) for encoder in encoders) == len(BATCHES)
    for table in tables:
        torch.testing.assert_close(table.values, expected(np.arange(7)))


def test_too_little_disk_is_refused_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    encode = Encoder()
    with pytest.raises(InputError, match=r"states of 7 positions take .* GB") as caught:
        compute(tmp_path / "k", encode)
    assert "\n" not in str(caught.value) and "--last-targets" in str(caught.value)
    assert encode.calls == [] and not list(tmp_path.rglob("*.npy"))


def test_a_state_that_is_not_a_number_is_an_error(tmp_path):
    with pytest.raises(InputError, match="not finite"):
        compute(tmp_path / "k", lambda number: expected(BATCHES[number]) * float("nan"))
    with pytest.raises(InputError, match="exceed what float16 can hold"):
        compute(tmp_path / "k", lambda number: expected(BATCHES[number]) + 1e6, dtype="float16")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "values.npy").write_bytes(b"no array"),
        lambda folder: np.save(folder / "values.npy", np.zeros((7, 2), dtype=np.float32)),
        lambda folder: np.save(folder / "values.npy", np.zeros((7, WIDTH), dtype=np.float16)),
        lambda folder: flip(folder / "values.npy", -1),
        lambda folder: flip(folder / "values.npy", 70),
        lambda folder: flip(folder / "checksums.json", 30),
    ],
)
def test_a_damaged_table_is_named_and_computed_again(tmp_path, damage, caplog):
    whole = compute(tmp_path / "k", Encoder()).values.clone()
    damage(tmp_path / "k")
    with pytest.raises(DamagedError, match=r"k/(meta|values|checksums)\.\w+: damaged") as caught:
        StateTable.open(tmp_path / "k")
    assert "delete the folder" in str(caught.value) and "\n" not in str(caught.value)
    again = Encoder()
    assert torch.equal(compute(tmp_path / "k", again).values, whole)
    assert again.calls and str(tmp_path / "k") in caplog.text
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["k"]


def test_a_table_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path):
    whole = compute(tmp_path / "k", Encoder()).values.clone()
    (tmp_path / "k" / "checksums.json").unlink()
    again = Encoder()
    assert torch.equal(compute(tmp_path / "k", again).values, whole) and not again.calls
    np.save(tmp_path / "k" / "values.npy", np.zeros((7, 2), dtype=np.float32))
    with pytest.raises(DamagedError, match="not a whole state table"):
        StateTable.open(tmp_path / "k")
    assert torch.equal(compute(tmp_path / "k", again).values, whole)


@pytest.mark.parametrize("name", ["values.npy", "sums.npy", "done.npy", "progress.json"])
@pytest.mark.parametrize("place", [0, 70, -1])
@pytest.mark.parametrize("listed", [True, False])
def test_a_bit_flipped_in_an_unfinished_table_is_no_number_of_it(tmp_path, name, place, listed):
    whole = compute(tmp_path / "whole" / "k", Encoder()).values

    def stopped(number):
        if number == 2:
            raise KeyboardInterrupt
        return expected(BATCHES[number])

    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "k", stopped)
    if not listed:  # an earlier version kept no checksums of what is unfinished
        (tmp_path / "k.partial" / "sums.npy").unlink()
    else:
        flip(tmp_path / "k.partial" / name, place)
    assert torch.equal(compute(tmp_path / "k", Encoder()).values, whole)


def flip(path, place):
    """Change one bit of a file; it becomes another file, as where a disk or a copy did it before it was opened."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_table_under_another_name_is_never_read(tmp_path):
    compute(tmp_path / "k", Encoder())
    (tmp_path / "k").rename(tmp_path / "other")
    with pytest.raises(InputError, match="its key is k, not other"):
        StateTable.open(tmp_path / "other")


def both(directory: Path, last: int = 6) -> list[TablePlan]:
    """Plans of two tables whose first three batches are alike; the rows of the second are one less, or as many."""
    others = [*BATCHES[:3], np.arange(6, last + 1)]
    return [plan(directory / "a"), plan(directory / "b", batches=others, meta={"llm": "b"})]


def test_tables_begun_together_are_completed_each_by_itself(tmp_path):
    plans, asked = both(tmp_path, last=8), []

    def encode(number, wanted):
        asked.append((number, list(wanted)))
        return [expected(BATCHES[number]) + 1000 * place for place in wanted]

    begin_together(plans, encode, batches=3, progress=False)
    assert asked == [(0, [0, 1]), (1, [0, 1]), (2, [0, 1])]
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
    first, second = Encoder(), Encoder()
    torch.testing.assert_close(compute_states(plans[0], first, progress=False).values, expected(np.arange(7)))
    table = compute_states(
        plans[1], lambda number: second(number) if number < 3 else expected(np.arange(6, 9))
    )
    assert first.calls == [3] and second.calls == []
    torch.testing.assert_close(table.values[:6], expected(np.arange(6)) + 1000)
    begin_together(plans, encode, batches=3, progress=False)
    assert len(asked) == 3, "what is whole is left alone"


def test_what_one_of_them_has_is_encoded_for_the_other_alone(tmp_path):
    plans = both(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        compute_states(plans[1], Encoder(2, KeyboardInterrupt()), progress=False)
    compute_states(plans[0], Encoder(), progress=False)
    asked = []

    def encode(number, wanted):
        asked.append((number, list(wanted)))
        return [expected(BATCHES[number]) for _ in wanted]

    begin_together(plans, encode, batches=3, progress=False)
    assert asked == [(2, [1])]


def test_an_interruption_keeps_what_all_of_them_have(tmp_path):
    plans = both(tmp_path)

    def encode(number, wanted):
        if number == 2:
            raise KeyboardInterrupt
        return [expected(BATCHES[number]) for _ in wanted]

    with pytest.raises(KeyboardInterrupt):
        begin_together(plans, encode, batches=3, progress=False)
    for one in plans:
        rest = Encoder()
        compute_states(one, rest, progress=False)
        assert rest.calls == [2, 3]


def test_seconds_are_divided_among_tables(tmp_path):
    plans, began = both(tmp_path), time.monotonic()

    def encode(number, wanted):
        time.sleep(0.1)
        return [expected(BATCHES[number]) for _ in wanted]

    begin_together(plans, encode, batches=3, progress=False)
    spent = time.monotonic() - began
    seconds = [compute_states(one, Encoder(), progress=False).meta["seconds"] for one in plans]
    assert sum(seconds) + 0.002 >= 0.3 and sum(seconds) < spent + 0.3
    assert max(seconds) < 1.5 * min(seconds)
