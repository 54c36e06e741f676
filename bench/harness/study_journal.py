"""The file of studies: Optuna's journal, with a checksum in each of its lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from illmrec import checksums
from illmrec.errors import DamagedError


class StudyJournal:
    """What Optuna's ``JournalStorage`` reads and writes; lines of earlier versions have no checksum and are read.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        from optuna.storages import journal

        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = journal.JournalFileSymlinkLock(str(path))
        self._file = journal.JournalFileBackend(str(path), lock_obj=self._lock)
        self._drop_half_a_line()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield what was written, from a line on.

        Raises:
            DamagedError: If a line is not what was written.
        """
        try:
            for log in self._file.read_logs(log_number_from):
                yield checksums.checked(log)
        except ValueError as error:
            reason = next(iter(str(error).splitlines()), "a line cannot be read")
            raise DamagedError(
                f"{self._path}: damaged ({reason}); move the file away and run again: its studies begin anew"
            ) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append lines."""
        self._file.append_logs([checksums.with_checksum(log) for log in logs])

    def _drop_half_a_line(self) -> None:
        """Remove what a killed run left of a line, which the next line would be written behind."""
        if self._path.read_bytes()[-1:] in (b"", b"\n"):
            return
        self._lock.acquire()
        try:
            content = self._path.read_bytes()
            with self._path.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
        finally:
            self._lock.release()
