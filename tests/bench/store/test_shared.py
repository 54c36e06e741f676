"""Results that machines share by a URL of fsspec."""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from bench.harness.runner import run_cells
from bench.store.cell import Cell, Outcome
from bench.store.shared import SharedStore, open_store
from bench.store.store import Store
from illmrec.errors import InputError


def make(seed: int) -> Cell:
    return Cell(
        experiment="accuracy",
        version=1,
        config={"method": "m", "seed": seed},
        method="m",
        seed=seed,
        dataset={},
    )


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The bucket that ``ILLMREC_TEST_S3`` names, of MinIO say, else one of a moto server on this machine."""
    if named := os.environ.get("ILLMREC_TEST_S3"):
        yield named
        return
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "tests")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("tests")
        yield "s3://tests"
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place of its own."""
    below = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{below}/results"
    if request.param == "file":
        return f"file://{tmp_path}/shared"
    return f"{request.getfixturevalue('bucket')}/{below}"


def outcome(cell: Cell) -> Outcome:
    return Outcome(results={"seed": cell.seed}, frames={"ranks": pd.DataFrame({"rank": [cell.seed, 3]})})


def test_a_cell_of_one_machine_is_found_by_another_as_it_was_written(url: str, tmp_path: Path) -> None:
    here, there = SharedStore(tmp_path / "here", url), SharedStore(tmp_path / "there", url)
    here.check_writable()
    assert there.find(make(1)) is None and there.records() == []
    written = here.write(make(1), {"seed": 1}, outcome(make(1)).frames, seconds=2)
    found = there.find(make(1))
    assert found is not None and found.folder != written.folder
    for path in written.folder.iterdir():
        assert (found.folder / path.name).read_bytes() == path.read_bytes()
    assert [record.key for record in SharedStore(tmp_path / "third", url).records("accuracy")] == [
        make(1).key
    ]
    assert SharedStore(tmp_path / "fourth", url).read("accuracy", make(1).key).results == {"seed": 1}


def test_what_another_machine_computes_anew_is_seen_on_request(url: str, tmp_path: Path) -> None:
    here, there = SharedStore(tmp_path / "here", url), SharedStore(tmp_path / "there", url)
    here.write(make(1), {"try": 1}, seconds=1)
    there.find(make(1))
    here.write(make(1), {"try": 2}, seconds=1)
    assert there.find(make(1)).results == {"try": 1}
    assert there.refresh(make(1)).results == {"try": 2} == there.find(make(1)).results


def test_results_from_before_are_given_to_the_url(url: str, tmp_path: Path) -> None:
    Store(tmp_path / "here").write(make(1), {"seed": 1}, seconds=1)
    assert SharedStore(tmp_path / "here", url).find(make(1)) is not None
    assert SharedStore(tmp_path / "there", url).find(make(1)) is not None


def test_two_machines_share_the_work(url: str, tmp_path: Path) -> None:
    here, there = SharedStore(tmp_path / "here", url), SharedStore(tmp_path / "there", url)
    claim = here.claim(make(0))
    assert claim.acquire(wait=False)
    done = run_cells([make(0), make(1)], outcome, there, progress=False, wait=False)
    assert set(done.held) == {make(0).key} and [record.seed for record in done.records] == [1]
    claim.release()
    done = run_cells([make(0), make(1)], outcome, there, progress=False)
    assert [record.seed for record in done.records] == [0, 1]
    assert here.find(make(1)) is not None


def test_what_is_no_cell_is_refused(url: str, tmp_path: Path) -> None:
    store = SharedStore(tmp_path / "here", url)
    path = f"{url}/cells/accuracy/{make(1).key}.zip"
    with fsspec.open(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../outside.parquet", b"x")
    with pytest.raises(InputError, match="not the files of a cell"):
        store.find(make(1))
    with fsspec.open(path, "wb") as file:
        file.write(b"half of it")
    with pytest.raises(InputError, match="delete it and run again"):
        store.find(make(1))
    assert not list((tmp_path).rglob("outside.parquet"))


def test_a_url_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--store nonsense://x: cannot be used"):
        open_store(tmp_path, "nonsense://x")
    with pytest.raises(InputError, match="created by one writer alone"):
        open_store(tmp_path, f"filecache::file://{tmp_path}")
    (tmp_path / "file").write_text("")
    store = SharedStore(tmp_path / "out", f"file://{tmp_path}/file/below")
    with pytest.raises(InputError, match=r"--store file://.*cannot be used"):
        store.check_writable()
    assert type(open_store(tmp_path, None)) is Store
