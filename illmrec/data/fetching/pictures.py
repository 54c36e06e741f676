"""Pictures of items from the network: several at a time, polite to each host, each checked to be a picture."""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from PIL import Image
from tqdm import tqdm

from illmrec.data.fetching.manifest import Entry, Manifest
from illmrec.data.fetching.transport import AddressRules, Refused, answer, client, in_words
from illmrec.data.images import IMAGE_FORMATS, decode_image, quiet_pillow
from illmrec.errors import InputError
from illmrec.files import writing
from illmrec.temporary import replacing

logger = logging.getLogger(__name__)

MANIFEST = "manifest.jsonl"
SUFFIXES = {
    "JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "AVIF": ".avif",
}  # fmt: skip

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}")
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_UNREACHED = 10  # failures to connect in a row, without a success before, after which a host is given up


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A picture that is wanted.

    Attributes:
        item_id: The item, after which the file is named.
        urls: Where it may be, the best first.
    """

    item_id: str
    urls: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is asked of a network, of hosts and of this machine.

    Attributes:
        per_host: Requests to one host at a time.
        at_once: Requests at a time.
        per_second: Requests to one host that begin in a second.
        idle: Seconds without a byte after which a request fails.
        seconds: Seconds that a request may take.
        bytes: Size of a file above which it is not read.
        tries: Times that an address is asked where it fails in a way that may pass.
        pause: Seconds before the second try; twice as long before each further one, less up to a half by lot.
        longest_pause: Seconds that a pause, or a host's ``Retry-After``, has at most.
    """

    per_host: int = 4
    at_once: int = 16
    per_second: float = 10.0
    idle: float = 15.0
    seconds: float = 60.0
    bytes: int = 20_000_000
    tries: int = 4
    pause: float = 1.0
    longest_pause: float = 120.0


class _Failed(Exception):
    """A try that failed, with status, reason, and whether another may do better."""

    def __init__(self, reason: str, *, again: bool, status: int | None = None, after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason, self.again, self.status, self.after = reason, again, status, after


@dataclass
class _Host:
    """How a host is doing: who waits, when the next request may begin."""

    places: asyncio.Semaphore
    next_start: float = 0.0
    unreached: int = 0
    reached: bool = False

    @property
    def given_up(self) -> bool:
        return not self.reached and self.unreached >= _UNREACHED


def download_pictures(
    wanted: Sequence[Wanted],
    folder: Path,
    *,
    limits: Limits | None = None,
    rules: AddressRules | None = None,
    manifest: str = MANIFEST,
    retry_missing: bool = False,
    progress: bool = False,
) -> Counter[str]:
    """Fetch pictures into ``folder/<item_id>.<suffix>`` and note what became of each in ``manifest.jsonl``.

    What is there is not fetched again; what failed for good (not found, no picture, too large) is asked again with
    ``retry_missing`` alone, what failed otherwise each time. The content decides what a file is, not what the host says
    of it. An interrupted download goes on where it stopped.

    Args:
        wanted: The pictures.
        folder: Where they go.
        limits: How much is asked of hosts and machine.
        rules: Which addresses may be connected to.
        manifest: Name of the manifest that is written; all that are there are read. Each of several shards has its own.
        retry_missing: Ask again for all that is missing.
        progress: Show a bar.

    Returns:
        How many pictures are ``there``, and how many are missing for which reason.

    Raises:
        InputError: If the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Manifest(folder / manifest) as noted:
        missing = [one for one in wanted if _is_due(noted.entries.get(one.item_id), folder, retry_missing)]
        with tqdm(total=len(missing), desc="pictures", unit="file", disable=not progress, delay=1) as bar:
            fetching = _Fetching(
                folder=folder,
                manifest=noted,
                limits=limits or Limits(),
                rules=rules or AddressRules(),
                bar=bar,
            )
            asyncio.run(fetching.run(missing))
        found = noted.summary(one.item_id for one in wanted)
    shown = ", ".join(f"{reason} {count:,}" for reason, count in found.most_common() if reason != "there")
    logger.info(
        "%d of %d pictures are there%s", found["there"], len(wanted), f"; missing: {shown}" if shown else ""
    )
    return found


def picture_files(folder: Path, item_ids: Sequence[str]) -> dict[str, Path]:
    """Return the files of the items that have one, as the manifest says, where they are there and of that SHA-256."""
    entries = Manifest(folder / MANIFEST).entries
    found = {}
    for item_id in item_ids:
        entry = entries.get(item_id)
        if entry is not None and entry.file and _is_whole(entry, folder):
            found[item_id] = folder / entry.file
    return found


def may_pass(folder: Path, item_ids: Sequence[str]) -> int:
    """Return how many items lack a picture for a reason that may pass, so that another run may have more luck."""
    entries = Manifest(folder / MANIFEST).entries
    return sum(item_id in entries and entries[item_id].again for item_id in item_ids)


def _is_whole(entry: Entry, folder: Path) -> bool:
    path = folder / entry.file
    if not path.is_file() or path.stat().st_size != entry.bytes:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256


def _is_due(entry: Entry | None, folder: Path, retry_missing: bool) -> bool:
    if entry is None:
        return True
    if entry.file:
        return not _is_whole(entry, folder)
    return entry.again or retry_missing


@dataclass(kw_only=True)
class _Fetching:
    """One run of a download."""

    folder: Path
    manifest: Manifest
    limits: Limits
    rules: AddressRules
    bar: tqdm
    hosts: dict[str, _Host] = field(default_factory=dict)

    async def run(self, wanted: Sequence[Wanted]) -> None:
        remaining = iter(wanted)
        async with client(self.rules, per_host=self.limits.per_host, idle=self.limits.idle) as http:
            at_work = [asyncio.ensure_future(self._work(http, remaining)) for _ in range(self.limits.at_once)]
            try:
                await asyncio.gather(*at_work)
            finally:  # where one fails, as on a full disk, the others stop, and are not heard of again
                for one in at_work:
                    one.cancel()
                await asyncio.gather(*at_work, return_exceptions=True)

    async def _work(self, http: httpx2.AsyncClient, remaining: Iterator[Wanted]) -> None:
        for one in remaining:
            self.manifest.add(await self._item(http, one))
            self.bar.update()

    async def _item(self, http: httpx2.AsyncClient, one: Wanted) -> Entry:
        if not _SAFE.fullmatch(one.item_id):
            return Entry(item_id=one.item_id, url="", reason="its id cannot be a file's name")
        entry = Entry(item_id=one.item_id, url="", reason="no address")
        again = False
        for url in dict.fromkeys(one.urls):
            try:
                content, status = await self._tried(http, url)
                kept = await asyncio.to_thread(_checked_and_kept, content, one.item_id, self.folder)
                return Entry(
                    item_id=one.item_id,
                    url=url,
                    status=status,
                    bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                    file=kept,
                )
            except _Failed as failed:
                again |= failed.again
                entry = Entry(
                    item_id=one.item_id,
                    url=url,
                    status=failed.status,
                    reason=failed.reason,
                    again=again,
                )
        return entry

    async def _tried(self, http: httpx2.AsyncClient, url: str) -> tuple[bytes, int]:
        """Ask an address until it answers, or has failed as often as it may."""
        name = _host_of(url)
        host = self.hosts.setdefault(name, _Host(places=asyncio.Semaphore(self.limits.per_host)))
        for attempt in range(self.limits.tries):
            if host.given_up:
                raise _Failed("host not reached", again=True)
            try:
                async with host.places:
                    await self._turn(host)
                    content, status = await asyncio.wait_for(self._once(http, url), self.limits.seconds)
                host.reached = True
                return content, status
            except (httpx2.HTTPError, asyncio.TimeoutError, OSError) as error:
                failed = _Failed(in_words(error), again=True)
                host.unreached += isinstance(error, httpx2.ConnectError)
            except Refused as error:
                raise _Failed(str(error), again=False) from None
            except _Failed as error:
                failed = error
                host.reached |= error.status is not None
                if not failed.again:
                    raise
            if attempt + 1 < self.limits.tries:
                await self._pause(host, failed, attempt)
        raise failed

    async def _once(self, http: httpx2.AsyncClient, url: str) -> tuple[bytes, int]:
        async with answer(http, url, headers={"Accept": "image/*"}) as response:
            status = response.status_code
            if status != 200:
                after = response.headers.get("retry-after", "")
                seconds = min(float(after), self.limits.longest_pause) if after.isdigit() else 0.0
                raise _Failed(f"status {status}", again=status in _AGAIN, status=status, after=seconds)
            content = bytearray()
            async for block in response.aiter_raw():
                content += block
                if len(content) > self.limits.bytes:
                    raise _Failed("larger than the limit", again=False, status=status)
        return bytes(content), status

    async def _turn(self, host: _Host) -> None:
        """Wait until the host may be asked again."""
        while (wait := host.next_start - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        host.next_start = time.monotonic() + 1 / self.limits.per_second

    async def _pause(self, host: _Host, failed: _Failed, attempt: int) -> None:
        pause = min(self.limits.pause * 2**attempt, self.limits.longest_pause) * random.uniform(0.5, 1.0)
        if failed.after:  # the host said so: nobody asks it before
            host.next_start = max(host.next_start, time.monotonic() + failed.after)
        await asyncio.sleep(max(pause, failed.after))


def _host_of(url: str) -> str:
    try:
        name = httpx2.URL(url).host
    except (httpx2.InvalidURL, ValueError):
        name = ""
    if not name:
        raise _Failed("not an address", again=False)
    return name


def _checked_and_kept(content: bytes, item_id: str, folder: Path) -> str:
    """Write a picture whole, if it is one, and return the file's name."""
    try:
        decode_image(content, where=item_id)
        with quiet_pillow(), Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as image:
            kind = image.format or ""
    except (InputError, OSError) as error:
        reason = _what_is_wrong(str(error))
        raise _Failed(reason, again="truncated" in reason, status=200) from None
    name = f"{item_id}{SUFFIXES[kind]}"
    with writing(folder), replacing(folder / name) as temporary:
        temporary.write_bytes(content)
    return name


def _what_is_wrong(said: str) -> str:
    """Return why a picture cannot be used, without its name and size."""
    for words in ("empty", "pixels", "corrupt or truncated"):
        if words in said:
            return {"pixels": "more pixels than the limit"}.get(words, f"the picture is {words}")
    return "not a picture"
