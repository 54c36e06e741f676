"""``python -m bench.meters.load``: the endpoint under load on this machine, bad requests among the good ones.

The server is the real program in a process of its own. The clients take part of the machine's time too, so that a
machine of few cores serves more than is measured here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import psutil

from bench.store.results import print_table, write_table
from bench.store.store import Store
from illmrec import checksums
from illmrec.command_line import run
from illmrec.data import load_dataset
from illmrec.errors import InputError
from illmrec.escaping import csv_text
from illmrec.exported import ITEMS, is_exported
from illmrec.files import atomic_write_text
from illmrec.model.hub import AGAIN
from illmrec.saved_model import check_model
from illmrec.stored_models import OUT, model_folder

_START_SECONDS = 300.0
_STOP_SECONDS = 30.0
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class BadRequest:
    """A request that must be refused.

    Attributes:
        name: What is wrong with it.
        body: Its body.
        statuses: How it may be refused.
    """

    name: str
    body: bytes
    statuses: tuple[int, ...]


@dataclass(kw_only=True)
class Outcome:
    """What happened under load.

    Attributes:
        latencies: Seconds of each good request after the warm-up.
        refused: Bad requests that were refused as they must be.
        wrong: What was answered otherwise than it must be, in words.
        memory: Seconds since the start, and the server's resident memory in MiB then.
        open_files: Its open file descriptors at the same moments.
        asked: Requests that were answered until then, bad ones and those of the warm-up too.
        seconds: How long was measured.
        batch: Mean number of requests that were computed together.
    """

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)
    open_files: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    seconds: float = 0.0
    batch: float = 0.0


def main(
    *,
    model: str,
    seconds: float = 20.0,
    warm_up: float = 3.0,
    clients: int = 8,
    history_length: int = 10,
    top_k: int = 10,
    bad: float = 0.1,
    seed: int = 0,
    out: Path = OUT,
    device: str = "cpu",
) -> int:
    """Start the endpoint with a model, ask it from several clients at once, and stop it by SIGTERM.

    Users per second, latency, memory over time, and whether bad requests (unknown items, 10,000 items, NaN, no JSON,
    wrong types, too large k) were refused, all in one run. Writes tables/endpoint_load.csv and endpoint_memory.csv.
    Exit status 1 if a request was answered otherwise than it must be, or the server did not stop in order.

    Args:
        model: Key of a trained model in the store, or its folder, an exported one too.
        seconds: How long to measure.
        warm_up: Seconds of load before that.
        clients: Clients at a time; each asks again when it is answered.
        history_length: Items of a history, drawn at random.
        top_k: Items asked for.
        bad: Share of requests that are bad.
        seed: Of the histories.
        out: Folder of results: the store, and where the tables go.
        device: Where the LLM runs.
    """
    for name, value in (("seconds", seconds), ("clients", clients), ("history-length", history_length)):
        if not value > 0:
            raise InputError(f"--{name} {value}: must be above 0")
    if not 0 <= bad < 1:
        raise InputError(f"--bad {bad}: give a share from 0 to below 1")
    folder = model_folder(model, out=out)
    items = item_ids(folder)
    with server(folder, device=device) as (process, url):
        outcome = asyncio.run(
            put_load(
                url,
                process,
                items,
                seconds=seconds,
                warm_up=warm_up,
                clients=clients,
                length=history_length,
                k=top_k,
                bad=bad,
                seed=seed,
            )
        )
    if process.returncode:
        outcome.wrong.append(f"the server ended with status {process.returncode}")
    table = summary(outcome, clients=clients, history_length=history_length)
    store = Store(out)
    write_table(table, store, "endpoint_load")
    memory = pd.DataFrame(outcome.memory, columns=["second", "memory_mib"])
    atomic_write_text(out / "tables" / "endpoint_memory.csv", csv_text(memory, float_format="%.6g"))
    print_table(table, title=f"The endpoint under load: {folder.name}")
    for line in dict.fromkeys(outcome.wrong):
        print(f"wrong: {line}", flush=True)
    return int(bool(outcome.wrong))


def item_ids(folder: Path) -> list[str]:
    """Return the ids of a model's catalogue.

    Raises:
        InputError: If the folder holds no model.
    """
    if is_exported(folder):
        checksums.check(folder, ITEMS, remedy=AGAIN)
        return [str(item_id) for item_id in pd.read_parquet(folder / ITEMS)["item_id"]]
    path = folder / "model.json"
    if not path.is_file():
        raise InputError(f"{folder}: holds no trained model; python -m bench.ablation trains and stores some")
    check_model(folder)
    return list(load_dataset(**json.loads(path.read_text())["dataset"]).items["item_id"])


def bad_requests(items: Sequence[str]) -> list[BadRequest]:
    """Return one request for each way of being wrong."""

    def body(**content: object) -> bytes:
        return json.dumps(content).encode()

    known = items[0]
    return [
        BadRequest(name="unknown item", body=body(history=[known, f"{known}-unknown"]), statuses=(422,)),
        BadRequest(name="10,000 items", body=body(history=[known] * 10_000), statuses=(413, 422)),
        BadRequest(name="NaN", body=b'{"history": [NaN]}', statuses=(400,)),
        BadRequest(name="not JSON", body=b"history=1", statuses=(400,)),
        BadRequest(name="wrong type", body=body(history=[1, 2, 3]), statuses=(422,)),
        BadRequest(name="k too large", body=body(history=[known], k=10**9), statuses=(422,)),
        BadRequest(name="empty history", body=body(history=[]), statuses=(422,)),
    ]


@contextlib.contextmanager
def server(folder: Path, *, device: str = "cpu") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the endpoint, give its process and address once it answers, and end it by SIGTERM.

    Raises:
        InputError: If it does not start; with its own error, if it has one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "illmrec.serve", "--model", str(folder), "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--device", device], stderr=log)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_healthy(process, url)
            yield process, url
        except _NotStarted:
            log.seek(0)
            told = log.read().decode(errors="replace").strip().splitlines()
            said = told[-1].removeprefix("error: ") if told else "it said nothing"
            raise InputError(f"the endpoint did not start: {said}") from None
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class _NotStarted(Exception):
    pass


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{url}/health", timeout=5).status_code == 200:
                return
        time.sleep(0.1)
    raise _NotStarted


async def put_load(
    url: str,
    process: subprocess.Popen[bytes],
    items: Sequence[str],
    *,
    seconds: float,
    warm_up: float,
    clients: int,
    length: int,
    k: int,
    bad: float,
    seed: int,
) -> Outcome:
    """Ask an endpoint from several clients at once.

    Args:
        url: Its address.
        process: Its process, whose memory is looked at.
        items: Ids of its catalogue.
        seconds: How long to measure.
        warm_up: Seconds before that.
        clients: Clients at a time.
        length: Items of a history.
        k: Items asked for.
        bad: Share of requests that are bad.
        seed: Of the histories.
    """
    outcome = Outcome()
    began = time.perf_counter()
    measured_from, until = began + warm_up, began + warm_up + seconds
    wrongs = bad_requests(items)
    answered = 0

    async def good(client: httpx2.AsyncClient, draw: np.random.Generator) -> None:
        history = [items[row] for row in draw.integers(len(items), size=length)]
        start = time.perf_counter()
        answer = await client.post("/recommend", json={"history": history, "k": k})
        if answer.status_code != 200:
            outcome.wrong.append(
                f"a good request was answered with {answer.status_code}: {answer.text[:200]}"
            )
        elif start >= measured_from:
            outcome.latencies.append(time.perf_counter() - start)

    async def refused(client: httpx2.AsyncClient, wrong: BadRequest) -> None:
        answer = await client.post("/recommend", content=wrong.body, headers=_JSON)
        if answer.status_code in wrong.statuses and "Traceback" not in answer.text:
            outcome.refused += 1
        else:
            outcome.wrong.append(f"{wrong.name}: answered with {answer.status_code}")

    async def ask(number: int) -> None:
        nonlocal answered
        draw = np.random.default_rng([seed, number])
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            turn = 0
            while time.perf_counter() < until:
                if draw.random() < bad:
                    await refused(client, wrongs[(number + turn) % len(wrongs)])
                    turn += 1
                else:
                    await good(client, draw)
                answered += 1

    async def look() -> None:
        watched = psutil.Process(process.pid)
        while time.perf_counter() < until:
            if (now := time.perf_counter()) >= measured_from:
                outcome.memory.append((now - measured_from, watched.memory_info().rss / 2**20))
                outcome.open_files.append(watched.num_fds() if psutil.POSIX else watched.num_handles())
                outcome.asked.append(answered)
            await asyncio.sleep(min(0.5, seconds / 8))

    await asyncio.gather(look(), *(ask(number) for number in range(clients)))
    outcome.seconds = time.perf_counter() - measured_from
    outcome.batch = await _mean_batch(url)
    return outcome


async def _mean_batch(url: str) -> float:
    async with httpx2.AsyncClient(base_url=url) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("illmrec_batch_size_"))
    return float(values["illmrec_batch_size_sum"]) / max(1.0, float(values["illmrec_batch_size_count"]))


def summary(outcome: Outcome, *, clients: int, history_length: int) -> pd.DataFrame:
    """Return one row of what happened; memory at the start and end is the median of a quarter of the time."""
    latencies = np.array(outcome.latencies) * 1000
    memory = np.array([mib for _, mib in outcome.memory])
    quarter = max(1, len(memory) // 4)
    p50, p95 = np.percentile(latencies, [50, 95]) if len(latencies) else (np.nan, np.nan)
    row = {
        "clients": clients,
        "history_length": history_length,
        "seconds": outcome.seconds,
        "users_per_second": len(latencies) / outcome.seconds,
        "latency_ms_p50": p50,
        "latency_ms_p95": p95,
        "batch": outcome.batch,
        "memory_mib_start": float(np.median(memory[:quarter])) if len(memory) else np.nan,
        "memory_mib_end": float(np.median(memory[-quarter:])) if len(memory) else np.nan,
        "memory_mib_peak": float(memory.max()) if len(memory) else np.nan,
        "answered": len(latencies),
        "refused": outcome.refused,
        "wrong": len(outcome.wrong),
    }
    return pd.DataFrame([row])


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.meters.load", interrupted=""))
