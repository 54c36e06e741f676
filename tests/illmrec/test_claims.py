"""Claims: one at a time has a cell, whatever dies, stands still or comes at the same moment."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from illmrec import claims
from illmrec.claims import Claim, FolderFiles
from illmrec.errors import InputError


@pytest.fixture
def files(tmp_path: Path) -> FolderFiles:
    return FolderFiles(tmp_path / "locks")


def elsewhere(files: FolderFiles, *, generation: int = 1, lease: float = 0.2, beat: int = 0) -> None:
    """Leave the claim of a process of another machine, which gives no sign of life by itself."""
    fields = {"owner": "other", "place": "there", "pid": 1, "started": 0.0, "lease": lease, "beat": beat}
    content = json.dumps({**fields, "released": False}).encode()
    if not files.create(f"cell.{generation}.claim", content):
        files.replace(f"cell.{generation}.claim", content)


def take(start: threading.Barrier, claim: Claim) -> bool:
    start.wait()
    return claim.acquire(wait=False)


def test_of_many_that_want_a_claim_at_once_one_gets_it(files: FolderFiles) -> None:
    """Also where all of them take over from the same dead owner."""
    for expired in (False, True):
        if expired:
            elsewhere(files)
        claims = [Claim(files, "cell") for _ in range(16)]
        if expired:
            assert not any(claim.acquire(wait=False) for claim in claims)
            time.sleep(0.25)
        start = threading.Barrier(len(claims))
        with ThreadPoolExecutor(len(claims)) as pool:
            taken = list(pool.map(partial(take, start), claims))
        assert sum(taken) == 1
        (owner,) = [claim for claim in claims if claim.taken]
        assert owner.held()
        owner.release()
        for path in files._folder.iterdir():
            path.unlink()


def test_a_released_claim_is_free_and_a_held_one_is_waited_for(files: FolderFiles) -> None:
    first, second = Claim(files, "cell"), Claim(files, "cell")
    assert first.acquire(wait=False) and not second.acquire(wait=False) and not second.vacant()
    assert second.holder and not second.taken
    threading.Timer(0.2, first.release).start()
    began = time.monotonic()
    assert second.acquire() and time.monotonic() - began >= 0.2
    assert not first.taken and second.held()


def test_an_owner_that_shows_life_keeps_its_claim_and_one_that_does_not_loses_it(
    files: FolderFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = Claim(files, "cell", lease=0.6)
    assert alive.acquire(wait=False)
    watcher = Claim(files, "cell")
    for _ in range(8):
        time.sleep(0.1)
        assert not watcher.acquire(wait=False)
    assert alive.held()
    alive.release()

    now = [0.0]
    monkeypatch.setattr(claims, "time", SimpleNamespace(monotonic=lambda: now[0]))
    elsewhere(files, generation=2)
    late = Claim(files, "cell")
    assert not late.acquire(wait=False)
    now[0] += 0.15
    elsewhere(files, generation=2, beat=1)
    assert not late.acquire(wait=False), "a sign of life starts its lease anew"
    now[0] += 0.15
    assert not late.acquire(wait=False)
    now[0] += 0.1
    assert late.vacant() and late.holder == "other"
    assert Claim(files, "cell").acquire(wait=False, abandoned=("other",)), "watched by somebody else"


def test_who_stood_still_finds_that_another_took_over(files: FolderFiles) -> None:
    owner = Claim(files, "cell", lease=1000)
    assert owner.acquire(wait=False) and owner.held()
    elsewhere(files, generation=2)
    assert not owner.held()
    owner.release()
    assert json.loads(files.read("cell.2.claim"))["owner"] == "other", "the new owner's claim is left alone"
    assert not Claim(files, "cell").acquire(wait=False)


def test_the_claim_of_a_process_that_died_here_is_free_at_once(tmp_path: Path, files: FolderFiles) -> None:
    script = (
        "import os, sys; from pathlib import Path; from illmrec.claims import Claim, FolderFiles\n"
        "assert Claim(FolderFiles(Path(sys.argv[1])), 'cell').acquire(wait=False); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "locks")], check=False)
    assert done.returncode == 9
    assert Claim(files, "cell").acquire(wait=False)


def test_a_claim_that_is_being_written_is_held(files: FolderFiles) -> None:
    assert files.create("cell.1.claim", b"")
    assert not Claim(files, "cell").acquire(wait=False)


def test_a_full_disk_is_one_line(files: FolderFiles, tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*locks.*free some space"):
        Claim(files, "cell").acquire(wait=False)


def test_a_claim_that_could_not_be_written_holds_up_nobody(
    files: FolderFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match="No space left"):
            Claim(files, "cell").acquire(wait=False)
    assert not list((tmp_path / "locks").iterdir())
    claim = Claim(files, "cell")
    assert claim.acquire(wait=False)
    claim.release()


def test_claims_need_no_links(files: FolderFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", none)
    assert files.create("a", b"one") and not files.create("a", b"two")
    assert files.read("a") == b"one"
    assert [path.name for path in (tmp_path / "locks").iterdir()] == ["a"]


def test_a_link_whose_answer_was_lost_is_a_claim(files: FolderFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def twice(*arguments: Path) -> None:
        link(*arguments)
        link(*arguments)

    monkeypatch.setattr(os, "link", twice)
    assert files.create("a", b"one") and not files.create("a", b"two")
