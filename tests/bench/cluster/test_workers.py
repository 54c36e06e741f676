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
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from programs import start_program

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
ALONE = ("--nthreads", "1", "--no-nanny", "--no-dashboard")
HANGING = """
import pathlib, time
from bench.harness import bench

if not hasattr(bench, "hangs"):  # dask loads this twice
    bench.hangs = bench.compute_accuracy

    def hanging(place, store, **options):
        def computed(cell):
            if cell.method == {method!r}:
                (pathlib.Path({folder!r}) / "hanging").touch()
                time.sleep(120)
            return bench.hangs(place, store, **options)(cell)
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
        self.processes: list[BaseProcess] = []
        self.others: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "ILLMREC_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}

    def start(self, module: str, *arguments: str) -> BaseProcess:
        output = self.folder / f"output-{len(self.processes)}"
        output.mkdir()
        process = start_program(
            f"distributed.cli.{module}",
            arguments,
            folder=self.folder,
            output=output,
            environment=self.environment,
        )
        self.processes.append(process)
        return process

    def scheduler(self) -> BaseProcess:
        return self.start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def worker(self, name: str, *, hangs_at: str = "") -> BaseProcess:
        preload = []
        if hangs_at:
            script = self.folder / f"{name}.py"
            script.write_text(HANGING.format(folder=str(self.folder), method=hangs_at))
            preload = ["--preload", str(script)]
        return self.start("dask_worker", self.address, *ALONE, "--name", name, *preload)

    def worker_of(self, project: Path, name: str) -> None:
        """Start a worker of another copy of the project, in an interpreter of its own."""
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, *ALONE, "--name", name]
        environment = {**self.environment, "PYTHONPATH": str(project)}
        with (self.folder / f"{name}.log").open("wb") as log:
            self.others.append(
                subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
            )

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
            process.join()
        for other in self.others:
            other.kill()
            other.wait()


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
    cluster.worker_of(another_version(tmp_path / "old"), "old")
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
