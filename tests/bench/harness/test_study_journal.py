"""A study's journal: no half line spoils the next, and a search that was interrupted ends as any other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("optuna")

from bench import tune
from bench.harness.study_journal import StudyJournal
from bench.store.store import Store
from illmrec.command_line import run
from illmrec.errors import InputError

TUNE = [
    *("--preset", "smoke", "--users", "16", "--items", "40", "--min-interactions", "1", "--negatives", "5"),
    *("--methods", "item-knn", "--trials", "4", "--minutes", "60", "--no-progress", "--no-report"),
]


def test_a_line_that_was_cut_short_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "studies.journal"
    journal = StudyJournal(path)
    journal.append_logs([{"op": 1}, {"op": "x" * 100_000}])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op": ' + b"9" * 200_000)
    journal.append_logs([{"op": 3}])
    assert path.read_bytes().startswith(whole + b'{"op":3,')
    assert [log["op"] for log in StudyJournal(path).read_logs(0)] == [1, "x" * 100_000, 3]
    path.write_bytes(b'{"o')
    journal.append_logs([{"op": 4}])
    assert path.read_bytes().startswith(b'{"op":4,') and path.read_bytes().count(b"\n") == 1


def test_a_disk_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = StudyJournal(tmp_path / "studies.journal")

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(InputError, match=r"cannot write .*studies\.journal: Input/output error"):
        journal.append_logs([{"op": 1}])


def test_a_search_that_was_interrupted_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def searched(out: Path) -> int:
        return run(tune.main, prog="bench.tune", args=[*TUNE, "--out", str(out)])

    assert searched(tmp_path / "whole") == 0
    evaluate, calls = tune.Study.evaluate, []
    for after in (0, 2, 0):  # in the first trial, in the third of which two are made, and at once
        calls.clear()

        def interrupted(self, *arguments, after=after):
            calls.append(1)
            if len(calls) > after:
                raise KeyboardInterrupt
            return evaluate(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(tune.Study, "evaluate", interrupted)
            assert searched(tmp_path / "cut") == 130
    assert searched(tmp_path / "cut") == 0
    tables = [pd.read_csv(tmp_path / name / "tables" / "tune.csv") for name in ("whole", "cut")]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables))
    whole, cut = (Store(tmp_path / name).records("tune")[0].results for name in ("whole", "cut"))
    assert {**whole, "seconds": 0} == {**cut, "seconds": 0}
