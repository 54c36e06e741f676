"""Trackers: every result once, with its numbers and figures, by the real packages where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import retrieval
from bench.cluster.task import Answer
from bench.harness.runner import run_cells
from bench.store.cell import Cell, Outcome, Record
from bench.store.store import Store
from bench.trackers import tracking
from bench.trackers.figures import hits, spread
from bench.trackers.tracked import run_id, tracked
from bench.trackers.tracking import Tracking
from illmrec.command_line import run
from illmrec.errors import InputError

RANKS = np.array([1, 1, 3, 8, 40, 2, 101])


def cell(seed: int) -> Cell:
    config = {"method": "tiny", "seed": seed, "dataset": {"name": "a/b", "fingerprint": "0"}, "budget": None}
    return Cell(experiment="accuracy", version=1, config=config, method="tiny", seed=seed, dataset={})


def compute(given: Cell) -> Outcome:
    ranks = pd.DataFrame({"rank_sampled": RANKS, "rank_full": RANKS * 2})
    results = {"users": 7, "sampled": {"ndcg@10": 0.25 + given.seed}, "training": {"converged": True}}
    return Outcome(results=results, frames={"ranks": ranks})


def tensorboard_runs(out: Path) -> dict[str, dict]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = {}
    for folder in (out / "tracking" / "tensorboard" / "accuracy").iterdir():
        read = EventAccumulator(str(folder))
        read.Reload()
        text = read.Tensors("cell/text_summary")[0].tensor_proto.string_val[0].decode()
        runs[folder.name] = {
            "metrics": {name: read.Scalars(name)[0].value for name in read.Tags()["scalars"]},
            "parameters": json.loads(text),
            "figures": read.Tags()["images"],
        }
        assert len(read.Scalars("sampled.ndcg@10")) == 1
    return runs


def mlflow_runs(out: Path) -> dict[str, dict]:
    import mlflow

    client = mlflow.MlflowClient(
        tracking_uri=f"sqlite:///{(out / 'tracking' / 'mlflow' / 'mlflow.db').absolute()}"
    )
    experiment = client.get_experiment_by_name("illmrec/accuracy")
    return {
        each.data.tags["illmrec.run"]: {
            "metrics": {name.replace("_at_", "@"): value for name, value in each.data.metrics.items()},
            "parameters": each.data.params,
            "figures": [file.path.removesuffix(".png") for file in client.list_artifacts(each.info.run_id)],
        }
        for each in client.search_runs([experiment.experiment_id])
    }


def trackio_runs(out: Path) -> dict[str, dict]:
    from trackio.sqlite_storage import SQLiteStorage

    runs = {}
    for name in SQLiteStorage.get_runs("illmrec"):
        (logged,) = SQLiteStorage.get_logs("illmrec", name)
        runs[name.split()[-1]] = {
            "metrics": {key: value for key, value in logged.items() if isinstance(value, float)},
            "parameters": SQLiteStorage.get_run_config("illmrec", name),
            "figures": [key for key, value in logged.items() if isinstance(value, dict)],
        }
    return runs


def wandb_entries(content: bytes) -> Iterator[bytes]:
    """Yield the entries of a ``.wandb`` file: a header of 7 bytes, then the log format of LevelDB, 32 KiB a block."""
    at, entry = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        entry += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield entry
            entry = b""


def wandb_runs(out: Path) -> dict[str, dict]:
    """Read what ``wandb sync`` would send, once wandb's own process has ended: until then it may still write."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record as Entry

    wandb.teardown()
    runs: dict[str, dict] = {}
    for path in (out / "tracking" / "wandb" / "wandb").glob("offline-run-*/run-*.wandb"):
        found: dict = {"metrics": {}, "parameters": {}, "figures": []}
        for data in wandb_entries(path.read_bytes()):
            entry = Entry()
            entry.ParseFromString(data)
            for update in entry.run.config.update:
                found["parameters"][update.key] = json.loads(update.value_json)
            for item in entry.history.item:
                parts, value = list(item.nested_key) or [item.key], json.loads(item.value_json)
                if parts[-1] == "_type":
                    found["figures"].append(".".join(parts[:-1]))
                elif isinstance(value, int | float):
                    found["metrics"][".".join(parts)] = value
        assert path.stem.removeprefix("run-") not in runs
        runs[path.stem.removeprefix("run-")] = found
    return runs


READERS: dict[str, Callable[[Path], dict[str, dict]]] = {
    "mlflow": mlflow_runs,
    "tensorboard": tensorboard_runs,
    "trackio": trackio_runs,
    "wandb": wandb_runs,
}


@pytest.mark.parametrize(
    "name",
    ["tensorboard", "trackio", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mlflow", "wandb"))],
)
def test_each_result_is_one_run_with_numbers_and_figures(name, tmp_path, monkeypatch):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the extra {name} is not installed")
    for variable in ("MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "tracking" / "trackio"))
    store, cells = Store(tmp_path), [cell(0), cell(1)]
    run_cells(cells[:1], compute, store, progress=False)  # before anything was tracked
    for _ in range(2):  # the second time all are found
        done = run_cells(cells, compute, store, progress=False, track=Tracking(name, store).log)
    runs = READERS[name](tmp_path)
    assert set(runs) == {run_id(record) for record in done.records}
    for record in done.records:
        found = runs[run_id(record)]
        assert found["metrics"]["sampled.ndcg@10"] == pytest.approx(0.25 + record.seed)
        assert found["metrics"]["users"] == 7 and "training.converged" not in found["metrics"]
        assert str(found["parameters"]["seed"]) == str(record.seed)
        assert found["parameters"]["dataset.name"] == "a/b" and found["parameters"]["budget"] == "none"
        assert found["figures"] == ["ranks"]
    # Killed between writing the run and noting it: written again, not twice.
    for note in (tmp_path / "tracking" / "logged").glob("*/*[!k]"):
        note.unlink()
    Tracking(name, store).log(done.records[0])
    assert set(READERS[name](tmp_path)) == set(runs)
    # Computed anew, it is another result.
    again = run_cells(
        cells[:1], compute, store, overwrite="always", progress=False, track=Tracking(name, store).log
    )
    assert set(READERS[name](tmp_path)) == {*runs, run_id(again.records[0])}


@pytest.mark.slow
def test_a_server_that_does_not_answer_stops_before_the_work(tmp_path, monkeypatch):
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"--track mlflow: http://127\.0\.0\.1:9 does not answer") as caught:
        Tracking("mlflow", Store(tmp_path))
    assert "\n" not in str(caught.value)


class Flaky:
    """A tracker in memory that can be out of order."""

    destination = "memory"
    runs: list[str]
    tries = 0
    broken: str | None = None

    def __init__(self, out: Path) -> None:
        pass

    def check(self) -> None:
        if Flaky.broken == "at the start":
            raise ConnectionError("refused\nby the host")

    def log(self, run: object) -> None:
        Flaky.tries += 1
        if Flaky.broken == "later":
            raise ConnectionError("gone")
        Flaky.runs.append(run.id)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    monkeypatch.setitem(tracking.TRACKERS, "mlflow", Flaky)
    monkeypatch.setattr(Flaky, "runs", [], raising=False)
    monkeypatch.setattr(Flaky, "tries", 0)
    monkeypatch.setattr(Flaky, "broken", None)
    return Flaky


def test_a_tracker_that_is_not_there_is_one_line(flaky, tmp_path):
    flaky.broken = "at the start"
    with pytest.raises(InputError, match="memory does not answer \\(refused by the host\\)"):
        Tracking("mlflow", Store(tmp_path))


def test_a_tracker_that_fails_later_is_told_once_and_caught_up_with(flaky, tmp_path, caplog):
    store = Store(tmp_path)
    cells = [cell(seed) for seed in range(4)]
    log = Tracking("mlflow", store).log

    def breaking(given: Cell) -> Outcome:
        flaky.broken = "later" if given.seed >= 1 else None
        return compute(given)

    with caplog.at_level(logging.WARNING):
        done = run_cells(cells, breaking, store, progress=False, track=log)
    assert len(done.records) == 4 and done.status == 0
    assert flaky.tries == 2 and len(flaky.runs) == 1
    (warning,) = [line.message for line in caplog.records if "goes on without it" in line.message]
    assert "gone" in warning
    flaky.broken = None
    run_cells(cells, compute, store, progress=False, track=Tracking("mlflow", store).log)
    assert flaky.runs == [run_id(record) for record in done.records]


def test_what_workers_compute_is_logged_by_the_command(flaky, tmp_path):
    store, cells = Store(tmp_path), [cell(0), cell(1)]

    def elsewhere(wanted: Sequence[Cell]) -> Iterator[tuple[Cell, Answer]]:
        for each in wanted:
            run_cells(
                [each], compute, Store(tmp_path), progress=False
            )  # a worker, which is told of no tracker
            yield each, Answer(kind="done", worker="tcp://there")

    log = Tracking("mlflow", store).log
    done = run_cells(cells, compute, store, progress=False, spread=elsewhere, track=log)
    assert flaky.runs == [run_id(record) for record in done.records] and len(flaky.runs) == 2


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(InputError, match=r"--track wandb: .* pip install 'illmrec\[wandb\]'"):
        Tracking("wandb", Store(tmp_path))


def test_an_experiment_logs_its_cells_once(tmp_path):
    arguments = ["--preset", "smoke", "--items", "300", "--queries", "20", "--width", "8", "--kinds", "exact"]
    options = ["--repeats", "1", "--no-progress", "--out", str(tmp_path), "--track", "tensorboard"]
    for _ in range(2):
        assert run(retrieval.main, prog="retrieval", args=[*arguments, *options]) == 0
    (folder,) = (tmp_path / "tracking" / "tensorboard" / "retrieval").iterdir()
    (record,) = Store(tmp_path).records("retrieval")
    assert folder.name == run_id(record)


def test_hits_are_shares_of_ranks():
    figure = hits(pd.DataFrame({"rank_sampled": RANKS}))
    (line,) = figure.axes[0].lines
    for k, share in zip(*line.get_data(), strict=True):
        assert share == pytest.approx(np.mean([rank <= k for rank in RANKS]))
    assert hits(pd.DataFrame({"other": RANKS})) is None and spread(pd.DataFrame({"seconds": []})) is None


def test_names_of_nested_values_are_joined(tmp_path):
    store = Store(tmp_path)
    record: Record = run_cells([cell(0)], compute, store, progress=False).records[0]
    run_of = tracked(record, store)
    assert run_of.parameters == {
        "method": "tiny", "seed": 0, "dataset.name": "a/b", "dataset.fingerprint": "0", "budget": "none",
    }  # fmt: skip
    assert {"users": 7.0, "sampled.ndcg@10": 0.25}.items() <= run_of.metrics.items()
