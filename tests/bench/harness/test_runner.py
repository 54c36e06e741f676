from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.harness.runner import Overwrite, run_cells
from bench.store.cell import Cell, Outcome
from bench.store.store import Store
from illmrec.errors import InputError, UnsupportedError
from illmrec.ranking import target_ranks


def make(seed: int) -> Cell:
    return Cell(
        experiment="accuracy",
        version=1,
        config={"method": "illmrec", "seed": seed},
        method="illmrec",
        seed=seed,
        dataset={},
    )


CELLS = [make(seed) for seed in range(3)]


class Compute:
    """Counts its calls; fails at the seeds it is told to."""

    def __init__(self, errors: dict[int, BaseException] | None = None) -> None:
        self.seeds: list[int] = []
        self.errors = errors or {}

    def __call__(self, cell: Cell) -> Outcome:
        self.seeds.append(cell.seed)
        if cell.seed in self.errors:
            raise self.errors[cell.seed]
        return Outcome(results={"call": len(self.seeds)}, frames={"ranks": pd.DataFrame({"rank": [1]})})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


def run(cells: list[Cell], compute: Compute, store: Store, overwrite: Overwrite = "only-missing"):
    return run_cells(cells, compute, store, overwrite=overwrite, progress=False)


def test_a_second_run_computes_nothing_and_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = run(CELLS, Compute(), store)
    assert caplog.messages[0] == "accuracy: 0 of 3 cells found, 3 to compute"
    again = Compute()
    second = run(CELLS, again, store)
    assert again.seeds == []
    assert second.records == first.records
    assert [record.seed for record in second.records] == [0, 1, 2]
    assert "accuracy: 3 of 3 cells found, 0 to compute" in caplog.text
    assert second.status == 0


@pytest.mark.parametrize("overwrite", ["only-missing", "only-cache"])
def test_nothing_is_said_where_nothing_is_asked(
    overwrite: Overwrite, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert run([], Compute(), store, overwrite).records == []
    assert not caplog.records


def test_only_missing_computes_what_is_missing_in_the_order_asked(store: Store) -> None:
    run(CELLS[1:2], Compute(), store)
    compute = Compute()
    done = run([CELLS[2], CELLS[1], CELLS[0], CELLS[2]], compute, store)
    assert compute.seeds == [2, 0]
    assert [record.seed for record in done.records] == [2, 1, 0]


def test_always_computes_all_again(store: Store) -> None:
    run(CELLS, Compute(), store)
    compute = Compute()
    done = run(list(reversed(CELLS)), compute, store, "always")
    assert compute.seeds == [2, 1, 0]
    assert [record.results["call"] for record in done.records] == [1, 2, 3]
    assert store.find(CELLS[0]).results == {"call": 3}


def test_always_repairs_a_damaged_result(store: Store) -> None:
    done = run(CELLS, Compute(), store)
    (done.records[0].folder / "cell.json").write_text("{")
    with pytest.raises(InputError, match="delete the folder"):
        run(CELLS, Compute(), store)
    assert len(run(CELLS, Compute(), store, "always").records) == 3


def test_never_refuses_where_there_is_a_result(store: Store) -> None:
    assert len(run(CELLS[:1], Compute(), store, "never").records) == 1
    compute = Compute()
    with pytest.raises(InputError, match="1 of 3 cells have a result") as caught:
        run(CELLS, compute, store, "never")
    assert CELLS[0].key in str(caught.value)
    assert compute.seeds == []


def test_only_cache_computes_and_writes_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    compute = Compute()
    empty = run(CELLS, compute, store, "only-cache")
    assert empty.missing == CELLS and not store.out.exists()
    run(CELLS[:1], Compute(), store)
    some = run(CELLS, compute, store, "only-cache")
    assert [record.seed for record in some.records] == [0]
    assert some.missing == CELLS[1:]
    assert compute.seeds == []
    assert CELLS[1].key in caplog.text


def test_a_failing_cell_does_not_stop_the_others(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    compute = Compute({1: RuntimeError("diverged\nin two lines")})
    done = run(CELLS, compute, store)
    assert compute.seeds == [0, 1, 2]
    assert [record.seed for record in done.records] == [0, 2]
    assert [failure.message for failure in done.failures] == ["RuntimeError: diverged"]
    assert done.status == 1
    assert "1 of 3 cells failed" in caplog.text
    retry = Compute()
    assert run(CELLS, retry, store).status == 0
    assert retry.seeds == [1]


def test_a_model_that_diverged_is_one_line_that_names_the_method(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def compute(cell: Cell) -> Outcome:
        scores = np.array([[0.5, np.nan if cell.seed == 1 else 0.2]])
        return Outcome(results={"rank": int(target_ranks(scores, np.zeros(1, dtype=np.int64))[0])})

    done = run_cells(CELLS, compute, store, overwrite="only-missing", progress=False)
    (failure,) = done.failures
    assert failure.message.startswith("illmrec: a score is not finite: the model diverged")
    assert "a lower learning rate may help" in failure.message and done.status == 1
    assert [record.results for record in done.records] == [{"rank": 1}] * 2
    assert "Traceback" not in caplog.text and failure.message in caplog.text


def test_a_cell_that_the_data_cannot_support_does_not_stop_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    done = run(CELLS, Compute({1: UnsupportedError("no images")}), store)
    assert [record.seed for record in done.records] == [0, 2]
    assert [failure.message for failure in done.unsupported] == ["no images"]
    assert done.status == 0 and "left out: " in caplog.text
    with pytest.raises(UnsupportedError, match="no images"):
        run(CELLS[1:2], Compute({1: UnsupportedError("no images")}), store)


@pytest.mark.parametrize("error", [InputError("no such thing"), KeyboardInterrupt()])
def test_bad_input_and_interruption_stop_but_keep_what_is_done(store: Store, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(CELLS, Compute({1: error}), store)
    compute = Compute()
    run(CELLS, compute, store)
    assert compute.seeds == [1, 2]


def test_a_result_that_cannot_be_stored_is_a_failure(store: Store) -> None:
    done = run_cells(CELLS[:1], lambda cell: Outcome(results={"x": float("nan")}), store, progress=False)
    assert done.status == 1
    assert store.find(CELLS[0]) is None


def test_a_folder_that_cannot_be_written_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    compute = Compute()
    with pytest.raises(InputError, match="Not a directory"):
        run(CELLS, compute, Store(tmp_path / "file" / "out"))
    assert compute.seeds == []


def test_a_cell_that_another_process_holds_is_left_to_it(store: Store) -> None:
    """Its result, written while this process was busy with the others, is taken."""
    held = store.claim(CELLS[0])
    held.acquire()
    compute = Compute()

    def compute_and_finish_the_other(cell: Cell) -> Outcome:
        if cell.seed == 2:
            store.write(CELLS[0], {"by": "other"}, seconds=1)
            held.release()
        return compute(cell)

    done = run_cells(CELLS, compute_and_finish_the_other, store, progress=False)
    assert compute.seeds == [1, 2]
    assert [record.seed for record in done.records] == [0, 1, 2]
    assert done.records[0].results == {"by": "other"}


def test_seconds_are_those_of_the_computation(store: Store) -> None:
    def slow(cell: Cell) -> Outcome:
        time.sleep(0.05)
        return Outcome(results={})

    assert run_cells(CELLS[:1], slow, store, progress=False).records[0].seconds >= 0.05
