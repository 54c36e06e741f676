"""Several processes of one run: they train what one process trains, and share what there is to encode."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from training_models import N_ITEMS, made_dataset, made_model

import illmrec.training.trainer
from bench.harness.runner import run_cells
from bench.harness.settings import Settings
from bench.store.cell import Cell, Outcome
from bench.store.results import write_table
from bench.store.store import Store
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.model import processes
from illmrec.model.backbone import load_backbone
from illmrec.states.encoding import encode_positions
from illmrec.states.positions import evaluation_positions, training_positions
from illmrec.training import CachedOptions, CachedTrainer, Trainer, TrainingOptions
from illmrec.training.calibration import calibrate_by_table
from illmrec.training.other_seeds import begin_for_seeds

N_USERS = 17
# The second batch of an epoch has one user: a process of two gets none.
OPTIONS = TrainingOptions(
    epochs=2, batch_size=16, validation_users=10, answer_tokens=8, targets="all", loss="ce", token_budget=400
)
RUNS = {
    "all targets, RISA": OPTIONS,
    "bce": replace(OPTIONS, loss="bce", targets="one", risa=False),
    "two-stage": replace(OPTIONS, strategy="two-stage"),
}


class Interrupted(Exception):
    """A training was stopped on purpose."""


class InterruptedTrainer(Trainer):
    """Stops before the fourth step."""

    def _train_step(self) -> None:
        if self.step == 3:
            raise Interrupted
        super()._train_step()


def make_trainer(
    llm: Path, options: TrainingOptions, *, checkpoint: Path, kind: type[Trainer] = Trainer
) -> Trainer:
    dataset = made_dataset(n_users=N_USERS, n_popular=N_ITEMS)
    model = made_model(dataset, load_backbone(str(llm), layers=2, dtype="float32"))
    return kind(
        model=model,
        split=leave_one_out(dataset),
        options=options,
        seed=0,
        negatives=draw_negatives(dataset, seed=0, n=20),
        checkpoint=checkpoint,
        progress=False,
    )


def outcome(llm: Path, options: TrainingOptions, *, checkpoint: Path) -> dict[str, np.ndarray]:
    """Return what a training leaves: parameters, losses and scores."""
    trainer = make_trainer(llm, options, checkpoint=checkpoint)
    trainer.run()
    histories = [trainer.split.history(user, "test") for user in range(N_USERS)]
    losses = [value for epoch in trainer.epochs for name, value in sorted(epoch.items())]
    found = {f"model.{name}": value.numpy() for name, value in trainer.model.state_dict().items()}
    return found | {
        "losses": np.array(losses),
        "scores": trainer.model.score(histories),
        "one": trainer.model.score(histories[:1]),
    }


def cached_outcome(llm: Path, folder: Path) -> dict[str, np.ndarray]:
    """Return what training by stored states leaves: states and parameters."""
    joint = make_trainer(llm, RUNS["all targets, RISA"], checkpoint=folder / "unused")
    cached = CachedOptions(epochs=3, batch_size=16, warm_up=20, state_dtype="float32")
    trainer = CachedTrainer(
        model=joint.model,
        split=joint.split,
        options=replace(joint.options, strategy="cached", cached=cached),
        seed=0,
        negatives=joint.negatives,
        cache=folder,
        progress=False,
    )
    trainer.run()
    *_, table = trainer.states()
    found = {f"model.{name}": value.numpy() for name, value in trainer.model.state_dict().items()}
    return found | {"states": table.rows(slice(None)).numpy()}


def seeds_outcome(llm: Path, folder: Path) -> dict[str, np.ndarray]:
    """Return the stored states of three seeds of a method of words, begun together."""
    dataset = made_dataset(n_users=N_USERS, n_popular=N_ITEMS)
    split, backbone = leave_one_out(dataset), load_backbone(str(llm), layers=2, dtype="float32")
    parts = [training_positions(split, length=5), evaluation_positions(split, "valid", length=5)]
    found = {}
    for seed in (0, 1, 2):
        model = made_model(dataset, backbone, representation="baselines.text_prompts:TitleOnly", seed=seed)
        calibrate_by_table(model, split, seed=seed, validated=10, cache=folder)
        if seed == 0:
            begin_for_seeds(
                model,
                split,
                dict.fromkeys((0, 1, 2), parts),
                validated=10,
                dtype="float32",
                cache=folder,
                progress=False,
            )
        table = encode_positions(model, *parts, dtype="float32", cache=folder, progress=False)
        found[f"seed {seed}"] = table.rows(slice(None)).numpy()
    return found


def out_of_memory_once(folder: Path) -> None:
    """Let this process run out of memory in a backward pass, and leave a note that it did."""
    backward = torch.Tensor.backward
    calls = iter(range(1_000_000))

    def failing(self: torch.Tensor) -> None:
        if next(calls) == 3:
            (folder / "out of memory").touch()
            raise torch.OutOfMemoryError("out of memory")
        backward(self)

    torch.Tensor.backward = failing  # type: ignore[method-assign]


def share_cells(rank: int, folder: Path) -> None:
    """Compute cells together with the other process, of which one is there already."""
    store = Store(folder / "out")

    def cell(seed: int, **config: object) -> Cell:
        config |= {"method": "m", "seed": seed}
        return Cell(experiment="test", version=1, config=config, method="m", seed=seed, dataset={})

    computed = []

    def compute(cell: Cell) -> Outcome:
        computed.append(cell.seed)
        return Outcome(
            results={"sum": processes.total(torch.tensor(float(rank + cell.seed))).item(), "rank": rank}
        )

    for seeds in ([1], [0, 1, 2]):
        done = run_cells([cell(seed) for seed in seeds], compute, store, progress=False)
    assert computed == [1, 0, 2]
    assert [record.results for record in done.records] == [{"sum": 2 * s + 1, "rank": 0} for s in (0, 1, 2)]
    assert done.records[0].machine["processes"] == 2
    assert Settings().resolved().report == Settings().resolved().progress == (rank == 0)
    write_table(pd.DataFrame({"written by": [rank]}), store, "table")
    with pytest.raises(InputError, match="test measures what one process does, and 2 are running"):
        run_cells([cell(3, machine={"cpu": "any"})], compute, store, progress=False)


def process(rank: int, port: int, llm: Path, folder: Path) -> None:
    """Be one process of two: train and leave the outcome, then what the main process alone says."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    os.environ["ILLMREC_CACHE"] = str(folder / "cache")
    processes._PATIENCE = timedelta(seconds=60)  # a test that hangs says so
    assert processes.own_device("cpu") == "cpu"
    illmrec.training.trainer.CHECKPOINT_SECONDS = 0.0
    with pytest.raises(Interrupted):
        make_trainer(llm, RUNS["bce"], checkpoint=folder / "bce", kind=InterruptedTrainer).run()
    processes.wait()
    resumed = make_trainer(llm, RUNS["bce"], checkpoint=folder / "bce")
    resumed._resume()
    assert resumed.step == 3
    for name, options in RUNS.items():
        if name == "two-stage" and rank == 0:
            out_of_memory_once(folder)
        checkpoint = folder / (name if name == "bce" else f"{name} of {rank}")
        save_file(outcome(llm, options, checkpoint=checkpoint), folder / f"{name} {rank}.safetensors")
    save_file(cached_outcome(llm, folder / "states"), folder / f"cached {rank}.safetensors")
    save_file(seeds_outcome(llm, folder / "seeds"), folder / f"seeds {rank}.safetensors")
    share_cells(rank, folder)
    with processes.main_first():
        if rank == 1:
            assert (folder / "ready").read_text() == "yes"
        (folder / "ready").write_text("yes")
    assert processes.of_main([rank + 5, 0.5]) == [5.0, 0.5]
    processes.wait()


@pytest.fixture(scope="module")
def outcomes(tiny_llm, tmp_path_factory) -> Path:
    """A folder with what two processes have trained."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(process, args=(port, tiny_llm, folder), nprocs=2)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_what_one_does(outcomes, tiny_llm, tmp_path, name):
    expected = outcome(tiny_llm, RUNS[name], checkpoint=tmp_path / "state")
    first, second = (load_file(outcomes / f"{name} {rank}.safetensors") for rank in (0, 1))
    assert first.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
        if RUNS[name].loss == "ce" and re.fullmatch(r"model\.item_projectors\.\w+\.3\.bias", key):
            # It shifts a user's scores of all items alike, which a softmax does not see: its gradient is rounding,
            # and Adam makes steps of it.
            continue
        if key in ("scores", "one"):
            first[key], value = (
                scores - scores.mean(axis=1, keepdims=True) for scores in (first[key], value)
            )
        np.testing.assert_allclose(first[key], value, rtol=0, atol=1e-5, err_msg=key)


def test_two_processes_write_shares_of_one_table(outcomes, tiny_llm, tmp_path):
    expected = cached_outcome(tiny_llm, tmp_path)
    first, second = (load_file(outcomes / f"cached {rank}.safetensors") for rank in (0, 1))
    # That of training and validation, and that by which they are standardised.
    assert len([path for path in (outcomes / "states" / "states").iterdir() if path.is_dir()]) == 2
    for key, value in expected.items():
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
        if not re.fullmatch(r"model\.item_projectors\.\w+\.3\.bias", key):
            np.testing.assert_allclose(first[key], value, rtol=0, atol=1e-3, err_msg=key)


def test_two_processes_write_shares_of_the_tables_of_seeds(outcomes, tiny_llm, tmp_path):
    expected = seeds_outcome(tiny_llm, tmp_path)
    for rank in (0, 1):
        found = load_file(outcomes / f"seeds {rank}.safetensors")
        for seed, states in expected.items():
            np.testing.assert_allclose(
                found[seed], states, rtol=0, atol=1e-3, err_msg=f"{seed}, process {rank}"
            )


def test_one_process_ran_out_of_memory_and_the_other_did_not_wait_forever(outcomes):
    assert (outcomes / "out of memory").exists()


def test_the_main_process_alone_writes(outcomes):
    for name in ("all targets, RISA", "two-stage"):
        assert (outcomes / f"{name} of 0" / "state.safetensors").exists()
        assert not (outcomes / f"{name} of 1").exists()
    assert (outcomes / "out" / "tables" / "table.csv").read_text() == "written by\n0\n"
    assert len(list((outcomes / "out" / "store" / "cells" / "test").iterdir())) == 3


@pytest.mark.parametrize("rows", [0, 1, 3, 64])
def test_shares_are_disjoint_whole_and_balanced(monkeypatch, rows):
    tokens = np.random.default_rng(rows).integers(1, 500, size=rows)
    assert processes.share(tokens).tolist() == list(range(rows))
    shares = []
    for rank in range(3):
        monkeypatch.setenv("WORLD_SIZE", "3")
        monkeypatch.setenv("RANK", str(rank))
        shares.append(processes.share(tokens))
    assert sorted(np.concatenate(shares).tolist()) == list(range(rows))
    if rows == 64:
        sums = [tokens[share].sum() for share in shares]
        assert max(sums) - min(sums) <= tokens.max()


def test_gradients_are_summed_in_buckets_of_bounded_size(monkeypatch):
    monkeypatch.setattr(processes, "_BUCKET", 10)
    parameters = [torch.zeros(size) for size in (4, 5, 3, 25, 1)]
    groups = [[p.numel() for p in bucket] for bucket in processes._buckets(parameters)]
    assert groups == [[4, 5], [3], [25], [1]]


@pytest.mark.parametrize("device", ["mps", "cuda:1"])
def test_a_device_that_several_processes_cannot_share_is_refused(monkeypatch, device):
    assert processes.own_device(device) == device
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InputError, match=f"--device {device}: 2 processes run on cpu, or on cuda"):
        processes.own_device(device)


def test_a_launcher_that_starts_one_process_instead_of_two_is_named(monkeypatch, caplog):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    processes.own_device("cpu")
    assert not caplog.records
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    for _ in range(2):
        assert processes.own_device("cpu") == "cpu"
    [record] = caplog.records
    assert "torchrun --nproc-per-node" in record.getMessage()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="1 GPUs here, and process 2 needs one"):
        processes.own_device("cuda")
