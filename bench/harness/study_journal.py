"""Studies in one file that several processes append to: who dies there holds nobody up, and a spoilt line is named."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend

from bench.harness.study_lock import study_lock
from illmrec import checksums
from illmrec.errors import DamagedError
from illmrec.files import writing

_BLOCK = 1 << 16


class StudyJournal(JournalFileBackend):
    """Optuna's journal with a lock that no dead process holds, without half lines, and with a checksum in each line.

    Optuna's own lock is a file, which a killed process leaves, so that the next one waits half a minute. And it appends
    to whatever is there: a line that a kill or a full disk cut short would spoil the next one, and with it the study.
    Lines of earlier versions have no checksum and are read.

    Args:
        path: The file; it is made when it is not there.

    Raises:
        OSError: If it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._appending = study_lock(path.with_suffix(".lock"))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield what was written, from a line on.

        Raises:
            DamagedError: If a line is not what was written.
        """
        try:
            for log in super().read_logs(log_number_from):
                yield checksums.checked(log)
        except ValueError as error:
            reason = next(iter(str(error).splitlines()), "a line cannot be read")
            raise DamagedError(
                f"{self._path}: damaged ({reason}); move the file away and run again: its studies begin anew"
            ) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries, all or none of them.

        Raises:
            InputError: If the disk is full or the file cannot be written.
        """
        summed = map(checksums.with_checksum, logs)
        content = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in summed).encode()
        with writing(self._path), self._appending, self._path.open("r+b", buffering=0) as file:
            end = _end_of_lines(file)
            if end < file.seek(0, os.SEEK_END):
                file.truncate(end)
            file.seek(end)
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())


def _end_of_lines(file: BinaryIO | Any) -> int:
    """Return where the last whole line of a file ends."""
    at = int(file.seek(0, os.SEEK_END))
    while at:
        start = max(0, at - _BLOCK)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            return start + int(found) + 1
        at = start
    return 0
