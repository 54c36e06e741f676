"""A text file as a stream of parts that end with a line: plain, gzip, or a member of a zip file."""

from __future__ import annotations

import contextlib
import gzip
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from illmrec.errors import InputError
from illmrec.files import hash_json, parsed_json
from illmrec.zips import UNPACK_ERRORS, check_member

PART_BYTES = 32 << 20
"""Bytes of a part, about: what is parsed at a time, and kept or done again as a whole."""
_PIECE = 8 << 20
LONGEST_LINE = 64 << 20
"""A line above this is none of the formats that are read."""

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """Where a text is: a file, which may be packed by gzip, or a member of a zip file.

    Attributes:
        path: The file.
        member: The member's path, or None where the file itself is the text.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path) if self.member is None else f"{self.path}, {self.member}"

    def identity(self) -> str:
        """Return digits that change where the file was written again: over its name, size and time of change."""
        state = self.path.stat()
        return hash_json([self.path.name, self.member, state.st_size, state.st_mtime_ns])

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Give the text's bytes as a stream, unpacked.

        Raises:
            InputError: If the file is not there, ends early, or is damaged.
        """
        try:
            with contextlib.ExitStack() as stack:
                if self.member is not None:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    check_member(archive.getinfo(self.member))
                    yield stack.enter_context(archive.open(self.member))
                else:
                    file = stack.enter_context(self.path.open("rb"))
                    packed = file.read(2) == _GZIP
                    file.seek(0)
                    unpacked = gzip.GzipFile(fileobj=file) if packed else file
                    yield cast(IO[bytes], unpacked)
        except FileNotFoundError:
            raise InputError(f"{self.name}: no such file") from None
        except KeyError:
            raise InputError(f"{self.path}: holds no {self.member}; is it another data set's?") from None
        except InputError:
            raise
        except UNPACK_ERRORS as error:
            said = "ends early" if isinstance(error, EOFError) else f"is damaged ({error})"
            raise InputError(f"{self.name}: {said}; fetch it again") from None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some whole lines of a text.

    Attributes:
        number: Parts are numbered from 0; which lines are in a part depends on the text alone.
        first_line: Number of its first line in the text, from 1.
        content: The lines, each with its end.
        lines: How many.
    """

    number: int
    first_line: int
    content: bytes
    lines: int


def parts(text: TextFile, *, size: int = PART_BYTES) -> Iterator[Part]:
    """Yield a text's lines in parts of about ``size`` bytes; the last line may lack its end.

    Raises:
        InputError: As :meth:`TextFile.open`, or if a line is longer than :data:`LONGEST_LINE`.
    """
    with text.open() as stream:
        number, line = 0, 1
        while True:
            content = _read(stream, size)
            if not content:
                return
            if not content.endswith(b"\n"):
                content += stream.readline(LONGEST_LINE)
                if len(content) >= size + LONGEST_LINE:
                    raise InputError(
                        f"{text.name}, line {line}: longer than {LONGEST_LINE:,} bytes; not such a text"
                    )
            lines = content.count(b"\n") + (not content.endswith(b"\n"))
            yield Part(number=number, first_line=line, content=content, lines=lines)
            number, line = number + 1, line + lines


def _read(stream: IO[bytes], size: int) -> bytes:
    """Return the next bytes, some at a time: to ask for all at once reserves memory for all."""
    pieces: list[bytes] = []
    while size and (piece := stream.read(min(size, _PIECE))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def columns_seen(text: TextFile, *, separator: str) -> list[str]:
    """Return the names in a text's first line: the keys of its JSON object, else its cells."""
    with text.open() as stream:
        first = stream.readline(LONGEST_LINE).decode("utf-8", errors="replace").strip("\r\n\ufeff")
    try:
        found = parsed_json(first)
    except ValueError:
        return first.split(separator)[:50]
    return list(found)[:50] if isinstance(found, dict) else [type(found).__name__]
