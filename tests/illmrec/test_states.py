"""State tables: which positions they hold, that states are those of the ordinary pass, and that nothing is lost."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_models import N_ITEMS, made_dataset, made_model

from illmrec.data.splits import leave_one_out
from illmrec.model.backbone import load_backbone
from illmrec.model.engine import Engine
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import READOUTS
from illmrec.states import encoding
from illmrec.states.encoding import encode_positions, encoder_key
from illmrec.states.positions import evaluation_positions, training_positions
from illmrec.states.scorer import StoredScorer


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
    parts = [training_positions(split, length=5), evaluation_positions(split, "valid", length=5)]
    table = encode_positions(model, *parts, dtype="float32", cache=tmp_path, progress=False)
    shape = (sum(map(len, parts)), len(model.rec_mean))
    assert table.values.shape == shape and table.meta["rms_error"] == 0
    windows = [window for part in parts for window in zip(part.trunks, part.boundaries, strict=True)]
    dropped = row = 0
    for trunk, ends in windows:
        for end in ends:
            prompt = model.prompts.fit(trunk[:end])
            dropped += prompt.dropped_items
            with torch.inference_mode():
                states = [
                    model.hidden(model.prompts.pack([prompt], boundaries=[np.array([at])]))[0][0]
                    for at in range(1, len(prompt.items) + 1)
                ]
            tables = [model.features(head)[torch.from_numpy(prompt.items)] for head in model.heads]
            features = torch.cat(tables, dim=1)
            read = {
                "last": [states[-1]],
                "last+mean": [states[-1], torch.stack(states).mean(0)],
                "features": [features.mean(0), features[-1]],
                "last+features": [states[-1], features.mean(0), features[-1]],
            }[readout]
            # A window is cut once: a position in it may have fewer of the items before it than alone.
            whole = model.prompts.fit(trunk)
            if context is None or not whole.dropped_items:
                expected = (torch.cat(read) - model.rec_mean) / model.rec_scale
                torch.testing.assert_close(table.values[row], expected, atol=2e-4, rtol=1e-4)
            row += 1
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


def test_memory_that_runs_out_changes_nothing(dataset, backbone, tmp_path, monkeypatch):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone)
    positions = training_positions(split, length=5)
    whole = encode_positions(model, positions, dtype="float32", cache=tmp_path / "a", progress=False)
    read = ILLMRec.read_each

    def scarce(self, fitted, boundaries, recs):
        if self.token_counts(fitted, boundaries).sum() > 300:
            raise torch.OutOfMemoryError("out of memory")
        return read(self, fitted, boundaries, recs)

    monkeypatch.setattr(ILLMRec, "read_each", scarce)
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
