"""The switches to the authors' released code: each changes what it says, and models with them are stored and read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from training_models import N_ITEMS, made_dataset, made_model

from illmrec.assembly import FORM, ModelConfig
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.model.backbone import load_backbone
from illmrec.model.heads import Adaptor, Form, Projector
from illmrec.saved_model import load_parameters, save_model
from illmrec.training import CachedOptions, CachedTrainer, Trainer, TrainingOptions, preset_options
from illmrec.training.examples import draw_examples
from illmrec.training.windows import draw_windows

RELEASED = {"adaptor": "norm-gelu", "projector": "norm-inside", "inputs": "raw", "affinity": "dot"}


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


@pytest.fixture(scope="module")
def dataset():
    return made_dataset()


def trainer_of(model, dataset, options, **arguments):
    kind = CachedTrainer if options.strategy == "cached" else Trainer
    return kind(
        model=model,
        split=leave_one_out(dataset),
        options=options,
        seed=0,
        negatives=draw_negatives(dataset, seed=0, n=10),
        progress=False,
        **arguments,
    )


def step_gradients(trainer) -> dict[str, torch.Tensor]:
    """Gradients that one step leaves, without the step."""
    windows = draw_windows(
        trainer.split, trainer.split.learners[:8], np.random.default_rng(0), targets="one", length=5
    )
    trainer._losses(windows, np.random.default_rng(1))
    return {
        name: parameter.grad.clone()
        for name, parameter in trainer.model.named_parameters()
        if parameter.grad is not None
    }


def test_the_mean_loss_is_the_sum_over_the_number_of_feature_types(backbone, dataset):
    options = TrainingOptions(risa=False, batch_size=8)
    gradients = [
        step_gradients(trainer_of(made_model(dataset, backbone), dataset, replace(options, reduction=how)))
        for how in ("sum", "mean")
    ]
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value / 2, atol=1e-7, rtol=1e-4)
    model = made_model(dataset, backbone)
    states, targets = torch.randn(3, backbone.width), torch.tensor([1, 2, 3])
    for negatives in (None, torch.tensor([[4, 5], [6, 7], [8, 9]])):
        total = model.retrieval_loss(states, targets, negatives=negatives)
        mean = model.retrieval_loss(states, targets, negatives=negatives, reduction="mean")
        torch.testing.assert_close(mean, total / 2)


def test_only_the_catalogue_gives_items_of_the_history_as_negatives(backbone, dataset):
    model, split = made_model(dataset, backbone), leave_one_out(dataset)
    seen = {False: set(), True: set()}
    for draw in range(60):
        windows = draw_windows(split, split.learners, np.random.default_rng(draw), targets="one", length=5)
        for allowed in seen:
            drawn = draw_examples(
                model,
                windows,
                np.random.default_rng(draw),
                questions=None,
                sampled=True,
                history_negatives=allowed,
            )
            for history, targets, negatives in zip(
                drawn.histories, drawn.targets, drawn.negatives, strict=True
            ):
                assert negatives.shape == (1, 2) and not np.isin(negatives, targets).any()
                seen[allowed].update((negatives[np.isin(negatives, history.items)]).tolist())
    assert not seen[False] and len(seen[True]) > 10


def test_short_windows_have_two_to_four_items_in_half_of_the_draws(dataset):
    split = leave_one_out(dataset)
    lengths = np.diff(split.train_offsets)
    users = np.flatnonzero(lengths > 9)
    assert len(users) >= 4
    found, starts = [], set()
    for draw in range(400):
        windows = draw_windows(
            split, users, np.random.default_rng(draw), targets="one", length=10, windows="short"
        )
        for user, trunk, ends, target in zip(
            users, windows.trunks, windows.boundaries, windows.targets, strict=True
        ):
            own = split.train(int(user))
            (at,) = (
                i
                for i in range(len(own))
                if own[i] == target[0] and list(own[:i])[-len(trunk) :] == list(trunk)
            )
            starts.add(at - len(trunk))
            assert ends.tolist() == [len(trunk)]
            found.append(len(trunk))
    shares = np.bincount(found, minlength=10)[2:10] / len(found)
    assert set(found) == set(range(2, 10)) and 0 in starts and max(starts) > 3
    expected = [0.5 / 3 + 0.5 / 8] * 3 + [0.5 / 8] * 5
    assert np.abs(shares - expected).max() < 4 * math.sqrt(0.25 / len(found))


def test_short_windows_of_short_users_are_their_whole_training_part(dataset):
    split = leave_one_out(dataset)
    lengths = np.diff(split.train_offsets)
    users = np.flatnonzero((lengths == 2) | (lengths == 3))
    assert len(users)
    for length in (1, 2, 10):
        windows = draw_windows(
            split, users, np.random.default_rng(0), targets="all", length=length, windows="short"
        )
        for user, trunk, targets in zip(users, windows.trunks, windows.targets, strict=True):
            own = split.train(int(user))
            assert len(trunk) == len(targets) == min(length, len(own) - 1)
            if length > 1:
                assert trunk.tolist() == own[:-1].tolist() and targets.tolist() == own[1:].tolist()


def test_adaptor_and_projector_have_the_forms_of_the_authors_code():
    torch.manual_seed(0)
    adaptor = Adaptor(feature_width=7, width=6, scale=0.02, form="norm-gelu")
    assert [type(part) for part in adaptor] == [nn.Linear, nn.LayerNorm, nn.GELU, nn.Linear]
    assert adaptor[0].out_features == 512
    projector = Projector(width=7, hidden=16, shared=8, depth=2, form="norm-inside")
    hidden = [nn.Linear, nn.LayerNorm, nn.ReLU]
    assert [type(part) for part in projector] == [*hidden, *hidden, nn.Linear]
    x = torch.randn(4, 7)
    first = adaptor[0](x)
    scaled = (first - first.mean(1, keepdim=True)) / (
        first.var(1, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(adaptor(x), functional.gelu(scaled) @ adaptor[3].weight.T + adaptor[3].bias)


@pytest.mark.parametrize("switch", [{name: value} for name, value in RELEASED.items()])
def test_each_form_changes_what_it_says_and_nothing_else(backbone, dataset, switch):
    usual, other = made_model(dataset, backbone), made_model(dataset, backbone, **switch)
    kinds = {
        name: [type(part).__name__ for part in module]
        for model in (usual, other)
        for name, module in model.named_modules()
        if isinstance(module, (Adaptor, Projector))
    }
    (name,) = switch
    for module, now in kinds.items():
        before = [type(part).__name__ for part in usual.get_submodule(module)]
        own = ("adaptor" in module and name == "adaptor") or ("project" in module and name == "projector")
        assert (now != before) == own
    torch.testing.assert_close(usual.rec, other.rec)
    raw = torch.from_numpy(np.random.default_rng(1).normal(size=(N_ITEMS, 12)).astype(np.float32))
    image = other.features("image")
    assert torch.equal(image, raw) == (name == "inputs")
    states = torch.randn(3, backbone.width)
    for model in (usual, other):
        model.calibrate([np.array([1, 2]), np.array([3]), np.array([5, 6])])
    assert bool((other.rec_scale == 1).all()) == (name == "inputs") and (usual.rec_scale != 1).any()
    projected = other.project_standardised(states, heads=("image",))[:, 0]
    factor = 1.0 if name == "affinity" else 8**-0.5
    torch.testing.assert_close(projected, other.user_projectors["image"](states) * factor)


def test_the_preset_trains_and_its_model_is_read_again(backbone, dataset, tmp_path):
    options = replace(preset_options("released-code"), epochs=2, answer_tokens=8)
    assert options.described()["windows"] == "short" and options.patience == 3
    model = made_model(dataset, backbone, strategy=options.tunes, **RELEASED)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = trainer_of(model, dataset, options)
    report = trainer.run()
    assert report.best_epoch == 2 and "valid_ndcg@10" not in report.epochs[-1]
    assert trainer.optimiser.param_groups[0]["lr"] == pytest.approx(5e-5 / trainer.total_steps)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in changed if name.startswith("llm.")} and not changed & {"rec_mean", "rec_scale"}
    config = ModelConfig(
        representation="illmrec.prompts.segments:ImageRepresentation",
        heads=("image", "cf"),
        hidden=16,
        shared=8,
        history_length=5,
        strategy="embeddings",
        **RELEASED,
    )
    save_model(
        tmp_path,
        model=model,
        config=config,
        dataset=dataset,
        dataset_arguments={"name": "toyshop"},
        backbone={"name": "x"},
        encoders={},
        features={},
        training={},
    )
    saved = json.loads((tmp_path / "model.json").read_text())["config"]
    read = ModelConfig(**{**saved, "heads": tuple(saved["heads"])})
    assert read == config
    fresh = made_model(dataset, backbone, strategy="embeddings", seed=5, **RELEASED)
    generator = np.random.default_rng(1)
    features = {name: generator.normal(size=(N_ITEMS, 12)).astype(np.float32) for name in ("image", "cf")}
    load_parameters(fresh, tmp_path, features=features)
    histories = [np.array([3, 1, 4]), np.array([2])]
    np.testing.assert_array_equal(fresh.score(histories), model.score(histories))


def test_a_saved_configuration_of_before_is_read_as_it_was():
    config = ModelConfig(representation="a:B", heads=("image",))
    old = {name: value for name, value in asdict(config).items() if name not in RELEASED}
    assert ModelConfig(**old) == config
    assert {name: FORM[name] for name in RELEASED} == asdict(Form())


def test_gradients_are_clipped_as_one_vector(backbone, dataset):
    model = made_model(dataset, backbone)
    trainer = trainer_of(model, dataset, TrainingOptions(risa=False, batch_size=24, clip=1e-3))
    seen = []
    trainer.optimiser.step = lambda: seen.append([p.grad for p in model.parameters() if p.grad is not None])
    trainer._train_step()
    assert torch.cat([grad.flatten() for grad in seen[0]]).norm() == pytest.approx(1e-3, rel=1e-3)
    with pytest.raises(InputError, match="--clip -1"):
        TrainingOptions(clip=-1.0)


def test_the_linear_schedule_falls_to_zero_after_the_last_step(backbone, dataset):
    options = TrainingOptions(risa=False, batch_size=8, epochs=2, schedule="linear", validation_users=0)
    trainer = trainer_of(made_model(dataset, backbone), dataset, options)
    rates, step = [], trainer.optimiser.step
    trainer.optimiser.step = lambda: (rates.append(trainer.optimiser.param_groups[0]["lr"]), step())
    trainer.run()
    assert rates == pytest.approx([1e-3 * (1 - n / 6) for n in range(6)])


def test_stored_states_take_the_forms_and_keep_projectors_apart(backbone, dataset, tmp_path):
    options = TrainingOptions(strategy="cached", cached=CachedOptions(epochs=30, patience=1, decays=0))
    scores = {}
    for name, form in {"usual": {}, "dot": {"affinity": "dot"}, "raw": {"inputs": "raw"}}.items():
        for _ in range(2):
            model = made_model(dataset, backbone, **form)
            report = trainer_of(model, dataset, options, cache=tmp_path).run()
        assert set(report.projectors.found) == set(model.heads), "found again"
        scores[name] = model.score([np.array([1, 2, 3])])
        assert bool((model.rec_scale == 1).all()) == (name == "raw")
    assert not np.allclose(scores["usual"], scores["dot"])


def test_unknown_forms_name_the_valid_ones(backbone, dataset):
    with pytest.raises(InputError, match="--adaptor tanh: unknown; valid: relu, norm-gelu"):
        made_model(dataset, backbone, adaptor="tanh")
    with pytest.raises(InputError, match="--negatives-from here: unknown; valid: outside, catalogue"):
        TrainingOptions(negatives_from="here")
    with pytest.raises(InputError, match="--reduction max"):
        TrainingOptions(reduction="max")
    with pytest.raises(InputError, match="--negatives-from catalogue: --loss ce draws none"):
        TrainingOptions(loss="ce", negatives_from="catalogue")
