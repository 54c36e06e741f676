"""A publisher's files from the network: resumed where they stopped, checked, whole or not there."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
from pathlib import Path

import httpx2
from tqdm import tqdm

from illmrec.data.fetching.transport import AddressRules, Refused, answer, client, in_words
from illmrec.data.registry import SourceFile
from illmrec.errors import InputError
from illmrec.files import atomic_write_text, check_space, exclusive, parsed_json, writing

logger = logging.getLogger(__name__)

TRIES = 5
IDLE = 60.0
_SPARE = 100_000_000  # bytes that stay free on the disk


class _Failed(Exception):
    """A try that failed in a way that may pass."""


def fetch_file(
    wanted: SourceFile,
    folder: Path,
    *,
    rules: AddressRules | None = None,
    pause: float = 2.0,
    progress: bool = False,
) -> Path:
    """Return ``folder/NAME``, fetched if it is not there; what a broken run left of it is not fetched again.

    Args:
        wanted: The file.
        folder: Where it goes.
        rules: Which addresses may be connected to.
        pause: Seconds before the second try; twice as long before each further one.
        progress: Show a bar.

    Raises:
        InputError: If it cannot be fetched, the disk is full, or size or checksum are not what the publisher says.
    """
    path = folder / wanted.name
    if path.is_file():
        return path
    if wanted.url is None:
        raise InputError(
            f"{wanted.name}: cannot be fetched by a program; {wanted.how or 'give --source DIR'}"
        )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{wanted.name}.part"
    with exclusive(path, wanted.name):
        if path.is_file():  # another process fetched it while this one waited
            return path
        logger.info("fetching %s", wanted.url)
        asyncio.run(_fetch(wanted, wanted.url, part, rules or AddressRules(), pause=pause, progress=progress))
        check_file(part, wanted, rules=rules)
        with writing(folder):
            os.replace(part, path)
            _validators(part).unlink(missing_ok=True)
    return path


def check_file(path: Path, wanted: SourceFile, *, rules: AddressRules | None = None) -> None:
    """Check a file's size and checksum against those that the registry has.

    Raises:
        InputError: If one differs; a file that was being fetched is deleted.
    """
    size = path.stat().st_size
    fault = ""
    if wanted.bytes is not None and size != wanted.bytes:
        fault = f"has {size:,} bytes, not {wanted.bytes:,}"
    elif wanted.checksum is not None:
        kind, expected = _expected(wanted.checksum, rules)
        found = _digest(path, kind)
        if found != expected:
            fault = f"has the {kind} sum {found}, not {expected}"
    if fault:
        if path.suffix == ".part":
            path.unlink()
            _validators(path).unlink(missing_ok=True)
        raise InputError(
            f"{path.name.removesuffix('.part')}: {fault}; fetch it again, or the publisher has changed it"
        )


def _digest(path: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _expected(checksum: str, rules: AddressRules | None) -> tuple[str, str]:
    if not checksum.startswith("https://"):
        kind, _, expected = checksum.partition(":")
        return kind, expected
    text = asyncio.run(_small(checksum, rules or AddressRules()))
    found = re.search(r"\b[0-9a-f]{32}\b", text)
    if found is None:
        raise InputError(f"{checksum}: holds no MD5 sum; the publisher has changed it")
    return "md5", found[0]


async def _small(url: str, rules: AddressRules) -> str:
    async with client(rules, per_host=1, idle=IDLE) as http:
        try:
            async with answer(http, url) as response:
                content = b""
                async for block in response.aiter_raw():
                    content += block
                    if len(content) > 10_000:
                        break
                return content.decode("utf-8", errors="replace") if response.status_code == 200 else ""
        except (httpx2.HTTPError, Refused, OSError) as error:
            raise InputError(f"{url}: {in_words(error)}; try again") from None


async def _fetch(
    wanted: SourceFile, url: str, part: Path, rules: AddressRules, *, pause: float, progress: bool
) -> None:
    async with client(rules, per_host=1, idle=IDLE) as http:
        for attempt in range(TRIES):
            before = part.stat().st_size if part.is_file() else 0
            try:
                await _once(http, url, part, progress=progress)
                return
            except (httpx2.HTTPError, _Failed, asyncio.TimeoutError) as error:
                said = str(error) if isinstance(error, _Failed) else in_words(error)
            except Refused as error:
                raise InputError(f"{url}: {error}") from None
            got = part.stat().st_size if part.is_file() else 0
            if attempt + 1 < TRIES:
                logger.warning("%s: %s at %s bytes; trying again", wanted.name, said, f"{got:,}")
                # A connection that brought something is not held against the host.
                await asyncio.sleep(pause if got > before else pause * 2**attempt)
    raise InputError(
        f"{url}: {said}; run the command again to go on, or fetch it by hand and give --source DIR"
    )


async def _once(http: httpx2.AsyncClient, url: str, part: Path, *, progress: bool) -> None:
    start, headers = _range(part)
    async with answer(http, url, headers=headers, packed=url.endswith(".gz")) as response:
        status = response.status_code
        if status == 416 and start:
            part.unlink()
            raise _Failed("what was there does not fit any more")
        if status not in (200, 206):
            said = f"status {status}"
            if status in (429,) or status >= 500:
                raise _Failed(said)
            raise Refused(said)
        if status == 200:
            start = 0
        elif not response.headers.get("content-range", "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise _Failed("another part than the one that was asked for")
        length = response.headers.get("content-length", "")
        total = start + int(length) if length.isdigit() else None
        _check_space(part, total, start)
        known = {"etag": response.headers.get("etag"), "modified": response.headers.get("last-modified")}
        atomic_write_text(_validators(part), json.dumps(known))
        await _copy(response, part, start=start, total=total, progress=progress)


async def _copy(
    response: httpx2.Response, part: Path, *, start: int, total: int | None, progress: bool
) -> None:
    with (
        writing(part),
        part.open("ab" if start else "wb") as file,
        tqdm(
            total=total,
            initial=start,
            desc=part.stem,
            unit="B",
            unit_scale=True,
            disable=not progress,
            delay=1,
        ) as bar,
    ):
        async for block in response.aiter_raw():
            file.write(block)
            bar.update(len(block))
    if total is not None and part.stat().st_size != total:
        raise _Failed(f"cut short: {part.stat().st_size:,} of {total:,} bytes")


def _validators(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _range(part: Path) -> tuple[int, dict[str, str]]:
    """Return where to go on, and the headers that ask for the rest of the same file."""
    size = part.stat().st_size if part.is_file() else 0
    if not size or not _validators(part).is_file():
        return 0, {}
    known = parsed_json(_validators(part).read_text(encoding="utf-8"))
    validator = known.get("etag") or known.get("modified")
    if not validator or validator.startswith("W/"):
        return 0, {}
    return size, {"Range": f"bytes={size}-", "If-Range": validator}


def _check_space(part: Path, total: int | None, start: int) -> None:
    if total is not None:
        check_space(part.parent, total - start, what=part.stem, spare=_SPARE)
