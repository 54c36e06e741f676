"""Files of a report: written whole, listed, and removed once a later report no longer makes them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from illmrec.errors import InputError

MANIFEST = "report.json"
_OURS = re.compile(r"(figures|tables)/(figure|table|accuracy|claims)[a-z0-9_-]*\.(png|pdf|svg|csv|md|tex)")


class Output:
    """The folder that a report is written to.

    Args:
        folder: The output folder; the store is below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[str] = []

    def write(self, name: str, content: str | bytes) -> None:
        """Write one file whole: an old one stays until the new one is complete.

        Args:
            name: Path relative to the folder, with forward slashes.
            content: Text is written as UTF-8.

        Raises:
            InputError: If the disk is full or the folder cannot be written.
        """
        path = self.folder / name
        data = content.encode() if isinstance(content, str) else content
        temporary: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary_name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
            temporary = Path(temporary_name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            # mkstemp makes private files; a report is meant to be passed on.
            temporary.chmod(0o644)
            os.replace(temporary, path)
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}; free some space or choose another folder with --out"
            ) from error
        finally:
            if temporary is not None and temporary.exists():
                temporary.unlink()
        self.written.append(name)

    def finish(self) -> None:
        """Remove what the last report wrote and this one did not, and remember what this one wrote."""
        for name in self._last_written():
            if name not in self.written:
                (self.folder / name).unlink(missing_ok=True)
        self.write(MANIFEST, json.dumps({"files": sorted(self.written)}, indent=1) + "\n")

    def _last_written(self) -> list[str]:
        """Return the files of the last report, without names that no report gives to a file."""
        path = self.folder / MANIFEST
        if not path.is_file():
            return []
        try:
            files = json.loads(path.read_text(encoding="utf-8"))["files"]
            return [name for name in files if _OURS.fullmatch(name)]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot read {path}: {error!r}; delete it and run again") from error
