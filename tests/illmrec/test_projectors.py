"""Projectors trained on stored states, and strategy cached as a whole."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_models import N_ITEMS, N_POPULAR, made_dataset, made_model

from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.model.backbone import load_backbone
from illmrec.ranking import mean_ndcg, target_ranks
from illmrec.training import CachedOptions, CachedTrainer, TrainingOptions, head_training
from illmrec.training.cached import joint_steps
from illmrec.training.head_training import States
from illmrec.training.projectors import train_projectors

FAST = CachedOptions(batch_size=16, epochs=30, learning_rate=3e-3, state_dtype="float32")
CACHED = TrainingOptions(
    strategy="cached", cached=FAST, batch_size=8, answer_tokens=8, targets="all", loss="ce", token_budget=600
)


@pytest.fixture(scope="module")
def dataset():
    return made_dataset()


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


def made_states(model, count: int, seed: int) -> States:
    """States of which the target is a function."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(N_POPULAR, size=count)
    table = np.random.default_rng(9).normal(size=(N_ITEMS, len(model.rec_mean)))
    noise = generator.normal(size=(count, len(model.rec_mean)))
    values = torch.from_numpy(table[targets] + 0.5 * noise).float()
    return States(values=values, targets=targets.astype(np.int64))


def trained(model, *, options=FAST, seed=0, **given):
    negatives = np.random.default_rng(5).integers(N_POPULAR, N_ITEMS, size=(60, 10))
    report = train_projectors(
        model,
        train=made_states(model, 300, 0),
        valid=made_states(model, 60, 1),
        negatives=negatives,
        options=options,
        seed=seed,
        progress=False,
        **given,
    )
    return report, negatives


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, FAST),
        ({"binary": True}, replace(FAST, epochs=60)),
        ({}, replace(FAST, negatives=25)),
        ({}, replace(FAST, dropout=0.2, temperature=0.5, together=False)),
    ],
    ids=["softmax", "binary", "sampled", "dropout"],
)
def test_what_states_hold_is_learnt(dataset, backbone, given, options):
    model = made_model(dataset, backbone)
    frozen = {k: v.clone() for k, v in model.state_dict().items() if "projector" not in k}
    report, _ = trained(model, options=options, **given)
    assert report.valid_ndcg10 > 0.9
    assert report.epochs[report.best_epoch - 1]["loss"] < report.epochs[0]["loss"]
    for name, value in frozen.items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("together", [False, True])
def test_the_best_epoch_is_what_is_left(dataset, backbone, together):
    model = made_model(dataset, backbone)
    options = replace(FAST, together=together)
    report, negatives = trained(model, options=options)
    values = [epoch["valid_ndcg@10"] for epoch in report.epochs]
    assert report.valid_ndcg10 == values[-1] == values[report.best_epoch - 1]
    assert not together or values[-1] == max(values)
    valid = made_states(model, 60, 1)
    with torch.inference_mode():
        scores = (model.project_standardised(valid.values).flatten(1) @ model.catalogue().T).numpy()
    assert mean_ndcg(target_ranks(scores, valid.targets, candidates=negatives), 10) == values[-1]


def test_a_feature_types_projectors_are_the_same_beside_any_others(dataset, backbone, tmp_path):
    def projectors(model, head):
        return torch.cat([p.flatten() for part in (model.user_projectors, model.item_projectors)
                          for p in part[head].parameters()])  # fmt: skip

    options = replace(CACHED, cached=replace(FAST, patience=1, decays=0))
    both = trainer(dataset, backbone, tmp_path / "both", options=options, heads=("image", "cf"))
    alone = trainer(dataset, backbone, tmp_path / "alone", options=options, heads=("cf",))
    report = both.run().projectors
    assert not report.found and report.converged
    alone.run()
    torch.testing.assert_close(projectors(both.model, "cf"), projectors(alone.model, "cf"))
    # Where they are trained, they are found: by other rows of an ablation, not by other seeds.
    again = trainer(dataset, backbone, tmp_path / "both", options=options, heads=("cf",))
    found = again.run().projectors
    assert found.found == ("cf",) and len(found.epochs) == 1
    torch.testing.assert_close(projectors(again.model, "cf"), projectors(alone.model, "cf"))
    other = replace(options, cached=replace(options.cached, projector_seed=7))
    states = len(list((tmp_path / "both" / "states").glob("*[0-9a-f]")))
    seeded = trainer(dataset, backbone, tmp_path / "both", options=other, heads=("cf",))
    assert not seeded.run().projectors.found
    assert not torch.equal(projectors(seeded.model, "cf"), projectors(alone.model, "cf"))
    assert len(list((tmp_path / "both" / "states").glob("*[0-9a-f]"))) == states


def test_it_stops_when_validation_does_and_says_so(dataset, backbone):
    report, _ = trained(made_model(dataset, backbone), options=replace(FAST, epochs=500, patience=2))
    assert report.converged and len(report.epochs) < 500
    rates = [epoch["learning_rate"] for epoch in report.epochs]
    assert sorted(set(rates), reverse=True) == pytest.approx([3e-3, 9e-4, 2.7e-4])
    report, _ = trained(made_model(dataset, backbone), options=replace(FAST, epochs=2))
    assert not report.converged and len(report.epochs) == 2


def test_a_seed_gives_the_same_projectors(dataset, backbone):
    def weights(seed: int) -> torch.Tensor:
        model = made_model(dataset, backbone)
        trained(model, options=replace(FAST, epochs=3, dropout=0.1, negatives=10), seed=seed)
        return torch.cat([parameter.flatten() for parameter in model.user_projectors.parameters()])

    torch.testing.assert_close(weights(3), weights(3), rtol=0, atol=0)
    assert not torch.equal(weights(3), weights(4))


def test_a_large_catalogue_is_sampled_and_ranked_by_its_candidates_alone(dataset, backbone, monkeypatch):
    whole, _ = trained(made_model(dataset, backbone), options=replace(FAST, negatives=30, epochs=3))
    monkeypatch.setattr(head_training, "EXACT_ITEMS", N_ITEMS - 1)
    monkeypatch.setattr(head_training, "_SAMPLED_ITEMS", 30)
    model = made_model(dataset, backbone)
    monkeypatch.setattr(model, "catalogue", lambda: pytest.fail("the whole catalogue was projected"))
    report, _ = trained(model, options=replace(FAST, epochs=3))
    assert [e["valid_ndcg@10"] for e in report.epochs] == pytest.approx(
        [e["valid_ndcg@10"] for e in whole.epochs]
    )


def trainer(dataset, backbone, folder, *, options=CACHED, seed=0, **model) -> CachedTrainer:
    return CachedTrainer(
        model=made_model(dataset, backbone, seed=seed, **model),
        split=leave_one_out(dataset),
        options=options,
        seed=seed,
        negatives=draw_negatives(dataset, seed=0, n=20),
        checkpoint=folder / "unfinished",
        cache=folder,
        progress=False,
    )


@pytest.mark.parametrize(
    ("readout", "warm_up"),
    [*itertools.product(("last", "last+mean", "last+features"), (0, 40)), ("features", 0)],
)
def test_cached_training_from_end_to_end(dataset, backbone, tmp_path, readout, warm_up):
    options = replace(CACHED, cached=replace(FAST, warm_up=warm_up, epochs=8))
    run = trainer(dataset, backbone, tmp_path, options=options, readout=readout)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    report = run.run().described()
    split = leave_one_out(dataset)
    assert report["positions"] == len(split.train_items()) - dataset.n_users
    assert report["warm_up_targets"] == pytest.approx(warm_up, abs=40) and (
        report["warm_up_targets"] > 0
    ) == (warm_up > 0)
    assert torch.equal(run.model.rec, before["rec"]) == (warm_up == 0)
    assert report["seconds"] > 0 and report["valid_ndcg@10"] > 0
    # Validation through stored states is validation through the LLM.
    users = np.arange(dataset.n_users)
    scores = run.model.score([split.history(int(user), "valid") for user in users])
    ranks = target_ranks(scores, split.targets("valid"), candidates=run.negatives)
    assert mean_ndcg(ranks, 10) == pytest.approx(report["valid_ndcg@10"], abs=0.02)


@pytest.mark.parametrize("joint", ["frozen", "lora"])
def test_alternation_keeps_the_round_that_validates_best(dataset, backbone, tmp_path, joint):
    alternating = replace(FAST, alternations=2, alternation_targets=60, joint=joint, epochs=4)
    options = replace(CACHED, cached=alternating)
    run = trainer(dataset, backbone, tmp_path, options=options, strategy=options.tunes)
    trained = {name for name, _ in run.model.named_parameters() if name.startswith("llm.")}
    assert bool(trained) == (joint == "lora")
    report = run.run()
    described = report.described()
    values = [part.projectors.valid_ndcg10 for part in report.rounds]
    assert described["rounds"] == values and described["valid_ndcg@10"] == max(values)
    assert report.rounds[0].joint is None and len(report.joint) == 2
    assert described["warm_up_targets"] == sum(part.targets for part in report.joint) > 0
    # Each round's states are its own, and those of the model that is left.
    assert len(list((tmp_path / "states").glob("*[0-9a-f]"))) == 6
    split = leave_one_out(dataset)
    scores = run.model.score([split.history(user, "valid") for user in range(dataset.n_users)])
    ranks = target_ranks(scores, split.targets("valid"), candidates=run.negatives)
    assert mean_ndcg(ranks, 10) == pytest.approx(max(values), abs=0.02)


def test_a_killed_alternation_ends_as_one_that_was_not(dataset, backbone, tmp_path, monkeypatch):
    options = replace(CACHED, cached=replace(FAST, alternations=1, alternation_targets=60, epochs=3))
    whole = trainer(dataset, backbone, tmp_path / "whole", options=options)
    whole.run()
    stopped = trainer(dataset, backbone, tmp_path / "parts", options=options)
    assert stopped.stages[0] is None and stopped.stages[1] is not None
    calibrated = []

    def interrupted(self: CachedTrainer) -> None:
        calibrated.append(1)
        if len(calibrated) == 2:  # after the joint steps of the alternation
            raise KeyboardInterrupt
        calibrate(self)

    calibrate = CachedTrainer._calibrate
    monkeypatch.setattr(CachedTrainer, "_calibrate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    monkeypatch.undo()
    again = trainer(dataset, backbone, tmp_path / "parts", options=options)
    monkeypatch.setattr(type(again.stages[1]), "_train_step", lambda self: pytest.fail("trained again"))
    again.run()
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0)
    again.discard_checkpoint()
    assert not list((tmp_path / "parts").glob("unfinished*"))


def test_heads_and_seeds_of_projectors_share_states(dataset, backbone, tmp_path, monkeypatch):
    from illmrec.model.illmrec import ILLMRec

    passes = []
    hidden = ILLMRec.hidden
    monkeypatch.setattr(
        ILLMRec, "hidden", lambda self, packed, **how: passes.append(1) or hidden(self, packed, **how)
    )
    trainer(dataset, backbone, tmp_path).run()
    first = len(passes)
    trainer(dataset, backbone, tmp_path, heads=("image",)).run()
    assert len(passes) == first
    # Those of training and validation, and those by which they are standardised.
    assert len(list((tmp_path / "states").glob("*[0-9a-f]"))) == 2


def test_an_interrupted_encoding_goes_on_after_its_warm_up(dataset, backbone, tmp_path, monkeypatch):
    options = replace(CACHED, cached=replace(FAST, warm_up=40, epochs=3))
    whole = trainer(dataset, backbone, tmp_path / "whole", options=options)
    whole.run()
    stopped = trainer(dataset, backbone, tmp_path / "parts", options=options)
    monkeypatch.setattr(
        "illmrec.training.cached.encode_positions", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    monkeypatch.undo()
    again = trainer(dataset, backbone, tmp_path / "parts", options=options)
    steps = []
    monkeypatch.setattr(type(again.stages[0]), "_train_step", lambda self: steps.append(1))
    report = again.run()
    assert not steps and report.joint[0].targets > 0
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0)
    again.discard_checkpoint()
    assert not (tmp_path / "parts" / "unfinished").exists()


def test_the_warm_up_sees_about_as_many_targets_as_wanted(dataset):
    split = leave_one_out(dataset)
    lengths = np.minimum(5, np.diff(split.train_offsets) - 1)
    assert joint_steps(split, CACHED, targets=1000, length=5) == pytest.approx(
        1000 / (8 * lengths.mean()), abs=1
    )
    assert joint_steps(split, replace(CACHED, targets="one"), targets=1000, length=5) == 125
    assert joint_steps(split, CACHED, targets=0, length=5) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"warm_up": -1}, "--warm-up -1"),
        ({"last_targets": 0}, "--last-targets 0"),
        ({"state_dtype": "int8"}, "--state-dtype int8"),
        ({"alternations": -1}, "--alternations -1"),
        ({"alternations": 1, "alternation_targets": 0}, "--alternation-targets 0"),
        ({"joint": "end-to-end", "warm_up": 8}, "--joint end-to-end: unknown"),
        ({"joint": "lora"}, "nothing is trained jointly"),
        ({"temperature": 0.0}, "temperature"),
        ({"dropout": 1.0}, "dropout"),
        ({"batch_size": 0}, "--batch-size 0"),
    ],
)
def test_options_out_of_range_are_one_line(given, message):
    with pytest.raises(InputError, match=message) as caught:
        CachedOptions(**given)
    assert "\n" not in str(caught.value)


def test_options_go_through_json_and_belong_to_one_strategy():
    assert TrainingOptions(**CACHED.described()) == CACHED
    # Options of later versions leave keys of stored results as they are.
    assert "alternations" not in CACHED.described()["cached"]
    other = replace(CACHED, cached=CachedOptions(alternations=2, joint="lora"))
    assert TrainingOptions(**other.described()) == other and other.tunes == "lora"
    assert "cached" not in TrainingOptions().described()
    assert TrainingOptions(strategy="cached").cached == CachedOptions()
    with pytest.raises(InputError, match="only cached"):
        TrainingOptions(cached=CachedOptions())


def test_a_readout_of_all_items_needs_targets_at_all_items(dataset, backbone, tmp_path):
    options = replace(CACHED, targets="one", cached=replace(FAST, warm_up=40))
    with pytest.raises(InputError, match="--targets all"):
        trainer(dataset, backbone, tmp_path, options=options, readout="last+mean")
    # Without a warm-up nothing is trained jointly.
    trainer(dataset, backbone, tmp_path, options=replace(options, cached=FAST), readout="last+mean")


def test_without_the_llm_there_is_nothing_to_train_jointly(dataset, backbone, tmp_path):
    options = replace(CACHED, cached=replace(FAST, warm_up=40))
    with pytest.raises(InputError, match="--strategy cached"):
        trainer(dataset, backbone, tmp_path, options=options, readout="features")
