"""Downloads against a hostile server: nothing that is good is lost, nothing else gets in, and all of it resumes."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_server import Server, serving
from PIL import Image
from publishers import amazon18_items, picture, write_amazon18

from illmrec.data import load_dataset
from illmrec.data.fetching import files, transport
from illmrec.data.fetching.manifest import Manifest
from illmrec.data.fetching.pictures import MANIFEST, Limits, Wanted, download_pictures, picture_files
from illmrec.data.fetching.transport import AddressRules, Refused
from illmrec.data.registry import SourceFile, source_named
from illmrec.data.sources.pipeline import Build, BuildOptions
from illmrec.data.sources.writing import read_note
from illmrec.errors import InputError

LOOPBACK = AddressRules(allow_loopback=True)
QUICK = Limits(
    per_second=1000, idle=0.5, seconds=1.5, bytes=2_000_000, tries=2, pause=0.02, longest_pause=0.1
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def fetch(server: Server, folder: Path, *paths: str, limits: Limits = QUICK, **options):
    wanted = [
        Wanted(item_id=f"i{place}", urls=(f"{server.base}/{path}",)) for place, path in enumerate(paths)
    ]
    return download_pictures(wanted, folder, limits=limits, rules=LOOPBACK, **options)


HOSTILE = {
    "stalls/1.jpg": "took too long",
    "drips/1.jpg": "took too long",
    "truncates/1.jpg": "cut short",
    "cut/1.jpg": "the picture is corrupt or truncated",
    "html/1.jpg": "not a picture",
    "empty/1.jpg": "the picture is empty",
    "endless/1.jpg": "larger than the limit",
    "packed/1.jpg": "packed although it was asked for as it is",
    "bomb/1.png": "more pixels than the limit",
    "nowhere/1.jpg": "status 404",
    "always/503/1.jpg": "status 503",
    "redirect/round": "more than 5 redirects",
    "redirect/private": "10.1.2.3 is no public address",
    "redirect/metadata": "169.254.169.254 is no public address",
    "redirect/mapped": "::ffff:10.1.2.3 is no public address",
    "redirect/file": "only http and https are fetched",
    "redirect/nowhere": "redirected to no address",
}
GOOD = {
    "good/1.jpg": ".jpg",
    "text/2.jpg": ".png",  # the content says what it is, neither the host nor the name
    "once/429/3.jpg": ".jpg",
    "once/500/4.jpg": ".jpg",
    "redirect/here": ".jpg",
    "redirect/relative": ".jpg",
}


def test_a_hostile_host_loses_nothing_and_lets_nothing_in(server: Server, tmp_path: Path) -> None:
    paths = [*HOSTILE, *GOOD]
    found = fetch(server, tmp_path, *paths)
    assert found["there"] == len(GOOD)
    entries = Manifest(tmp_path / MANIFEST).entries
    for place, (path, reason) in enumerate(HOSTILE.items()):
        assert entries[f"i{place}"].reason.startswith(reason), path
        assert not list(tmp_path.glob(f"i{place}.*"))
    for place, (_, suffix) in enumerate(GOOD.items(), start=len(HOSTILE)):
        entry = entries[f"i{place}"]
        content = (tmp_path / entry.file).read_bytes()
        assert entry.file == f"i{place}{suffix}" and entry.bytes == len(content) and entry.status == 200
        assert entry.sha256 == hashlib.sha256(content).hexdigest()
        Image.open(io.BytesIO(content)).load()
    assert not list(tmp_path.glob(".tmp-*"))
    assert sum(found.values()) == len(paths)
    assert server.asked["always/503/1.jpg"] == QUICK.tries and server.asked["nowhere/1.jpg"] == 1


def test_an_interrupted_download_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"good/{number}.jpg" for number in range(12)] + ["nowhere/1.jpg", "always/503/1.jpg"]
    add = Manifest.add

    def breaks(self, entry) -> None:
        add(self, entry)
        if len(self.entries) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Manifest, "add", breaks)
        with pytest.raises(KeyboardInterrupt):
            fetch(server, tmp_path, *paths, limits=Limits(per_second=1000, at_once=1, tries=1))
    assert len(list(tmp_path.glob("*.jpg"))) == 5
    (tmp_path / MANIFEST).open("a").write('{"item_id": "i9", "url": "ht')  # a line that a kill cut short
    fetch(server, tmp_path, *paths)
    assert all(server.asked[path] == 1 for path in paths[:13])
    fetch(server, tmp_path, *paths)  # again what may pass, not what is there or gone
    assert server.asked["nowhere/1.jpg"] == 1 and server.asked["always/503/1.jpg"] == 4
    fetch(server, tmp_path, *paths, retry_missing=True)
    assert server.asked["nowhere/1.jpg"] == 2
    (tmp_path / "i3.jpg").write_bytes(b"")  # no longer what the manifest says
    assert set(picture_files(tmp_path, [f"i{n}" for n in range(14)])) == {
        f"i{n}" for n in range(12) if n != 3
    }
    fetch(server, tmp_path, *paths)
    assert server.asked["good/3.jpg"] == 2 and server.asked["good/4.jpg"] == 1


def test_the_second_address_is_asked_where_the_first_fails(server: Server, tmp_path: Path) -> None:
    urls = (f"{server.base}/nowhere/1.jpg", f"{server.base}/good/1.jpg")
    found = download_pictures([Wanted(item_id="a", urls=urls)], tmp_path, limits=QUICK, rules=LOOPBACK)
    assert found["there"] == 1 and Manifest(tmp_path / MANIFEST).entries["a"].url.endswith("good/1.jpg")


def test_hosts_are_asked_politely(server: Server, tmp_path: Path) -> None:
    paths = [f"slow/{number}.jpg" for number in range(12)]
    fetch(server, tmp_path / "few", *paths, limits=Limits(per_host=2, per_second=1000))
    assert server.at_once <= 2
    start = time.monotonic()
    fetch(
        server,
        tmp_path / "paced",
        *(f"good/{number}.jpg" for number in range(6)),
        limits=Limits(per_second=20),
    )
    assert time.monotonic() - start >= 5 / 20


def test_a_host_that_asks_to_wait_is_waited_for(server: Server, tmp_path: Path) -> None:
    """It asks for a minute; the limit makes a third of a second of that, for its other pictures as well."""
    limits = Limits(tries=2, pause=0.01, per_second=1000, per_host=1, longest_pause=0.3)
    found = fetch(server, tmp_path, "wait/1.jpg", "good/2.jpg", limits=limits)
    assert found["there"] == 2
    assert server.starts[1] - server.starts[0] >= 0.29


def test_ids_that_are_no_file_names_and_addresses_that_are_none(server: Server, tmp_path: Path) -> None:
    wanted = [
        Wanted(item_id="../../x", urls=(f"{server.base}/good/1.jpg",)),
        Wanted(item_id="a", urls=()),
        Wanted(item_id="b", urls=("http://",)),
        Wanted(item_id="c", urls=("ftp://images.example/1.jpg",)),
        Wanted(item_id="d", urls=("http://user:secret@127.0.0.1/1.jpg",)),
    ]
    found = download_pictures(wanted, tmp_path / "in", limits=QUICK, rules=LOOPBACK)
    assert found == {
        "its id cannot be a file's name": 1, "no address": 1, "not an address": 1,
        "only http and https are fetched": 1, "the address holds a user's name or password": 1,
    }  # fmt: skip
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [MANIFEST]


def test_a_host_that_is_not_reached_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    wanted = [Wanted(item_id=f"i{n}", urls=(f"http://127.0.0.1:{port}/{n}",)) for n in range(200)]
    found = download_pictures(wanted, tmp_path, limits=QUICK, rules=LOOPBACK)
    assert found == {"host not reached": 200}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "fe80::1%eth0", "fc00::1", "::ffff:192.168.1.1", "64:ff9b::a00:1", "2002:a00:1::",
        "ff02::1", "::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    with pytest.raises(Refused, match="no public address"):
        AddressRules().check(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_that_are_public(address: str) -> None:
    AddressRules().check(address)


def test_loopback_is_allowed_by_name_alone(server: Server, tmp_path: Path) -> None:
    wanted = [Wanted(item_id="a", urls=(f"{server.base}/good/1.jpg",))]
    assert download_pictures(wanted, tmp_path, limits=QUICK) == {"127.0.0.1 is no public address": 1}
    assert not server.asked
    with pytest.raises(Refused):
        LOOPBACK.check("10.0.0.1")


def _resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names resolve to addresses, another list each time, and return the names that were asked."""
    asked: list[str] = []

    async def resolve(self, host, port, **_):
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", resolve)
    return asked


def test_a_name_is_resolved_once_and_connected_to_as_checked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a second look-up would lead elsewhere; there is none."""
    asked = _resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    port = server.base.rpartition(":")[2]
    wanted = [Wanted(item_id=f"i{n}", urls=(f"http://images.example:{port}/good/{n}.jpg",)) for n in range(3)]
    found = download_pictures(wanted, tmp_path, limits=Limits(at_once=1), rules=LOOPBACK)
    assert found["there"] == 3 and set(asked) == {"images.example"} and len(asked) == 1
    assert server.hosts == {f"images.example:{port}"}


def test_a_name_with_one_private_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _resolving(monkeypatch, ["8.8.8.8", "192.168.0.1"])
    wanted = [Wanted(item_id="a", urls=("http://images.example/1.jpg",))]
    assert download_pictures(wanted, tmp_path, limits=QUICK) == {"192.168.0.1 is no public address": 1}


def _file(server: Server, **changes) -> SourceFile:
    return SourceFile(**{"name": "file.txt", "url": f"{server.base}/file.txt", **changes})


def test_a_file_that_breaks_off_is_resumed(server: Server, tmp_path: Path) -> None:
    server.breaks = 3
    path = files.fetch_file(_file(server), tmp_path, rules=LOOPBACK, pause=0.01)
    assert path.read_bytes() == server.content
    assert len(server.ranges) == 3 and all(asked != "bytes=0-" for asked in server.ranges)
    assert {entry.name for entry in tmp_path.iterdir()} == {"file.txt", "file.txt.lock"}
    asked = server.asked.total()
    assert files.fetch_file(_file(server), tmp_path, rules=LOOPBACK) == path
    assert server.asked.total() == asked


def test_a_file_that_changed_meanwhile_is_fetched_anew(server: Server, tmp_path: Path, monkeypatch) -> None:
    server.breaks = 1
    monkeypatch.setattr(files, "TRIES", 1)
    with pytest.raises(InputError, match="run the command again to go on"):
        files.fetch_file(_file(server), tmp_path, rules=LOOPBACK, pause=0.01)
    server.etag, server.content = '"two"', server.content[::-1]
    path = files.fetch_file(_file(server), tmp_path, rules=LOOPBACK, pause=0.01)
    assert path.read_bytes() == server.content and not server.ranges


def test_sizes_and_checksums(server: Server, tmp_path: Path, monkeypatch) -> None:
    right = hashlib.sha256(server.content).hexdigest()
    wrong = {
        "bytes": (5, "has 538,890 bytes, not 5"),
        "checksum": ("sha256:" + "0" * 64, f"has the sha256 sum {right}, not 0000"),
    }
    for key, (value, said) in wrong.items():
        with pytest.raises(InputError, match=said):
            files.fetch_file(_file(server, **{key: value}), tmp_path, rules=LOOPBACK)
        assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt.lock"]
    for checksum in (
        f"sha256:{right}",
        "md5:" + hashlib.md5(server.content, usedforsecurity=False).hexdigest(),
    ):
        files.fetch_file(_file(server, checksum=checksum), tmp_path, rules=LOOPBACK).unlink()
    monkeypatch.setattr(
        files, "_expected", lambda url, rules: ("md5", asyncio.run(files._small(url, rules)).split()[-1])
    )
    files.fetch_file(_file(server, checksum=f"{server.base}/file.txt.md5"), tmp_path, rules=LOOPBACK)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere/x", "status 404"),
        ("redirect/private", "10.1.2.3 is no public address"),
        ("packed/x", "packed although"),
    ],
)
def test_files_that_cannot_be_had(path: str, said: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        files.fetch_file(_file(server, url=f"{server.base}/{path}"), tmp_path, rules=LOOPBACK, pause=0.01)
    assert not list(tmp_path.glob("file.txt"))


def test_a_file_that_is_packed_by_itself_stays_packed(server: Server, tmp_path: Path) -> None:
    wanted = _file(server, name="file.gz", url=f"{server.base}/file.gz")
    path = files.fetch_file(wanted, tmp_path, rules=LOOPBACK)
    assert gzip.decompress(path.read_bytes()) == server.content


def test_a_disk_that_is_too_small_is_told_before(server: Server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "_SPARE", 10**18)
    with pytest.raises(InputError, match=r"file.txt: needs 0.00 GB, and .* GB are free"):
        files.fetch_file(_file(server), tmp_path, rules=LOOPBACK)


def test_a_file_behind_a_log_in_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="accept the rules"):
        files.fetch_file(SourceFile(name="x.csv", how="accept the rules"), tmp_path)


def test_a_whole_data_set_with_pictures_from_the_network(server: Server, tmp_path: Path) -> None:
    def items(_: list[dict]) -> list[dict]:
        rows = amazon18_items(f"{server.base}/good")
        rows[1]["imageURLHighRes"] = [f"{server.base}/nowhere/1.jpg"]  # the smaller picture stands in
        rows[4] |= {"imageURLHighRes": [f"{server.base}/always/503/4.jpg"], "imageURL": []}
        rows[2] |= {
            "imageURLHighRes": [f"{server.base}/html/2.jpg"],
            "imageURL": [f"{server.base}/bomb/2.png"],
        }
        return rows

    write_amazon18(tmp_path, items=items)
    options = BuildOptions(min_interactions=2, low_resolution=True)
    source = source_named("amazon18-art")

    def run(**others) -> Path | None:
        return Build(
            source=source, options=options, directory=tmp_path, rules=LOOPBACK, limits=QUICK, **others
        ).run()

    assert run(shard=(1, 2)) is None
    before = server.asked.copy()
    assert run(shard=(2, 2)) is None
    folder = run()
    assert all(
        count == 1
        for path, count in server.asked.items()
        if path.startswith("good/") and "1._US40" not in path
    ), before
    assert folder is not None
    note = read_note(folder)
    assert note is not None and note["again"] == 1
    reasons = {"there": 8, "more pixels than the limit": 1, "status 503": 1}
    assert note["pictures"]["images"] == reasons
    dataset = load_dataset("amazon18-art", min_interactions=2)
    assert "B000000002" not in set(dataset.items["item_id"]) and dataset.n_items == 8
    assert dataset.images is not None and dataset.images.available.all()
    assert dataset.low_resolution is not None and dataset.low_resolution.available.all()
    assert json.loads((folder / "build.json").read_text())["steps"][-2]["notes"] == {
        "items without a picture": 2
    }
    assert picture(0) == _bytes(folder, "B000000000.jpg")
    before = server.asked.copy()
    run()  # what may pass is asked for again, and nothing else
    assert set(server.asked - before) == {"always/503/4.jpg"}


def _bytes(folder: Path, name: str) -> bytes:
    import zipfile

    with zipfile.ZipFile(folder / "images.zip") as archive:
        return archive.read(name)


def test_certificates_are_checked_for_the_name_that_was_asked() -> None:
    """The connection goes to a number; the name stays what the certificate is compared with."""
    seen = {}

    class Inner:
        async def handle_async_request(self, request):
            seen.update(
                url=str(request.url), host=request.headers["host"], sni=request.extensions["sni_hostname"]
            )
            return transport.httpx2.Response(200)

    async def ask() -> None:
        checked = transport.CheckedTransport(AddressRules())
        checked._addresses["images.example", 443] = (transport.time.monotonic(), "8.8.8.8")
        checked._hosts["images.example"] = Inner()  # type: ignore[assignment]
        await checked.handle_async_request(transport.httpx2.Request("GET", "https://images.example/1.jpg"))

    asyncio.run(ask())
    assert seen == {"url": "https://8.8.8.8/1.jpg", "host": "images.example", "sni": "images.example"}
