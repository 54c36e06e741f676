"""Summaries on disk, one JSON object per line, only ever appended to."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from illmrec import checksums
from illmrec.errors import InputError
from illmrec.files import atomic_write_text, parsed_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a summariser answered to a prompt.

    Attributes:
        key: Of the prompt.
        text: The summary; empty if it said nothing.
        cut: Whether the end is missing.
        seconds: Share of the time in which it was written.
    """

    key: str
    text: str
    cut: bool
    seconds: float


class SummaryStore:
    """The answers of one summariser: a line has ``item`` (the prompt's key), title, summary, cut and seconds.

    Args:
        path: The file; it is made at once, so that a folder that cannot be written is known before hours of writing.

    Raises:
        InputError: If the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, Answer] = {}
        self._ends_in_newline = True
        if not path.exists():
            atomic_write_text(path, "")
            return
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise InputError(
                f"{path}: summaries cannot be read ({error.strerror}); move it away to write them again"
            ) from error
        self._ends_in_newline = not text or text.endswith("\n")
        answers = [_parsed(line) for line in text.split("\n") if line]
        self._answers = {answer.key: answer for answer in answers if answer is not None}
        if None in answers:
            logger.warning(
                "%s: skipped %d lines that are not as they were written", path, answers.count(None)
            )

    def __contains__(self, key: object) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> Answer:
        return self._answers[key]

    def add(self, answers: Sequence[Answer], *, titles: Sequence[str]) -> None:
        """Append whole lines in one write and wait until they are on disk."""
        lines = "".join(
            checksums.line(
                {
                    "item": answer.key,
                    "title": title,
                    "summary": answer.text,
                    "cut": answer.cut,
                    "seconds": answer.seconds,
                }
            )
            for answer, title in zip(answers, titles, strict=True)
        )
        with self._path.open("ab") as file:
            file.write(("" if self._ends_in_newline else "\n").encode() + lines.encode())
            file.flush()
            os.fsync(file.fileno())
        self._ends_in_newline = True
        self._answers.update({answer.key: answer for answer in answers})


def _parsed(line: str) -> Answer | None:
    """Return the answer of a line, or None where it is damaged, or half of it was written: it is written again."""
    try:
        entry = checksums.checked(parsed_json(line))
        seconds = float(entry["seconds"])
        if not (math.isfinite(seconds) and seconds >= 0 and isinstance(entry["cut"], bool)):
            return None
        entry["summary"].encode()  # JSON can spell half of a pair, which no file of text can hold
        return Answer(key=str(entry["item"]), text=str(entry["summary"]), cut=entry["cut"], seconds=seconds)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
