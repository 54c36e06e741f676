"""Training: what it may see, what its losses are, and that interruption changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_models import N_ITEMS, N_USERS, made_dataset, made_model

from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError
from illmrec.model.backbone import load_backbone
from illmrec.prompts.packing import Packed
from illmrec.training import Trainer, TrainingOptions, preset_options
from illmrec.training.windows import Windows, draw_windows

OPTIONS = TrainingOptions(
    epochs=2, batch_size=8, validation_users=10, answer_tokens=8, targets="all", loss="ce", token_budget=600
)


@pytest.fixture(scope="module")
def dataset():
    return made_dataset()


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


def make_trainer(dataset, backbone, *, options=OPTIONS, seed=0, checkpoint=None, **model):
    return Trainer(
        model=made_model(dataset, backbone, **model),
        split=leave_one_out(dataset),
        options=options,
        seed=seed,
        negatives=draw_negatives(dataset, seed=0, n=20),
        checkpoint=checkpoint,
        progress=False,
    )


@pytest.mark.parametrize("targets", ["one", "all"])
def test_windows_hold_training_items_only_and_every_target_follows_its_history(dataset, targets):
    split = leave_one_out(dataset)
    seen = set()
    for draw in range(300):
        users = np.random.default_rng(draw).permutation(N_USERS)[:7]
        windows = draw_windows(split, users, np.random.default_rng(draw), targets=targets, length=5)
        for user, trunk, boundaries, wanted in zip(
            users, windows.trunks, windows.boundaries, windows.targets, strict=True
        ):
            train = split.train(user).tolist()
            assert 1 <= len(trunk) <= 5
            for boundary, target in zip(boundaries, wanted, strict=True):
                at = train.index(target)
                seen.add((user, at))
                assert train[max(0, at - boundary) : at] == trunk[:boundary].tolist()
    assert {at for user, at in seen if user == 0} == set(range(1, len(split.train(0))))


def test_the_token_budget_does_not_change_a_step(dataset, backbone):
    split = leave_one_out(dataset)
    windows = draw_windows(split, np.arange(8), np.random.default_rng(0), targets="all", length=5)
    gradients = []
    for budget in (100, 100_000):
        trainer = make_trainer(dataset, backbone, options=replace(OPTIONS, token_budget=budget))
        trainer._losses(windows, np.random.default_rng(1))
        gradients.append([parameter.grad for parameter in trainer.model.parameters()])
    for many_passes, one_pass in zip(*gradients, strict=True):
        torch.testing.assert_close(many_passes, one_pass, atol=1e-5, rtol=1e-4)


def test_same_seed_same_parameters_other_seed_others(dataset, backbone):
    first, again, other = (make_trainer(dataset, backbone, seed=seed) for seed in (0, 0, 1))
    reports = [trainer.run() for trainer in (first, again, other)]
    assert reports[0].epochs == reports[1].epochs
    assert reports[0].epochs != reports[2].epochs
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    dataset, backbone, tmp_path, monkeypatch
):
    whole = make_trainer(dataset, backbone)
    expected = whole.run()
    monkeypatch.setattr("illmrec.training.trainer.CHECKPOINT_SECONDS", 0.0)
    interrupted = make_trainer(dataset, backbone, checkpoint=tmp_path / "state")
    steps = interrupted._train_step
    count = iter(range(100))

    def stop_at_fifth() -> None:
        if next(count) == 4:
            raise KeyboardInterrupt
        steps()

    monkeypatch.setattr(interrupted, "_train_step", stop_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    resumed = make_trainer(dataset, backbone, checkpoint=tmp_path / "state")
    report = resumed.run()
    assert resumed.step == whole.step and report.epochs == expected.epochs
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])
    resumed.discard_checkpoint()
    assert not (tmp_path / "state").exists()


def test_a_checkpoint_of_other_options_is_not_continued(dataset, backbone, tmp_path):
    make_trainer(
        dataset, backbone, options=replace(OPTIONS, max_steps=1), checkpoint=tmp_path / "state"
    ).run()
    other = make_trainer(
        dataset, backbone, options=replace(OPTIONS, learning_rate=1e-2), checkpoint=tmp_path / "state"
    )
    other._resume()
    assert other.step == 0


def test_losses_equal_the_equations_written_out(dataset, backbone):
    model = made_model(dataset, backbone)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(6, backbone.width, generator=generator)
    targets = torch.randint(N_ITEMS, (6,), generator=generator)
    negatives = torch.randint(N_ITEMS, (6, 2), generator=generator)
    bce, ce = 0.0, 0.0
    for number, head in enumerate(model.heads):
        user = model.user_projectors[head](states)
        items = model.item_projectors[head](model.features(head))
        affinity = user @ items.T / model.shared**0.5
        for row in range(6):
            positive, negative = affinity[row, targets[row]], affinity[row, negatives[row, number]]
            bce -= torch.log(torch.sigmoid(positive)) + torch.log(1 - torch.sigmoid(negative))
            ce -= torch.log_softmax(affinity[row], 0)[targets[row]]
    torch.testing.assert_close(model.retrieval_loss(states, targets, negatives=negatives), bce)
    torch.testing.assert_close(model.retrieval_loss(states, targets), ce)


def test_scores_are_the_sum_of_affinities(dataset, backbone):
    model = made_model(dataset, backbone)
    history = np.array([3, 1, 4])
    with torch.inference_mode():
        state, _ = model.hidden(model.prompts.pack([model.prompts.fit(history)]))
        expected = sum(
            model.user_projectors[h](state)
            @ model.item_projectors[h](model.features(h)).T
            / model.shared**0.5
            for h in model.heads
        )
    np.testing.assert_allclose(model.score([history])[0], expected[0].numpy(), atol=1e-5)


def test_calibrated_states_differ_between_users_and_are_stored_with_the_parameters(dataset, backbone):
    model, split = made_model(dataset, backbone), leave_one_out(dataset)
    histories = [split.train(user) for user in range(N_USERS)]
    model.calibrate(histories)
    with torch.inference_mode():
        fitted = [model.prompts.fit(history, max_items=model.history_length) for history in histories]
        states, _ = model.hidden(model.prompts.pack(fitted))
    standard = (states - model.rec_mean) / model.rec_scale
    torch.testing.assert_close(standard.mean(0), torch.zeros(backbone.width), atol=1e-3, rtol=0)
    torch.testing.assert_close(standard.std(0), torch.ones(backbone.width), atol=1e-3, rtol=0)
    fresh = made_model(dataset, backbone, seed=1)
    fresh.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(fresh.score(histories[:3]), model.score(histories[:3]))


def test_training_lowers_the_loss(dataset, backbone):
    trainer = make_trainer(
        dataset, backbone, options=replace(OPTIONS, epochs=12, patience=None, learning_rate=1e-2)
    )
    epochs = trainer.run().epochs
    assert epochs[-1]["reri_loss"] < 0.9 * epochs[0]["reri_loss"]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_planned_learning_rate_is_never_cut_short(dataset, backbone, monkeypatch, schedule):
    options = replace(OPTIONS, epochs=4, patience=1, schedule=schedule)
    trainer = make_trainer(dataset, backbone, options=options)
    monkeypatch.setattr(trainer, "validate", iter([0.3, 0.2, 0.1, 0.1]).__next__)
    report = trainer.run()
    assert len(report.epochs) == (2 if schedule == "constant" else 4)
    assert report.best_epoch == 1 and report.described()["converged"]
    assert ("patience" in options.described()) == (schedule == "constant")
    rising = make_trainer(dataset, backbone, options=options)
    monkeypatch.setattr(rising, "validate", iter([0.1, 0.2, 0.3, 0.4]).__next__)
    assert not rising.run().described()["converged"]
    unseen = make_trainer(dataset, backbone, options=replace(options, validation_users=0, epochs=1))
    assert "converged" not in unseen.run().described()


def test_bce_negatives_are_neither_target_nor_history(dataset, backbone):
    trainer = make_trainer(dataset, backbone, options=replace(OPTIONS, loss="bce"))
    windows = Windows(trunks=[np.arange(30)], boundaries=[np.array([29, 30])], targets=[np.array([29, 31])])
    (drawn,) = trainer.draw(windows, np.random.default_rng(0)).negatives
    assert drawn.shape == (2, 2) and drawn.min() >= 30
    assert (drawn != np.array([[29], [31]])).all()
    assert trainer.run().targets > 0


def test_memory_that_runs_out_halves_the_budget_once_and_changes_nothing(
    dataset, backbone, monkeypatch, caplog
):
    def train(limit: float) -> tuple[list[dict[str, float]], int]:
        trainer = make_trainer(dataset, backbone, options=replace(OPTIONS, token_budget=4096))
        hidden = trainer.model.hidden

        def limited(packed: Packed, **how: object) -> tuple[torch.Tensor, torch.Tensor]:
            states = hidden(packed, **how)
            if packed.tokens > limit:
                # Too late: the graph exists, and earlier passes of the step have left gradients.
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            return states

        monkeypatch.setattr(trainer.model, "hidden", limited)
        return trainer.run().epochs, trainer.budget.tokens

    whole, budget = train(limit=np.inf)
    assert budget == 4096
    with caplog.at_level("WARNING"):
        split, smaller = train(limit=1200)
    assert smaller == 1024
    # Training says it once, and scoring, whose passes are others, at most once.
    assert 1 <= sum("at most 1024 tokens" in message for message in caplog.messages) <= 2
    for one, other in zip(whole, split, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_a_prompt_for_which_memory_never_suffices_is_said(dataset, backbone, monkeypatch):
    trainer = make_trainer(dataset, backbone)

    def never(packed: Packed, **how: object) -> tuple[torch.Tensor, torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.model, "hidden", never)
    with pytest.raises(InputError, match="single prompt"):
        trainer.model.score([np.arange(3)])


def test_only_the_parts_around_the_llm_are_trained(dataset, backbone):
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    trainer = make_trainer(dataset, backbone)
    trainer.run()
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    assert not any(name.startswith("_engine") for name, _ in trainer.model.named_parameters())


TITLES = "baselines.text_prompts:TitleOnly"
NO_IMAGE = np.zeros(N_ITEMS, dtype=bool)


@pytest.mark.parametrize("loss", ["bce", "ce"])
@pytest.mark.parametrize(
    "model", [{"representation": TITLES}, {"has_image": NO_IMAGE}], ids=["no slots", "no picture"]
)
def test_risa_is_left_out_where_nothing_learns_from_it_and_changes_nothing(
    dataset, backbone, monkeypatch, caplog, loss, model
):
    options = replace(OPTIONS, loss=loss, max_steps=4, epochs=4)
    forced, skipping = (make_trainer(dataset, backbone, options=options, **model) for _ in range(2))
    for trainer in (forced, skipping):
        # Some gradients are zero but for rounding (a bias under the softmax): Adam would divide it by itself.
        trainer.optimiser.param_groups[0]["eps"] = 1e-3
    forced.risa_left_out = None
    learnt = forced.run()
    assert learnt.risa_left_out is None and learnt.epochs[0]["risa_loss"] > 1

    hidden, seen = skipping.model.hidden, []
    monkeypatch.setattr(
        skipping.model,
        "hidden",
        lambda packed, **how: seen.append(packed.answer_ids) or hidden(packed, **how),
    )
    with caplog.at_level("INFO"):
        report = skipping.run()
    assert len(seen) >= 4 and not any(map(len, seen)), "neither question nor answer goes through the LLM"
    assert "the LLM is frozen" in report.risa_left_out
    assert sum("RISA is left out" in message for message in caplog.messages) == 1
    for row, before in zip(report.epochs, learnt.epochs, strict=True):
        assert "risa_loss" not in row and row["reri_loss"] == pytest.approx(before["reri_loss"], rel=1e-4)
    for name, value in forced.model.state_dict().items():
        torch.testing.assert_close(skipping.model.state_dict()[name], value, atol=1e-5, rtol=1e-3, msg=name)
    assert not torch.equal(forced.model.rec, made_model(dataset, backbone, **model).rec), "it has learnt"


@pytest.mark.parametrize(
    "model", [{}, {"representation": TITLES, "strategy": "lora"}], ids=["adaptor", "LoRA"]
)
def test_risa_runs_where_something_learns_from_it(dataset, backbone, model):
    options = replace(OPTIONS, strategy=model.get("strategy", "frozen"))
    trainer = make_trainer(dataset, backbone, options=options, **model)
    windows = draw_windows(trainer.split, np.arange(8), np.random.default_rng(0), targets="all", length=5)
    examples = trainer.draw(windows, np.random.default_rng(1))
    assert trainer.risa_left_out is None and examples.n_answer_tokens > 0
    packed = examples.pack(trainer.model.prompts)
    _, answers = trainer.model.hidden(packed)
    trainer.model.answer_loss(answers, torch.from_numpy(packed.answer_ids.astype(np.int64))).backward()
    learning = {n for n, p in trainer.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learning and all(name.startswith(("adaptors.", "llm.")) for name in learning)


def test_unknown_options_name_the_valid_ones():
    with pytest.raises(InputError, match=r"--targets some.*one, all"):
        TrainingOptions(targets="some")
    with pytest.raises(InputError, match=r"--preset large.*paper, released-code, small, smoke"):
        preset_options("large")
