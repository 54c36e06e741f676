"""States of several seeds read at once are those that each seed reads by itself, from fewer tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_models import IMAGES, made_dataset, made_model

from illmrec.data.splits import leave_one_out
from illmrec.model.backbone import load_backbone
from illmrec.model.engine import Engine, Execution
from illmrec.states.encoding import encode_positions, encoder_key
from illmrec.states.positions import evaluation_positions, training_positions
from illmrec.training.calibration import calibrate_by_table
from illmrec.training.other_seeds import begin_for_seeds

TITLES = "baselines.text_prompts:TitleOnly"
SEEDS = (3, 0, 7)
VALIDATED = 12


@pytest.fixture(scope="module")
def dataset():
    return made_dataset()


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


def parts_of(split, seed: int):
    """Return positions of training, those of all seeds, and of validation by other users for each seed."""
    users = np.random.default_rng(seed).choice(split.users("valid"), 5, replace=False)
    return [training_positions(split, length=5), evaluation_positions(split, "valid", length=5, users=users)]


def begin(model, split, cache) -> None:
    calibrate_by_table(model, split, seed=SEEDS[0], validated=VALIDATED, cache=cache)
    parts = {seed: parts_of(split, seed) for seed in SEEDS}
    begin_for_seeds(model, split, parts, validated=VALIDATED, dtype="float32", cache=cache, progress=False)


def table_of(model, split, seed: int, cache) -> torch.Tensor:
    calibrate_by_table(model, split, seed=seed, validated=VALIDATED, cache=cache)
    return encode_positions(
        model, *parts_of(split, seed), dtype="float32", cache=cache, progress=False
    ).values


@pytest.mark.parametrize("rows", ["packed", "padded", "separate"])
@pytest.mark.parametrize("readout", ["last", "last+mean"])
@pytest.mark.parametrize("instruction", ["after", "before"])
def test_states_of_seeds_are_those_that_each_reads(
    dataset, backbone, tmp_path, passes, instruction, readout, rows
):
    split = leave_one_out(dataset)

    def made(seed: int):
        model = made_model(
            dataset, backbone, representation=TITLES, seed=seed, instruction=instruction, readout=readout
        )
        model._engine = [Engine(backbone, execution=Execution(rows=rows))]
        return model

    first = made(SEEDS[0])
    passes.clear()  # a backbone's first model is checked
    begin(first, split, tmp_path / "together")
    shared = sum(passes)
    for seed in SEEDS:
        found = table_of(made(seed), split, seed, tmp_path / "together")
        passes.clear()
        alone = table_of(made(seed), split, seed, tmp_path / "alone")
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)
    most = 2 if instruction == "before" else 2.6  # the instruction is read for each
    assert shared < most * sum(passes), "three seeds are read for less than three"


def test_a_table_that_was_begun_lacks_validation_alone(dataset, backbone, tmp_path, passes):
    split = leave_one_out(dataset)
    begin(made_model(dataset, backbone, representation=TITLES, seed=SEEDS[0]), split, tmp_path)
    for seed in SEEDS:
        model = made_model(dataset, backbone, representation=TITLES, seed=seed)
        passes.clear()
        table_of(model, split, seed, tmp_path)
        validated = parts_of(split, seed)[1]
        fitted = [model.prompts.fit(trunk) for trunk in validated.trunks]
        packed = model.pack(fitted, validated.boundaries)
        assert sum(passes) == packed.tokens, "calibration was stored as well"
    assert not list(tmp_path.rglob("*.partial"))


def test_nothing_is_left_to_read_where_all_parts_are_those_of_all(dataset, backbone, tmp_path, passes):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone, representation=TITLES, seed=SEEDS[0])
    calibrate_by_table(model, split, seed=SEEDS[0], validated=VALIDATED, cache=tmp_path)
    parts = [training_positions(split, length=5), evaluation_positions(split, "valid", length=5)]
    begin_for_seeds(
        model, split, dict.fromkeys(SEEDS, parts), validated=VALIDATED, dtype="float32", cache=tmp_path
    )
    passes.clear()
    for seed in SEEDS:
        other = made_model(dataset, backbone, representation=TITLES, seed=seed)
        calibrate_by_table(other, split, seed=seed, validated=VALIDATED, cache=tmp_path)
        table = encode_positions(other, *parts, dtype="float32", cache=tmp_path, progress=False)
        assert len(table) == sum(map(len, parts)) and bool(torch.isfinite(table.values).all())
    assert not passes


def test_rec_of_another_seed_is_what_that_seed_draws(dataset, backbone):
    model, other = (made_model(dataset, backbone, representation=TITLES, seed=seed) for seed in (0, 5))
    before = encoder_key(model)
    drawn = model.with_rec_of(5)
    assert encoder_key(drawn) == encoder_key(other) != before
    drawn.rec_mean += 1
    assert encoder_key(model) == before, "how states are standardised is each one's own"
    assert drawn.features("image") is model.features("image")


def test_where_adaptors_fill_slots_each_seed_reads_for_itself(dataset, backbone, tmp_path, passes):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone, representation=IMAGES, seed=SEEDS[0])
    begin(model, split, tmp_path)
    assert len(list((tmp_path / "states").glob("*/values.npy"))) == 1, "calibration of the first seed alone"
    assert not list(tmp_path.rglob("*.partial"))


def test_nothing_is_read_for_a_readout_of_features(dataset, backbone, tmp_path, passes):
    split = leave_one_out(dataset)
    model = made_model(dataset, backbone, representation=TITLES, readout="features", seed=SEEDS[0])
    passes.clear()  # a backbone's first model is checked
    begin(model, split, tmp_path)
    assert not passes and not list(tmp_path.rglob("*.partial"))
