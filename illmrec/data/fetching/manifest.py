"""What became of each picture's download: a line of JSON each, the last of an item counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, get_args, get_type_hints

from illmrec import checksums
from illmrec.files import parsed_json, writing


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of an item's picture.

    Attributes:
        item_id: The item.
        url: The address that was asked last.
        status: Its HTTP status, or None where there was no answer.
        bytes: Size of the file, 0 without one.
        sha256: Digest of the file, "" without one.
        file: Name of the file, "" without one.
        reason: Why there is none, "" with one.
        again: Whether another run may have more luck.
    """

    item_id: str
    url: str
    status: int | None = None
    bytes: int = 0
    sha256: str = ""
    file: str = ""
    reason: str = ""
    again: bool = False


_KINDS = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(Entry).items()}


class Manifest:
    """A file of :class:`Entry` lines that grows; a line that was cut short by a kill, or damaged, is not read."""

    def __init__(self, path: Path) -> None:
        """Read what is there.

        Args:
            path: The file; it need not exist.
        """
        self.path = path
        self.entries: dict[str, Entry] = {}
        self._file: IO[str] | None = None
        for part in [*sorted(path.parent.glob("manifest*.jsonl")), path]:
            self._read(part)

    def _read(self, path: Path) -> None:
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                entry = Entry(**checksums.checked(parsed_json(line)))
            except (ValueError, TypeError):
                continue
            if not _is_sound(entry):
                continue
            known = self.entries.get(entry.item_id)
            if path == self.path or known is None or entry.file:
                self.entries[entry.item_id] = entry

    def __enter__(self) -> Manifest:
        """Open it to be written to."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = self.path.is_file() and self.path.read_bytes()[-1:] not in (b"\n", b"")
            self._file = self.path.open("a", encoding="utf-8")
            if torn:
                self._file.write("\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        if self._file is not None:
            file, self._file = self._file, None
            with writing(self.path):
                file.close()

    def add(self, entry: Entry) -> None:
        """Add an item's entry, which replaces an earlier one."""
        assert self._file is not None, "open it by 'with'"
        with writing(self.path):
            self._file.write(checksums.line(asdict(entry)))
            self._file.flush()
        self.entries[entry.item_id] = entry

    def summary(self, item_ids: Iterable[str]) -> Counter[str]:
        """Return how many items have a picture (``there``), and how many have none for which reason."""
        found: Counter[str] = Counter()
        for item_id in item_ids:
            entry = self.entries.get(item_id)
            found["not asked for yet" if entry is None else (entry.reason or "there")] += 1
        return found


def _is_sound(entry: Entry) -> bool:
    """Tell whether values are of their types, and the file's name is none that leads elsewhere."""
    typed = all(type(getattr(entry, name)) in kinds for name, kinds in _KINDS.items())
    return typed and Path(entry.file).name == entry.file
