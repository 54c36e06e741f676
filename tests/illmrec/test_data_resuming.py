"""A build that is interrupted at one step after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_server import Server, serving
from publishers import amazon18_items, write_amazon18
from test_data_fetching import LOOPBACK, QUICK

from illmrec.data import load_dataset
from illmrec.data.fetching.manifest import Manifest
from illmrec.data.registry import source_named
from illmrec.data.sources import parsing, pipeline
from illmrec.data.sources.pipeline import Build, BuildOptions
from illmrec.data.sources.places import built_folder, work_folder
from illmrec.data.sources.writing import read_note
from illmrec.errors import InputError


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


def test_what_is_built_and_its_parts_are_built_again_where_they_are_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def build() -> dict | None:
        options = BuildOptions(images="none")
        folder = Build(source=source_named("amazon18-art"), options=options, directory=tmp_path).run()
        assert folder is not None
        return read_note(folder)

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    write_amazon18(tmp_path, items=lambda _: amazon18_items("https://example.org"))
    first = build()
    assert first is not None
    built = built_folder("amazon18-art")
    for name in ("interactions.parquet", "items.parquet", "build.json", "checksums.json"):
        damage(built / name)
        with pytest.raises(
            InputError, match=rf"{name}: damaged .*; run: python -m illmrec.data get amazon18-art"
        ):
            load_dataset("amazon18-art")
        caplog.clear()
        again = build()
        assert again is not None and again["fingerprint"] == first["fingerprint"]
        assert f"{built / name}: damaged" in caplog.text and "built again" in caplog.text
    parts = sorted(work_folder("amazon18-art").rglob("part-*.parquet"))
    assert len(parts) == 2
    for part in parts:
        damage(part)
    (built / "build.json").unlink()
    again = build()
    assert again is not None and again["fingerprint"] == first["fingerprint"]
    assert all(f"{part}: damaged" in caplog.text for part in parts)


def test_a_build_that_is_interrupted_again_and_again_ends_with_the_same_fingerprint(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(function: Callable[..., object], after: int) -> Callable[..., object]:
        calls = itertools.count()

        def stopping(*arguments, **options) -> object:
            if next(calls) == after:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return stopping

    def build() -> dict | None:
        folder = Build(
            source=source_named("amazon18-art"),
            options=BuildOptions(),
            directory=tmp_path,
            rules=LOOPBACK,
            limits=replace(QUICK, at_once=1),
        ).run()
        assert folder is not None
        return read_note(folder)

    write_amazon18(tmp_path, items=lambda _: amazon18_items(f"{server.base}/good"))
    for owner, name, after in (
        (parsing, "_write", 1), (Manifest, "add", 4), (pipeline, "write_pictures", 0),
    ):  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, stops(getattr(owner, name), after))
            with pytest.raises(KeyboardInterrupt):
                build()
        assert read_note(built_folder("amazon18-art")) is None
    continued = build()
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path / "another"))
    whole = build()
    assert continued is not None and whole is not None
    assert continued["fingerprint"] == whole["fingerprint"]
    # None is fetched again but the one that was not noted yet.
    fetched = sum(count for path, count in server.asked.items() if path.startswith("good/"))
    assert fetched == 2 * whole["statistics"]["items"] + 1
