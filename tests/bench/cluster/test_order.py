"""The order in which workers get jobs, and what a simulation of it says, against schedules found by brute force."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import __main__ as program
from bench.cluster.order import Job, Order, in_order
from bench.harness.methods import representation_of
from bench.store.cell import Cell
from bench.store.store import Store
from bench.suite.scaling_out import Grid, grid_of, scaling, simulated, verdict


def random_grid(seed: int, jobs: int) -> Grid:
    """Return a small grid of random lengths, dependencies and groups."""
    rng = np.random.default_rng(seed)
    made = [
        Job(
            name=str(number),
            after={str(other) for other in range(number) if rng.random() < 0.3},
            group=str(rng.integers(2)) if rng.random() < 0.5 else "",
        )
        for number in range(jobs)
    ]
    return Grid(jobs=made, seconds={job.name: float(rng.integers(1, 9)) for job in made})


def fastest(grid: Grid, workers: int) -> float:
    """Return the least time of any schedule: of all orders, each job as early as a worker is free for it."""
    best = float("inf")
    after = {job.name: job.after for job in grid.jobs}
    for names in itertools.permutations(after):
        place = {name: number for number, name in enumerate(names)}
        if any(place[other] > place[name] for name in names for other in after[name]):
            continue
        free, ends = [0.0] * workers, {}
        for name in names:
            worker = min(range(workers), key=free.__getitem__)
            begins = max([free[worker], *(ends[other] for other in after[name])])
            free[worker] = ends[name] = begins + grid.seconds[name]
        best = min(best, max(free))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_a_simulated_grid_keeps_the_bounds_of_list_schedules(seed: int) -> None:
    """Graham: whoever leaves no worker idle is within 2 - 1/workers of the fastest schedule."""
    grid = random_grid(seed, 6)
    total = sum(grid.seconds.values())
    for workers in (1, 2, 3):
        took, busy = simulated(grid, workers)
        best = fastest(grid, workers)
        assert best - 1e-9 <= took <= (2 - 1 / workers) * best + 1e-9
        assert busy == total
    assert simulated(grid, 1)[0] == total
    assert simulated(grid, 6)[0] == grid.critical_path == fastest(grid, 6)


def test_a_simulation_says_what_workers_take() -> None:
    """The same jobs, handed out to threads that sleep as long as each takes."""
    grid = random_grid(3, 14)
    scale = 0.02
    order, lock = Order(grid.jobs), threading.Condition()
    done = []

    def work(worker: str) -> None:
        while len(done) < len(grid.jobs):
            with lock:
                job = order.take(worker)
                if job is None:
                    lock.wait(0.01)
                    continue
            time.sleep(scale * grid.seconds[job.name])
            with lock:
                order.finish(job)
                done.append(job.name)
                lock.notify_all()

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(3)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert sorted(done) == sorted(job.name for job in grid.jobs)
    assert took == pytest.approx(scale * simulated(grid, 3)[0], rel=0.5)
    assert took >= scale * grid.critical_path


def test_jobs_wait_for_what_they_share_and_stay_where_it_is() -> None:
    parts = {"a": ["image"], "b": ["image"], "c": []}
    jobs = in_order(["a", "b", "c", "d"], parts, {"a": "g", "b": "g"}, {"d": {"GPU": 1}})
    assert [job.name for job in jobs] == ["image", "a", "b", "c", "d"]
    order = Order(jobs)
    first = order.take("one")
    assert first.name == "image" and order.take("two").name == "c"
    assert order.take("two") is None, "a and b wait for the image, d for a GPU"
    assert order.take("two", {"GPU": 2}).name == "d"
    order.finish(first)
    a = order.take("one")
    assert a.name == "a" and order.take("two") is None, "the first of a group computes what it shares"
    order.give_back(a)
    order.forget("one")
    assert order.take("two").name == "a"
    order.finish(a)
    assert order.take("two").name == "b" and len(order) == 0


def test_a_worker_prefers_the_group_it_holds() -> None:
    order = Order([Job(name=f"{group}{n}", group=group) for n in range(2) for group in "xy"])
    assert [order.take("one").name, order.take("two").name] == ["x0", "y0"]
    assert [order.take("two").name, order.take("one").name] == ["y1", "x1"]


def test_jobs_that_can_never_start_are_refused() -> None:
    with pytest.raises(ValueError, match="never start: a, b"):
        Order([Job(name="a", after={"b"}), Job(name="b", after={"a"}), Job(name="c")])
    with pytest.raises(ValueError, match="one name"):
        Order([Job(name="a"), Job(name="a")])


def stored(store: Store, method: str, seconds: float, **config: object) -> None:
    cell = Cell(
        experiment="accuracy",
        version=1,
        config={"method": method, "seed": 0, "dataset": {"name": "d", "fingerprint": "f"}, **config},
        method=method,
        seed=0,
        dataset={},
    )
    store.write(cell, {}, seconds=seconds)


def test_the_command_repeats_stored_cells_and_says_where_it_stops_scaling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    llm = {
        "representation": representation_of("illmrec"),
        "features": ["image"],
        "encoders": {"image": "e", "text": "t"},
        "training": {"strategy": "frozen"},
        "llm": {"name": "x"},
    }
    stored(store, "illmrec", 60, **llm, evaluation={"context": 1})
    stored(store, "illmrec", 10, **llm, evaluation={"context": 2})
    stored(store, "popularity", 1)
    grid = grid_of(store.records("accuracy"), cells=9, shared_seconds=30)
    assert len(grid.jobs) == 10, "features are computed once for all seeds"
    assert grid.critical_path == 30 + 60 + 10, "of a model's cells the one that trains it comes first"
    assert simulated(grid, 1)[0] == 30 + 3 * (60 + 10 + 1)
    arguments = ["--out", str(tmp_path), "--cells", "9", "--workers", "1,2,3,100", "--feature-seconds", "30"]
    assert program.main(["scaling-out", *arguments, "--start-seconds", "0", "--handing-seconds", "0"]) == 0
    table = pd.read_csv(tmp_path / "tables" / "scaling_out.csv")
    assert table["seconds"].tolist() == [243, 30 + 70 + 70, 30 + 70, 30 + 70]
    assert table["speedup"].iloc[0] == 1 and table["efficiency"].tolist() == pytest.approx(
        [1, 243 / 340, 243 / 300, 243 / 10000], rel=1e-4
    )
    assert (tmp_path / "figures" / "scaling_out.png").stat().st_size > 5000
    told = capsys.readouterr().out
    assert "It stops scaling at 3 workers: 0.03 h, 2.4 times as fast as one" in told
    assert "longest chain of cells that wait for each other is 100%" in told
    assert "from 100 workers on they wait half of the time or more" in told
    again = scaling(grid, (1, 2, 3, 100), start=0, handing=0)
    pd.testing.assert_frame_equal(table, again, rtol=1e-4, check_dtype=False)
    short = scaling(grid, (1, 2), start=0, handing=0)
    assert verdict(short, grid, start=0, handing=0).startswith("Up to 2 workers more of them help")
    assert program.main(["scaling-out", "--out", str(tmp_path / "none")]) == 2
    assert "no accuracy cells" in capsys.readouterr().err
    assert program.main(["scaling-out", *arguments, "--cells", "0"]) == 2
    assert program.main(["scaling-out", *arguments, "--start-seconds", "nan"]) == 2
