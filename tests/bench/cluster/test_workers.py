"""A grid on a real scheduler and worker processes: one killed, one of another version, the scheduler gone."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import comparison
from bench.store.store import Store
from illmrec.command_line import run

pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[3]
SMALL = [
    "--preset", "smoke", "--users", "40", "--items", "50", "--min-interactions", "1", "--negatives", "10",
    "--layers", "1", "--max-steps", "2",
]  # fmt: skip
SMALL += [
    "--methods", "tallrec,popularity,illmrec,random", "--features", "image,text", "--no-progress",
    "--no-report",
]  # fmt: skip
HANGING = """
import pathlib, time
from bench.harness import bench

if not hasattr(bench, "hangs"):  # dask loads this twice
    bench.hangs = bench.compute_accuracy

    def hanging(place, store):
        def computed(cell):
            if cell.method == {method!r}:
                (pathlib.Path({folder!r}) / "hanging").touch()
                time.sleep(120)
            return bench.hangs(place, store)(cell)
        return computed

    bench.compute_accuracy = hanging
"""


class Cluster:
    """A scheduler and workers, each a process of its own.

    Args:
        folder: For their files; workers share a cache there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, module: str, *arguments: str, path: Path = ROOT) -> subprocess.Popen[bytes]:
        cache = str(self.folder / "cache")
        environment = {**os.environ, "PYTHONPATH": str(path), "ILLMREC_CACHE": cache, "OMP_NUM_THREADS": "1"}
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
        process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def scheduler(self) -> subprocess.Popen[bytes]:
        return self.start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port))

    def worker(self, name: str, *, hangs_at: str = "", path: Path = ROOT) -> subprocess.Popen[bytes]:
        preload = []
        if hangs_at:
            script = self.folder / f"{name}.py"
            script.write_text(HANGING.format(folder=str(self.folder), method=hangs_at))
            preload = ["--preload", str(script)]
        alone = ("--nthreads", "1", "--no-nanny")
        return self.start("dask_worker", self.address, "--name", name, *alone, *preload, path=path)

    def when_hanging(self, then: Callable[[], None]) -> threading.Thread:
        """Do something once a worker is in mid-cell."""
        mark = self.folder / "hanging"

        def watch() -> None:
            deadline = time.monotonic() + 90
            while not mark.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            mark.unlink(missing_ok=True)
            then()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    found = Cluster(folder)
    yield found
    found.close()


def another_version(folder: Path) -> Path:
    """Return a folder with a copy of the project whose version is another."""
    for package in ("illmrec", "baselines", "bench"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "illmrec" / "__init__.py"
    module.write_text(module.read_text() + '\n__version__ = "0.0.1"\n')
    return folder


def results(out: Path) -> dict[str, tuple[object, list[int]]]:
    """Return of each cell what does not depend on time: metrics and ranks."""
    store, found = Store(out), {}
    for record in store.records():
        ranks = store.read_frame(record, "ranks")["rank_full"].tolist() if "full" in record.results else []
        kept = ("sampled", "full", "estimated", "lists", "prompt", "similarity")
        found[f"{record.experiment} {record.key}"] = (
            {name: record.results[name] for name in kept if name in record.results},
            ranks,
        )
    return found


@pytest.mark.slow
def test_a_grid_outlives_its_scheduler_and_a_worker_and_equals_that_of_one_process(
    cluster: Cluster,
    tiny_llm: Path,
    tiny_encoders: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    common = [*SMALL, "--llm", str(tiny_llm), *tiny_encoders]

    def compare(out: Path, *arguments: str) -> int:
        return run(comparison.main, prog="bench.comparison", args=[*common, "--out", str(out), *arguments])

    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert compare(alone) == 0

    scheduler = cluster.scheduler()
    first = cluster.worker("first", hangs_at="random")
    ended = cluster.when_hanging(scheduler.kill)
    capsys.readouterr()
    assert compare(spread, "--scheduler", cluster.address) == 2
    ended.join()
    first.kill()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: the scheduler {cluster.address} went away: finished cells are kept")
    before = {record.key: record for record in Store(spread).records("accuracy")}
    assert {record.method for record in before.values()} == {"tallrec", "popularity", "illmrec"}

    cluster.scheduler()
    second = cluster.worker("second", hangs_at="random")
    cluster.worker("old", path=another_version(tmp_path / "old"))
    ended = cluster.when_hanging(lambda: (cluster.worker("third"), second.kill()))
    assert compare(spread, "--scheduler", cluster.address) == 0
    ended.join()
    told = capsys.readouterr().err
    (refused,) = [line for line in told.splitlines() if "refused" in line]
    assert "worker old at " in refused and "it has 0.0.1+" in refused
    assert "worker second was lost" in told
    assert results(spread) == results(alone) and len(before) == 3
    for record in Store(spread).records("accuracy"):
        assert record.key not in before or record == before[record.key]
    log = "".join(path.read_text() for path in (spread / "store" / "logs").iterdir())
    assert "worker second was lost" in log and "[third] " in log
