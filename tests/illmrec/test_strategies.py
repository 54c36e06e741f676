"""Training strategies: what each trains, that the shared LLM is never touched, and that runs can be resumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from illmrec.assembly import ModelConfig, build_model
from illmrec.data.candidates import draw_negatives
from illmrec.data.dataset import Dataset
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import load_backbone
from illmrec.model.tuning import tuned_backbone
from illmrec.saved_model import load_parameters, save_model
from illmrec.training import Trainer, TrainingOptions
from illmrec.training.calibration import calibrate
from illmrec.training.strategies import Masters

N_ITEMS, N_USERS = 30, 12
OPTIONS = TrainingOptions(
    epochs=2,
    batch_size=6,
    validation_users=6,
    answer_tokens=8,
    targets="all",
    loss="ce",
    llm_learning_rate=1e-2,
)
LORA = pytest.param("lora", marks=pytest.mark.skipif("not __import__('importlib').util.find_spec('peft')"))
STRATEGIES = ["frozen", LORA, "embeddings", "end-to-end", "two-stage"]
TUNED = [LORA, "embeddings", "end-to-end"]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    generator = np.random.default_rng(0)
    words = np.array(["red", "blue", "green", "mug", "lamp", "shoe", "plain", "dots"])
    text = [" ".join(generator.choice(words, 3)) for _ in range(N_ITEMS)]
    items = pd.DataFrame(
        {"item_id": [f"i{i}" for i in range(N_ITEMS)], "title": text, "brand": "", "category": text}
    ).assign(description=text, summary=text)
    lengths = generator.integers(4, 9, size=N_USERS)
    return Dataset(
        name="tiny",
        items=items,
        user_ids=np.array([f"u{u}" for u in range(N_USERS)], dtype=object),
        sequence_items=np.concatenate([generator.permutation(N_ITEMS)[:n] for n in lengths]).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        images=None,
        fingerprint="0" * 16,
        dropped={},
    )


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def backbone(request, tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype=request.param)


@pytest.fixture(scope="module")
def features() -> dict[str, FeatureTable]:
    values = np.random.default_rng(1).normal(size=(N_ITEMS, 12)).astype(np.float32)
    return {"image": FeatureTable(values=values, present=np.ones(N_ITEMS, dtype=bool), key="image", meta={})}


def config_of(options: TrainingOptions, *, representation="ImageRepresentation", seed=0) -> ModelConfig:
    return ModelConfig(
        representation=f"illmrec.prompts.segments:{representation}"
        if representation.startswith("Image")
        else representation,
        heads=("image",),
        hidden=16,
        shared=8,
        seed=seed,
        history_length=4,
        strategy=options.strategy,
        lora_rank=options.lora_rank,
        lora_alpha=options.lora_alpha,
    )


def make_trainer(dataset, backbone, features, options, *, checkpoint=None, **config) -> Trainer:
    model = build_model(
        config_of(options, **config),
        dataset=dataset,
        backbone=backbone,
        features=features,
        has_image=np.ones(N_ITEMS, dtype=bool),
    )
    return Trainer(
        model=model,
        split=leave_one_out(dataset),
        options=options,
        seed=0,
        negatives=draw_negatives(dataset, seed=0, n=10),
        checkpoint=checkpoint,
        progress=False,
    )


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def changed(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def test_options_at_their_defaults_leave_keys_as_they_were():
    expected = {
        *("risa", "targets", "loss", "epochs", "max_steps", "batch_size", "learning_rate", "schedule"),
        *("answer_tokens", "validation_users", "patience", "token_budget"),
    }
    assert TrainingOptions().described().keys() == expected
    tuned = TrainingOptions(strategy="lora", lora_rank=4)
    assert tuned.described().keys() == expected | {"strategy", "lora_rank"}
    assert TrainingOptions(**tuned.described()) == tuned


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_shared_llm_stays_bit_by_bit_and_the_model_learns(dataset, backbone, features, strategy):
    shared = copied(backbone.model)
    trainer = make_trainer(dataset, backbone, features, replace(OPTIONS, strategy=strategy))
    before = copied(trainer.model)
    report = trainer.run()
    assert changed(backbone.model, shared) == set()
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    learned = changed(trainer.model, before)
    assert {"rec", "adaptors.image.0.weight", "user_projectors.image.1.weight"} <= learned
    inside = {name for name in learned if name.startswith("llm.")}
    own = trainer.model.engine.backbone.model
    if strategy in ("frozen", "two-stage"):
        assert not inside and own is backbone.model
    elif strategy == "lora":
        assert inside and all("lora_" in name for name in inside)
        frozen = {p.data_ptr() for p in backbone.model.parameters()}
        assert {p.data_ptr() for p in own.parameters() if not p.requires_grad} == frozen
    elif strategy == "embeddings":
        (table,) = (name for name, p in own.named_parameters() if p.requires_grad)
        assert inside == {f"llm.{table.replace('.', '/')}"} and own.get_parameter(table) is (
            own.get_input_embeddings().weight
        )
        others = {p.data_ptr() for p in own.parameters() if not p.requires_grad}
        assert others <= {p.data_ptr() for p in backbone.model.parameters()}
        assert own.get_output_embeddings().weight.data_ptr() == (
            backbone.model.get_output_embeddings().weight.data_ptr()
        )
    else:
        assert len(inside) > 0.9 * len(list(backbone.model.parameters()))
        assert not {p.data_ptr() for p in own.parameters()} & {
            p.data_ptr() for p in backbone.model.parameters()
        }
    assert report.targets > 0 and np.isfinite(report.epochs[-1]["reri_loss"])


@pytest.mark.parametrize("strategy", TUNED)
def test_a_new_copy_computes_what_the_frozen_llm_does(dataset, backbone, features, strategy):
    history = [np.array([3, 1, 4]), np.array([2])]
    scores = [
        make_trainer(dataset, backbone, features, replace(OPTIONS, strategy=name)).model.score(history)
        for name in ("frozen", strategy)
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-6)


def test_lora_has_the_parameters_that_its_paper_counts(backbone):
    pytest.importorskip("peft")
    tuned = tuned_backbone(backbone, strategy="lora", lora_rank=3, seed=1)
    linear = [
        module
        for name, module in backbone.trunk.named_modules()
        if isinstance(module, torch.nn.Linear) and name
    ]
    trained = [parameter for parameter in tuned.model.parameters() if parameter.requires_grad]
    assert sum(p.numel() for p in trained) == sum(3 * (m.in_features + m.out_features) for m in linear)
    assert all(parameter.dtype == torch.float32 for parameter in trained)
    again, other = (tuned_backbone(backbone, strategy="lora", lora_rank=3, seed=seed) for seed in (1, 2))
    state = [copied(b.model) for b in (tuned, again, other)]
    names = [name for name in state[0] if "lora_A" in name]
    assert all(torch.equal(state[0][name], state[1][name]) for name in names)
    assert not any(torch.equal(state[0][name], state[2][name]) for name in names)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_seed_same_numbers_and_an_interruption_changes_nothing(
    dataset, backbone, features, strategy, tmp_path, monkeypatch
):
    options = replace(OPTIONS, strategy=strategy, epochs=3)
    whole = make_trainer(dataset, backbone, features, options)
    expected = whole.run()
    monkeypatch.setattr("illmrec.training.trainer.CHECKPOINT_SECONDS", 0.0)
    for stop in (1, 3, 4):  # in the first stage, where the second begins, within it
        interrupted = make_trainer(dataset, backbone, features, options, checkpoint=tmp_path / "state")
        step, count = interrupted._train_step, iter(range(100))

        def stopping(step=step, count=count, stop=stop) -> None:
            if next(count) == stop:
                raise KeyboardInterrupt
            step()

        monkeypatch.setattr(interrupted, "_train_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            interrupted.run()
        resumed = make_trainer(dataset, backbone, features, options, checkpoint=tmp_path / "state")
        assert resumed.run().epochs == expected.epochs and resumed.step == whole.step
        assert changed(resumed.model, copied(whole.model)) == set()
        resumed.discard_checkpoint()


def test_two_stages_train_adaptors_first_and_freeze_them_then(dataset, backbone, features):
    trainer = make_trainer(dataset, backbone, features, replace(OPTIONS, strategy="two-stage"))
    model = trainer.model
    calibrate(model, trainer.split, seed=0, validated=trainer.options.validation_users)
    assert trainer.total_steps == 4 and trainer.first_stage == 2
    for step in range(4):
        before, seen = copied(model), trainer.targets
        trainer._train_step()
        kinds = {name.split(".")[0] for name in changed(model, before)}
        if step < 2:
            assert kinds == {"adaptors"} and trainer.targets - seen == 6  # one question a user
        else:
            assert {"rec", "user_projectors", "item_projectors"} <= kinds and "adaptors" not in kinds
            assert ("rec_mean" in kinds) == (step == 2)
    with torch.inference_mode():
        fitted = [model.prompts.fit(trainer.split.train(user), max_items=4) for user in range(N_USERS)]
        assert torch.isfinite(model.hidden(model.prompts.pack(fitted))[0]).all()


def test_epochs_of_the_first_stage_are_neither_validated_nor_chosen(dataset, backbone, features):
    options = replace(OPTIONS, strategy="two-stage", epochs=8, patience=2)
    report = make_trainer(dataset, backbone, features, options).run()
    assert ["valid_ndcg@10" in epoch for epoch in report.epochs[:5]] == [False] * 4 + [True]
    assert report.best_epoch > 4
    losses = [{name for name in epoch if name.endswith("_loss")} for epoch in report.epochs]
    assert losses == [{"risa_loss"}] * 4 + [{"reri_loss"}] * (len(losses) - 4)
    options = replace(options, epochs=3)  # the second epoch holds one step of each stage
    trainer = make_trainer(dataset, backbone, features, options)
    step, sums = trainer._train_step, []

    def recording() -> None:
        before = dict(trainer._sums)
        step()
        sums.append({name: value - before.get(name, 0.0) for name, value in trainer._sums.items()})

    trainer._train_step = recording
    middle = trainer.run().epochs[1]
    assert middle["risa_loss"] == pytest.approx(sums[2]["risa"]) and sums[2]["reri"] == 0
    assert middle["reri_loss"] == pytest.approx(sums[3]["reri"]) and sums[3]["risa"] == 0


@pytest.mark.parametrize("strategy", TUNED)
def test_stored_parameters_give_the_same_scores_and_hold_no_frozen_weight(
    dataset, backbone, features, strategy, tmp_path
):
    options = replace(OPTIONS, strategy=strategy)
    trainer = make_trainer(dataset, backbone, features, options)
    trainer.run()
    save_model(
        tmp_path,
        model=trainer.model,
        config=config_of(options),
        dataset=dataset,
        dataset_arguments={"name": "toyshop"},
        backbone={"name": "smollm2-135m"},
        encoders={},
        features=features,
        training={},
    )
    size = (tmp_path / "parameters.safetensors").stat().st_size
    count = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert size < 4 * count + 20_000
    fresh = make_trainer(dataset, backbone, features, options, seed=9).model
    load_parameters(fresh, tmp_path, features={"image": features["image"].values})
    histories = [np.array([3, 1, 4]), np.array([2])]
    np.testing.assert_array_equal(fresh.score(histories), trainer.model.score(histories))


def test_masters_keep_steps_that_bfloat16_would_round_away():
    parameter = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    masters = Masters({"weight": parameter, "other": torch.nn.Parameter(torch.ones(3))})
    assert masters.weights.keys() == {"weight"}
    optimiser = torch.optim.SGD(masters.weights.values(), lr=1e-3)
    for _ in range(10):
        for _ in range(2):  # two passes add up
            (parameter.float().sum() / 2).backward()
        assert parameter.grad is None
        optimiser.step()
        masters.publish()
        optimiser.zero_grad()
    torch.testing.assert_close(masters.weights["weight"].detach(), torch.full((3,), 0.99))
    torch.testing.assert_close(parameter.detach(), torch.full((3,), 0.99).bfloat16())


def test_bad_strategies_are_one_line(dataset, backbone, features, monkeypatch):
    with pytest.raises(
        InputError, match=r"--strategy whole.*frozen, lora, embeddings, end-to-end, two-stage"
    ):
        TrainingOptions(strategy="whole")
    with pytest.raises(InputError, match="first stage is RISA"):
        TrainingOptions(strategy="two-stage", risa=False)
    with pytest.raises(InputError, match="--lora-rank 0"):
        TrainingOptions(strategy="lora", lora_rank=0)
    with pytest.raises(InputError, match="--llm-learning-rate 0"):
        TrainingOptions(strategy="lora", llm_learning_rate=0.0)
    two_stage = replace(OPTIONS, strategy="two-stage")
    with pytest.raises(InputError, match="trains adaptors, and this method has none"):
        make_trainer(
            dataset, backbone, features, two_stage, representation="baselines.text_prompts:TitleOnly"
        )
    with pytest.raises(InputError, match="two optimiser steps"):
        make_trainer(dataset, backbone, features, replace(two_stage, max_steps=1))
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError, match="pip install peft"):
        tuned_backbone(backbone, strategy="lora")
    half = replace(backbone, model=load_backbone(backbone.name, layers=1, dtype="float16").model)
    for strategy in ("end-to-end", "embeddings"):
        with pytest.raises(InputError, match=f"{strategy}: gradients underflow in float16"):
            tuned_backbone(half, strategy=strategy)
