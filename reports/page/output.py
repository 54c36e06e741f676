"""Files of a report: written whole, listed, kept while nothing changes, and removed once no longer made."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from illmrec.errors import InputError
from illmrec.files import hash_json, parsed_json
from illmrec.temporary import remove_abandoned, replacing

MANIFEST = "report.json"
_OURS = re.compile(
    r"(figures|tables)/(figure|table|accuracy|claims|headline)[a-z0-9_-]*\.(png|pdf|svg|csv|md|tex)|ranks\.parquet"
)


class Output:
    """The folder that a report is written to.

    Args:
        folder: Where the files go.
        manifest: Name of the file that lists them.
        seals: Whether the manifest also tells what figures were made from, so that the next report can keep them.
    """

    def __init__(self, folder: Path, manifest: str = MANIFEST, *, seals: bool = True) -> None:
        self.folder = folder
        self.manifest = manifest
        self.written: set[str] = set()
        self._sealing = seals
        self._seals: dict[str, str] = {}
        self._last = self._last_report()
        remove_abandoned(folder, folder / "figures", folder / "tables")

    def kept(self, name: str, made_from: str) -> bytes | None:
        """Return a file of the last report that would become the same again, or None.

        Args:
            name: Path relative to the folder, with forward slashes.
            made_from: Digest of all that the file depends on.

        Returns:
            The content, unless the file was made from something else, is gone or was changed since.
        """
        seal = self._last["seals"].get(name)
        path = self.folder / name
        if seal is None or not path.is_file():
            return None
        content = path.read_bytes()
        if _seal(content, made_from) != seal:
            return None
        self.written.add(name)
        self._seals[name] = seal
        return content

    def write(self, name: str, content: str | bytes, *, made_from: str = "") -> None:
        """Write one file whole: an old one stays until the new one is complete.

        Args:
            name: Path relative to the folder, with forward slashes.
            content: Text is written as UTF-8.
            made_from: Digest of all that the file depends on, for ``kept`` of the next report.

        Raises:
            InputError: If the disk is full or the folder cannot be written.
        """
        path = self.folder / name
        data = content.encode() if isinstance(content, str) else content
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror}; free some space or choose another folder with --out"
            ) from error
        self.written.add(name)
        if made_from and self._sealing:
            self._seals[name] = _seal(data, made_from)

    def finish(self, **facts: Any) -> None:
        """Remove what the last report wrote and this one did not, and remember what this one wrote.

        Args:
            facts: What else the manifest says.
        """
        for name in self._last["files"]:
            if name not in self.written:
                (self.folder / name).unlink(missing_ok=True)
        content = {**facts, "files": sorted(self.written)}
        if self._seals:
            content["seals"] = dict(sorted(self._seals.items()))
        self.write(self.manifest, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def _last_report(self) -> dict[str, Any]:
        """Return the last report's files, without names that no report gives to a file, and their seals."""
        path = self.folder / self.manifest
        if not path.is_file():
            return {"files": [], "seals": {}}
        try:
            content = parsed_json(path.read_text(encoding="utf-8"))
            files = [name for name in content["files"] if _OURS.fullmatch(name)]
            return {"files": files, "seals": dict(content.get("seals", {}))}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"cannot read {path}: {error!r}; delete it and run again") from error


def _seal(content: bytes, made_from: str) -> str:
    """Return what tells a file that is as it was written from one that was changed or made from something else."""
    return hash_json([made_from, hashlib.sha256(content).hexdigest()])
