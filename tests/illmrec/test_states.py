"""State tables: which positions they hold, that states are those of the ordinary pass, and that nothing is lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_models import N_ITEMS, made_dataset, made_model

from illmrec.data.splits import leave_one_out
from illmrec.errors import DamagedError, InputError
from illmrec.model.backbone import load_backbone
from illmrec.model.engine import Engine
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import READOUTS
from illmrec.states import encoding
from illmrec.states import table as table_module
from illmrec.states.encoding import encode_positions, encoder_key
from illmrec.states.positions import evaluation_positions, joined, training_positions
from illmrec.states.scorer import StoredScorer
from illmrec.states.table import StateTable, compute_states


@pytest.fixture(scope="module")
def dataset():
    return made_dataset()


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    length=st.integers(1, 12),
    last=st.one_of(st.none(), st.integers(1, 20)),
)
@settings(max_examples=200, deadline=None)
def test_every_training_target_has_a_position_with_half_a_history_or_all_of_it(lengths, length, last):
    sequences = [np.arange(100 * user, 100 * user + count) for user, count in enumerate(lengths)]
    split = SimpleNamespace(learners=np.arange(len(lengths)), train=lambda user: sequences[user])
    positions = training_positions(split, length=length, last=last)
    assert len(positions) == len(positions.targets) == len(positions.users)
    found = []
    for trunk, ends, start in zip(positions.trunks, positions.boundaries, positions.starts, strict=True):
        assert 1 <= len(trunk) <= length
        for number, end in enumerate(ends):
            user, target = positions.users[start + number], positions.targets[start + number]
            at = int(target - 100 * user)
            before = trunk[:end]
            np.testing.assert_array_equal(before, sequences[user][at - end : at])
            assert end >= min(at, max(1, length // 2))
            found.append((user, at))
    wanted = {
        (user, at)
        for user, count in enumerate(lengths)
        for at in range(1 if last is None else max(1, count - last), count)
    }
    assert len(found) == len(set(found)) and set(found) == wanted


def test_validation_and_test_are_read_with_the_whole_length(dataset):
    split = leave_one_out(dataset)
    for part in ("valid", "test"):
        positions = evaluation_positions(split, part, length=5, users=np.array([3, 1]))
        np.testing.assert_array_equal(positions.targets, split.targets(part)[[3, 1]])
        for user, trunk, ends in zip([3, 1], positions.trunks, positions.boundaries, strict=True):
            np.testing.assert_array_equal(trunk, split.history(user, part)[-5:])
            assert ends.tolist() == [len(trunk)]


def test_users_with_one_training_item_have_no_position():
    sequences = [np.arange(1), np.arange(3)]
    split = SimpleNamespace(learners=np.array([1]), train=lambda user: sequences[user])
    assert training_positions(split, length=5).users.tolist() == [1, 1]


@pytest.mark.parametrize("readout", READOUTS)
@pytest.mark.parametrize("context", [None, 100])
@pytest.mark.parametrize("instruction", ["after", "before"])
def test_states_are_those_of_the_ordinary_pass(dataset, backbone, tmp_path, readout, context, instruction):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone, readout=readout, context=context, instruction=instruction)
    model.calibrate([split.train(user) for user in range(dataset.n_users)])
    positions = joined([training_positions(split, length=5), evaluation_positions(split, "valid", length=5)])
    table = encode_positions(model, positions, dtype="float32", cache=tmp_path, progress=False)
    assert table.values.shape == (len(positions), len(model.rec_mean)) and table.meta["rms_error"] == 0
    dropped = 0
    for trunk, ends, start in zip(positions.trunks, positions.boundaries, positions.starts, strict=True):
        for number, end in enumerate(ends):
            prompt = model.prompts.fit(trunk[:end])
            dropped += prompt.dropped_items
            with torch.inference_mode():
                states = [
                    model.hidden(model.prompts.pack([prompt], boundaries=[np.array([at])]))[0][0]
                    for at in range(1, len(prompt.items) + 1)
                ]
            tables = [model.features(head)[torch.from_numpy(prompt.items)] for head in model.heads]
            features = torch.cat(tables, dim=1)
            parts = {
                "last": [states[-1]],
                "last+mean": [states[-1], torch.stack(states).mean(0)],
                "features": [features.mean(0), features[-1]],
                "last+features": [states[-1], features.mean(0), features[-1]],
            }[readout]
            # A window is cut once: a position in it may have fewer of the items before it than alone.
            whole = model.prompts.fit(trunk)
            if context is None or not whole.dropped_items:
                expected = (torch.cat(parts) - model.rec_mean) / model.rec_scale
                torch.testing.assert_close(table.values[start + number], expected, atol=2e-4, rtol=1e-4)
    assert (dropped > 0) == (context is not None)
    assert not list(tmp_path.rglob("*.partial"))


def test_scores_from_stored_states_are_the_models(dataset, backbone, tmp_path):
    split = leave_one_out(dataset)
    for readout in READOUTS:
        model = made_model(dataset, backbone, readout=readout)
        model.calibrate([split.train(user) for user in range(dataset.n_users)])
        positions = evaluation_positions(split, "test", length=model.history_length)
        table = encode_positions(model, positions, dtype="float32", cache=tmp_path, progress=False)
        stored = StoredScorer(model=model, positions=positions, table=table)
        histories = split.histories("test")
        np.testing.assert_allclose(stored.score(histories), model.score(histories), atol=1e-4)
        with pytest.raises(KeyError):
            stored.score([np.array([N_ITEMS - 1])])


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0), ("float16", 1e-3), ("bfloat16", 8e-3)])
def test_the_error_of_the_data_type_is_measured(dataset, backbone, tmp_path, dtype, error):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone)
    model.calibrate([split.train(user) for user in range(dataset.n_users)])
    positions = training_positions(split, length=5)
    exact = encode_positions(model, positions, dtype="float32", cache=tmp_path, progress=False)
    table = encode_positions(model, positions, dtype=dtype, cache=tmp_path, progress=False)
    off = table.rows(slice(None)) - exact.values
    assert table.meta["largest_error"] == pytest.approx(float(off.abs().max()), rel=1e-4)
    assert table.meta["rms_error"] == pytest.approx(float(off.square().mean().sqrt()), rel=1e-4)
    assert float(off.square().mean().sqrt()) <= error * float(exact.values.square().mean().sqrt())
    assert table.values.dtype == getattr(torch, dtype)


def test_the_key_is_what_states_depend_on(dataset, backbone):
    def key(change=lambda model: None, **options) -> str:
        model = made_model(dataset, backbone, **options)
        with torch.no_grad():
            change(model)
        return encoder_key(model)

    base = key()
    assert key() == base
    # What scores items and nothing else is not part of it, so that rows, heads and seeds of projectors share a table.
    assert key(heads=("image",)) == base
    assert key(lambda model: model.user_projectors["image"][1].weight.add_(1)) == base
    changed = [
        key(lambda model: model.rec.add_(1e-3)),
        key(lambda model: model.adaptors["image"][0].weight.mul_(1.001)),
        key(lambda model: model.features("image")[3].add_(1e-3)),
        key(lambda model: model.rec_mean.add_(1e-3)),
        key(readout="last+mean"),
        key(instruction="before"),
        key(context=300),
        key(seed=1),
    ]
    assert len({base, *changed}) == 1 + len(changed)
    # Where the features that score are read, they are part of it.
    for readout in ("features", "last+features"):
        assert key(readout=readout) != key(readout=readout, heads=("image",))
        assert key(readout=readout) != key(lambda model: model.features("cf")[3].add_(1e-3), readout=readout)


def test_features_are_read_without_the_llm(dataset, backbone, tmp_path, monkeypatch):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone, readout="features")
    monkeypatch.setattr(Engine, "hidden", lambda *given, **named: pytest.fail("the LLM was asked"))
    positions = training_positions(split, length=5)
    encode_positions(model, positions, cache=tmp_path, progress=False)
    assert np.isfinite(model.score(split.histories("test"))).all()
    assert not list(encoding.rows_of(model, positions))


def test_other_positions_or_data_types_are_other_tables(dataset, backbone, tmp_path):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone)
    keys = {
        encode_positions(model, positions, dtype=dtype, cache=tmp_path, progress=False).key
        for positions in (training_positions(split, length=5), training_positions(split, length=4))
        for dtype in ("float16", "float32")
    }
    assert len(keys) == 4


WIDTH = 3
BATCHES = [np.array([4, 5]), np.array([0, 1]), np.array([2, 3]), np.array([6])]


def expected(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(10.0 * rows[:, None] + np.arange(WIDTH)).float()


class Encoder:
    """States are a function of the row; remembers what it was asked and can fail at one batch."""

    def __init__(self, fail_at: int | None = None, error: BaseException | None = None) -> None:
        self.calls: list[int] = []
        self._fail_at, self._error = fail_at, error

    def __call__(self, number: int) -> torch.Tensor:
        if number == self._fail_at and self._error is not None:
            raise self._error
        self.calls.append(number)
        return expected(BATCHES[number])


def compute(directory: Path, encode, **options) -> StateTable:
    arguments = {"positions": 7, "width": WIDTH, "dtype": "float32", "batches": BATCHES}
    arguments |= {"tokens": [8, 8, 8, 4], "meta": {"llm": "a"}, "progress": False}
    return compute_states(directory, encode=encode, **(arguments | options))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no")], ids=["ctrl-c", "error"])
def test_interruption_keeps_finished_batches(tmp_path, error, caplog):
    with pytest.raises(type(error)):
        compute(tmp_path / "k", Encoder(2, error))
    assert not (tmp_path / "k").exists()
    second = Encoder()
    with caplog.at_level("INFO"):
        table = compute(tmp_path / "k", second)
    assert second.calls == [2, 3] and "continuing after 2 of 4 batches" in caplog.text
    torch.testing.assert_close(table.values, expected(np.arange(7)))
    again = Encoder()
    compute(tmp_path / "k", again)
    assert again.calls == []


def test_kill_loses_only_what_was_not_recorded(tmp_path):
    program = f"""
import pathlib, sys, time
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parent.parent)!r}]
import test_states
from illmrec.states import table
table._RECORD_SECONDS = 0.0
def encode(number):
    if number == 2:
        print("at 2", flush=True)
        time.sleep(60)
    return test_states.expected(test_states.BATCHES[number])
test_states.compute(pathlib.Path({str(tmp_path / "k")!r}), encode)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"at 2\n"
        process.send_signal(signal.SIGKILL)
    second = Encoder()
    torch.testing.assert_close(compute(tmp_path / "k", second).values, expected(np.arange(7)))
    assert second.calls == [2, 3]


def test_a_plan_of_something_else_starts_anew(tmp_path):
    with pytest.raises(RuntimeError):
        compute(tmp_path / "k", Encoder(2, RuntimeError()))
    second = Encoder()
    compute(tmp_path / "k", second, meta={"llm": "b"})
    assert second.calls == [0, 1, 2, 3]


def test_two_runs_write_one_table_once(tmp_path):
    class Slow(Encoder):
        def __call__(self, number: int) -> torch.Tensor:
            time.sleep(0.01)
            return super().__call__(number)

    encoders = [Slow() for _ in range(4)]
    tables: list[StateTable] = []
    threads = [
        threading.Thread(target=lambda e=e: tables.append(compute(tmp_path / "k", e))) for e in encoders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 4 and sum(len(encoder.calls) for encoder in encoders) == len(BATCHES)
    for table in tables:
        torch.testing.assert_close(table.values, expected(np.arange(7)))


def test_too_little_disk_is_refused_before_it_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    encode = Encoder()
    with pytest.raises(InputError, match=r"states of 7 positions take .* GB") as caught:
        compute(tmp_path / "k", encode)
    assert "\n" not in str(caught.value) and "--last-targets" in str(caught.value)
    assert encode.calls == [] and not list(tmp_path.rglob("*.npy"))


def test_a_state_that_is_not_a_number_is_an_error(tmp_path):
    with pytest.raises(InputError, match="not finite"):
        compute(tmp_path / "k", lambda number: expected(BATCHES[number]) * float("nan"))
    with pytest.raises(InputError, match="exceed what float16 can hold"):
        compute(tmp_path / "k", lambda number: expected(BATCHES[number]) + 1e6, dtype="float16")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "values.npy").write_bytes(b"no array"),
        lambda folder: np.save(folder / "values.npy", np.zeros((7, 2), dtype=np.float32)),
        lambda folder: np.save(folder / "values.npy", np.zeros((7, WIDTH), dtype=np.float16)),
        lambda folder: flip(folder / "values.npy", -1),
        lambda folder: flip(folder / "values.npy", 70),
        lambda folder: flip(folder / "checksums.json", 30),
    ],
)
def test_a_damaged_table_is_named_and_computed_again(tmp_path, damage, caplog):
    whole = compute(tmp_path / "k", Encoder()).values.clone()
    damage(tmp_path / "k")
    with pytest.raises(DamagedError, match=r"k/(meta|values|checksums)\.\w+: damaged") as caught:
        StateTable.open(tmp_path / "k")
    assert "delete the folder" in str(caught.value) and "\n" not in str(caught.value)
    again = Encoder()
    assert torch.equal(compute(tmp_path / "k", again).values, whole)
    assert again.calls and str(tmp_path / "k") in caplog.text
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["k"]


def test_a_table_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path):
    whole = compute(tmp_path / "k", Encoder()).values.clone()
    (tmp_path / "k" / "checksums.json").unlink()
    again = Encoder()
    assert torch.equal(compute(tmp_path / "k", again).values, whole) and not again.calls
    np.save(tmp_path / "k" / "values.npy", np.zeros((7, 2), dtype=np.float32))
    with pytest.raises(DamagedError, match="not a whole state table"):
        StateTable.open(tmp_path / "k")
    assert torch.equal(compute(tmp_path / "k", again).values, whole)


@pytest.mark.parametrize("name", ["values.npy", "sums.npy", "done.npy", "progress.json"])
@pytest.mark.parametrize("place", [0, 70, -1])
@pytest.mark.parametrize("listed", [True, False])
def test_a_bit_flipped_in_an_unfinished_table_is_no_number_of_it(tmp_path, name, place, listed):
    whole = compute(tmp_path / "whole" / "k", Encoder()).values

    def stopped(number):
        if number == 2:
            raise KeyboardInterrupt
        return expected(BATCHES[number])

    with pytest.raises(KeyboardInterrupt):
        compute(tmp_path / "k", stopped)
    if not listed:  # an earlier version kept no checksums of what is unfinished
        (tmp_path / "k.partial" / "sums.npy").unlink()
    else:
        flip(tmp_path / "k.partial" / name, place)
    assert torch.equal(compute(tmp_path / "k", Encoder()).values, whole)


def flip(path, place):
    """Change one bit of a file; it becomes another file, as where a disk or a copy did it before it was opened."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.unlink()
    path.write_bytes(content)


def test_a_table_under_another_name_is_never_read(tmp_path):
    compute(tmp_path / "k", Encoder())
    (tmp_path / "k").rename(tmp_path / "other")
    with pytest.raises(InputError, match="its key is k, not other"):
        StateTable.open(tmp_path / "other")


def test_memory_that_runs_out_changes_nothing(dataset, backbone, tmp_path, monkeypatch):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone)
    positions = training_positions(split, length=5)
    whole = encode_positions(model, positions, dtype="float32", cache=tmp_path / "a", progress=False)
    read = ILLMRec.read

    def scarce(self, fitted, boundaries):
        if self.token_counts(fitted, boundaries).sum() > 300:
            raise torch.OutOfMemoryError("out of memory")
        return read(self, fitted, boundaries)

    monkeypatch.setattr(ILLMRec, "read", scarce)
    table = encode_positions(model, positions, dtype="float32", cache=tmp_path / "b", progress=False)
    torch.testing.assert_close(table.values, whole.values, atol=1e-4, rtol=1e-4)
    assert table.key == whole.key


def test_what_stands_with_a_table_says_where_it_comes_from(dataset, backbone, tmp_path):
    model = made_model(dataset, backbone)
    positions = training_positions(leave_one_out(dataset), length=5)
    table = encode_positions(model, positions, cache=tmp_path, progress=False)
    described = json.loads((tmp_path / "states" / table.key / "meta.json").read_text())
    assert described["positions"] == len(positions) and described["meta"]["model"] == encoder_key(model)
    assert described["meta"]["seconds"] > 0 and described["meta"]["tokens"] > len(positions)
    assert described["meta"]["version"] == encoding._VERSION
