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

from illmrec.data.fetching.manifest import Manifest
from illmrec.data.registry import source_named
from illmrec.data.sources import parsing, pipeline
from illmrec.data.sources.pipeline import Build, BuildOptions
from illmrec.data.sources.places import built_folder
from illmrec.data.sources.writing import read_note


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


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
