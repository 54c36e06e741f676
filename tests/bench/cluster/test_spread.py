"""What becomes of cells whose worker fails in one way or another; no scheduler is started here."""

from __future__ import annotations

import ast
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench import comparison, retrieval
from bench.cluster import spread, worker
from bench.cluster.options import parse_resources
from bench.cluster.spread import Spread
from bench.cluster.task import Answer, Needs, Task
from bench.harness import bench as bench_module
from bench.harness.grid import Grid
from bench.harness.settings import Settings
from bench.store.cell import Cell, Outcome
from bench.store.store import Store
from illmrec.command_line import invocation, run
from illmrec.errors import InputError

pytest.importorskip("distributed")
TASK = Task(module="m", args=(), folder=".", command="c", stage=0, known=())
SMALL = [
    "--preset", "smoke", "--users", "40", "--items", "50", "--min-interactions", "1", "--negatives", "10",
    "--no-progress", "--no-report",
]  # fmt: skip


def make(seed: int, **config: str) -> Cell:
    return Cell(
        experiment="accuracy",
        version=1,
        config={"method": "m", "seed": seed, **config},
        method="m",
        seed=seed,
        dataset={},
    )


class Future:
    def __init__(self, answer: Answer | None) -> None:
        self.answer, self.status = answer, "finished" if answer else "pending"

    def done(self) -> bool:
        return self.answer is not None

    def result(self) -> Answer:
        return self.answer

    def cancel(self) -> None:
        self.status = "cancelled"


class Connection:
    """A scheduler whose workers answer as a function says; None never answers, and the worker is gone.

    Args:
        answers: Gives the answer of a worker to a task.
        workers: Their names.
    """

    resource, topic, local = "illmrec", "topic", True

    def __init__(self, answers: Callable[[str, Task], Answer | None], *workers: str) -> None:
        self.workers: dict[str, dict[str, float]] = {name: {} for name in workers}
        self.client = SimpleNamespace(submit=self._submit, status="running", cancel=lambda futures: None)
        self._answers, self._silent = answers, set()
        self.asked: list[tuple[str, str]] = []
        self.dismissed: dict[str, str] = {}

    def look(self) -> None:
        for name in self._silent:
            self.workers.pop(name, None)
        if not self.workers:
            raise InputError("no worker")

    def ask(self, question: Callable[[], object]) -> object:
        return question()

    def dismiss(self, address: str, reason: str) -> None:
        self.dismissed[address] = reason
        del self.workers[address]
        if not self.workers:
            raise InputError(f"no worker is left: {reason}")

    def _submit(self, function: object, task: Task, *, workers: list[str], **options: object) -> Future:
        (name,) = workers
        self.asked.append((name, task.part or task.key))
        answer = self._answers(name, task)
        if answer is None:
            self._silent.add(name)
        return Future(answer)


def spread_over(
    connection: Connection, cells: list[Cell], tmp_path: Path, needs: dict[str, Needs] | None = None
) -> dict[int, Answer]:
    spreading = Spread(connection, TASK, needs=needs or {}, store=Store(tmp_path))
    return {cell.seed: answer for cell, answer in spreading.run(cells)}


DONE = Answer(kind="done")


def test_a_full_disk_on_one_worker_moves_its_cells_to_the_others(tmp_path: Path) -> None:
    full = Answer(kind="unfit", message="cannot write x: No space left on device")
    connection = Connection(lambda name, task: full if name == "full" else DONE, "full", "fine")
    found = spread_over(connection, [make(seed) for seed in range(4)], tmp_path)
    assert {answer.kind for answer in found.values()} == {"done"} and len(found) == 4
    assert list(connection.dismissed) == ["full"] and "No space left" in connection.dismissed["full"]
    assert [name for name, _ in connection.asked].count("full") == 1
    with pytest.raises(InputError, match="no worker is left: cannot write x"):
        spread_over(Connection(lambda name, task: full, "one", "two"), [make(0)], tmp_path)


def test_a_lost_worker_loses_no_cell_and_a_cell_that_loses_workers_is_given_up(tmp_path: Path) -> None:
    connection = Connection(lambda name, task: None if name == "lost" else DONE, "lost", "fine")
    found = spread_over(connection, [make(seed) for seed in range(4)], tmp_path)
    assert {answer.kind for answer in found.values()} == {"done"} and len(found) == 4

    deadly = make(1).key
    names = [str(number) for number in range(6)]
    connection = Connection(lambda name, task: None if task.key == deadly else DONE, *names)
    found = spread_over(connection, [make(0), make(1), make(2)], tmp_path)
    assert (found[0], found[2]) == (DONE, DONE)
    assert found[1].kind == "failed" and "3 workers were lost" in found[1].message
    assert len(connection.workers) == 3


def test_a_cell_of_another_run_is_tried_again_when_its_claim_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "_HELD_SECONDS", 0.05)
    claim = Store(tmp_path).claim(make(1))
    assert claim.acquire(wait=False)
    threading.Timer(0.4, claim.release).start()

    def answer(name: str, task: Task) -> Answer:
        held = task.key == make(1).key and claim.taken
        return Answer(kind="held", message="other") if held else DONE

    connection = Connection(answer, "one")
    found = spread_over(connection, [make(1), make(2)], tmp_path)
    assert found == {1: DONE, 2: DONE}
    assert [key for _, key in connection.asked] == [make(1).key, make(2).key, make(1).key]


def test_what_cells_share_is_computed_once_and_before_them_whatever_comes_of_it(tmp_path: Path) -> None:
    cells = [make(seed) for seed in range(3)]
    needs = {cell.key: Needs(parts={"image": "images of the data"}, group="g") for cell in cells}

    def answer(name: str, task: Task) -> Answer:
        return Answer(kind="failed", message="broken") if task.part else DONE

    connection = Connection(answer, "one", "two")
    assert set(spread_over(connection, cells, tmp_path, needs)) == {0, 1, 2}
    assert [key for _, key in connection.asked][:2] == ["image", cells[0].key]
    assert len(connection.asked) == 4


def task_of(tmp_path: Path, method: str, **changes: object) -> Task:
    args = (*SMALL, "--methods", method, "--out", str(tmp_path / "out"))
    values = {
        "module": "bench.comparison",
        "args": args,
        "folder": str(tmp_path),
        "command": "typed",
        **changes,
    }
    return Task(**{"stage": 0, "known": (), **values})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A worker process with nothing loaded, which comes back to its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "_stages", {})
    monkeypatch.setattr(worker, "_loaded", {})
    return tmp_path


def test_a_worker_computes_one_cell_of_the_program_that_planned_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = here / "alone"
    assert (
        run(comparison.main, prog="c", args=[*SMALL, "--methods", "popularity,random", "--out", str(alone)])
        == 0
    )
    assert invocation() is None
    wanted = {record.method: record for record in Store(alone).records("accuracy")}
    key = wanted["popularity"].key
    task = task_of(here, "popularity,random", key=key)
    assert worker._answer(task, "w") == Answer(kind="done", worker="w")
    (record,) = Store(here / "out").records()
    assert record.results["full"] == wanted["popularity"].results["full"] and record.key == key
    assert not (here / "out" / "tables").exists(), "what the program shows and writes is the caller's"

    claim = Store(here / "out").claim(Cell(**vars_of(wanted["random"])))
    assert claim.acquire(wait=False)
    held = worker._answer(task_of(here, "popularity,random", key=wanted["random"].key), "w")
    assert held.kind == "held" and held.message == claim._owner
    claim.release()

    assert "plans other cells" in worker._answer(task_of(here, "random", key=key), "w").message
    elsewhere = worker._answer(task_of(here, "random", key=key, folder=str(here / "none")), "w")
    assert elsewhere.kind == "unfit" and "it has no folder" in elsewhere.message

    def full(*arguments: object, **options: object) -> Callable[[Cell], object]:
        def compute(cell: Cell) -> object:
            raise InputError("cannot write x: No space left on device") from OSError(errno.ENOSPC, "no space")

        return compute

    monkeypatch.setattr(bench_module, "compute_accuracy", full)
    answer = worker._answer(task_of(here, "popularity,random", key=wanted["random"].key), "w")
    assert answer == Answer(kind="unfit", message="cannot write x: No space left on device", worker="w")


def vars_of(record: object) -> dict[str, object]:
    names = ("experiment", "version", "config", "method", "seed", "dataset")
    return {name: getattr(record, name) for name in names}


def test_what_measures_a_machine_measures_the_worker_and_is_keyed_by_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "machine", lambda: {"cpu": "the worker's"})
    small = [
        "--items",
        "200",
        "--queries",
        "5",
        "--width",
        "4",
        "--repeats",
        "1",
        "--k",
        "3",
        "--kinds",
        "exact",
    ]
    arguments = ("--preset", "smoke", "--out", str(here / "out"), "--no-progress", *small)
    task = Task(
        module="bench.retrieval", args=arguments, folder=str(here), command="typed", stage=0, known=()
    )
    answer = worker._answer(task, "w")
    assert answer.kind == "done" and not answer.failures
    ((experiment, key),) = answer.keys
    record = Store(here / "out").read(experiment, key)
    assert record.method == "exact" and record.config["machine"] == {"cpu": "the worker's"}
    later = Task(**{**vars(task), "stage": 1, "known": (((experiment, key),),)})
    assert "ends here before it comes" in worker._answer(later, "w").message


class FakeSpread:
    """Workers that compute at once: what they write is keyed as the caller's cells, or by their own machine."""

    def __init__(self, store: Store) -> None:
        self.store, self.cells = store, []

    def run(self, cells: list[Cell]) -> Iterator[tuple[Cell, Answer]]:
        for cell in reversed(cells):
            self.cells.append(cell)
            self.store.write(cell, {"by": "worker"}, seconds=1)
            yield cell, DONE

    def measure(self) -> Answer:
        cell = make(7, machine="the worker's")
        self.store.write(cell, {"by": "worker"}, seconds=1)
        return Answer(kind="done", keys=((cell.experiment, cell.key),), failures=(("m seed 3", "broke"),))


def test_what_measures_a_machine_stays_here_with_workers_and_goes_to_one_with_a_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [make(1), make(2, machine="mine"), make(3)]

    def grid(name: str, **options: object) -> tuple[Grid, FakeSpread]:
        store = Store(tmp_path / name)
        made, spreading = Grid(Settings(**options), store), FakeSpread(store)
        monkeypatch.setattr(made, "_spread", lambda cells, overwrite: spreading)
        return made, spreading

    def here(cell: Cell) -> Outcome:
        return Outcome(results={"by": "caller"})

    alone, _ = grid("alone")
    done = alone.run(cells, here, overwrite="only-missing", progress=False)
    assert [record.results["by"] for record in done.records] == ["caller"] * 3

    local, spreading = grid("local", workers=2)
    done = local.run(cells, here, overwrite="only-missing", progress=False)
    assert [record.seed for record in done.records] == [1, 2, 3]
    assert [record.results["by"] for record in done.records] == ["worker", "caller", "worker"]
    assert [cell.seed for cell in spreading.cells] == [3, 1]
    with pytest.raises(InputError, match="3 of 3 cells have a result"):
        local.run(cells, here, overwrite="never", progress=False)

    remote, spreading = grid("remote", scheduler="tcp://x:1")
    done = remote.run(cells, here, overwrite="only-missing", progress=False)
    assert [record.seed for record in done.records] == [7, 1, 3] and done.status == 1
    assert [failure.message for failure in done.failures] == ["broke"]
    assert done.records[0].config["machine"] == "the worker's"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "--workers -1: give 0 or more"),
        ({"workers": 2, "scheduler": "tcp://x:1"}, "give one"),
        ({"resources": "GPU"}, "NAME=NUMBER"),
        ({"resources": "GPU=0"}, "NAME=NUMBER"),
        ({"resources": "GPU=nan"}, "NAME=NUMBER"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings(**options)


def test_resources_are_read() -> None:
    assert parse_resources("GPU=1, disk=2.5") == {"GPU": 1, "disk": 2.5} and parse_resources(None) == {}


def test_no_scheduler_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.cluster.connection.CONNECT_SECONDS", 0.3)
    args = [*SMALL, "--methods", "random", "--out", str(tmp_path), "--scheduler", "tcp://127.0.0.1:9"]
    assert run(comparison.main, prog="c", args=args) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: --scheduler tcp://127.0.0.1:9: no answer") and "dask scheduler" in line


def test_dask_is_not_imported_in_one_process() -> None:
    """Read from the sources: what importing an experiment imports at once."""
    root = Path(comparison.__file__).parents[1]
    seen, left = set(), ["bench.comparison"]
    while left:
        name = left.pop()
        path = root.joinpath(*name.split("."))
        source = next(
            (each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None
        )
        if name in seen or source is None:
            continue
        seen.add(name)
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                left += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
                assert str(node.module).split(".")[0] not in ("dask", "distributed"), source
    assert {"bench.harness.grid", "bench.cluster.task"} <= seen
    assert "bench.cluster.worker" not in seen
