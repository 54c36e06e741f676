"""Where the cache lies: ILLMREC_CACHE, then XDG_CACHE_HOME, then the user's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from illmrec.files import cache_dir


@pytest.mark.parametrize(
    ("ours", "shared", "expected"),
    [
        ("/ours", "/shared", "/ours"),
        (None, "/shared", "/shared/illmrec"),
        ("", "/shared", "/shared/illmrec"),
        (None, None, "/home/someone/.cache/illmrec"),
        (None, "", "/home/someone/.cache/illmrec"),
        (None, "relative", "/home/someone/.cache/illmrec"),
    ],
)
def test_order(ours: str | None, shared: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    for name, value in (("ILLMREC_CACHE", ours), ("XDG_CACHE_HOME", shared)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)
