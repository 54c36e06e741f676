"""Histories that nothing trains: read once, told apart, given up for memory, and no different in what is learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_models import IMAGES, made_dataset, made_model

from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.model import trunks
from illmrec.model.backbone import load_backbone
from illmrec.model.cost import training_flops
from illmrec.model.engine import Engine
from illmrec.model.illmrec import ILLMRec
from illmrec.model.trunks import Trunks, branches_alone, trunks_alone
from illmrec.training import Trainer, TrainingOptions

TITLES = "baselines.text_prompts:TitleOnly"
OPTIONS = TrainingOptions(
    epochs=4, batch_size=8, validation_users=10, answer_tokens=8, targets="all", loss="ce", token_budget=600
)


@pytest.fixture(scope="module")
def dataset():
    return made_dataset()


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


def make_trainer(dataset, backbone, *, options=OPTIONS, **model):
    return Trainer(
        model=made_model(dataset, backbone, **{"representation": TITLES, **model}),
        split=leave_one_out(dataset),
        options=options,
        seed=0,
        negatives=draw_negatives(dataset, seed=0, n=20),
        progress=False,
    )


@pytest.fixture
def rows(monkeypatch) -> list[int]:
    """Tokens of each row that goes through the LLM."""
    found, run = [], Engine._run
    monkeypatch.setattr(
        Engine, "_run", lambda self, inputs, *rest: found.append(len(inputs)) or run(self, inputs, *rest)
    )
    return found


@pytest.mark.parametrize("model", [{}, {"readout": "last+mean"}], ids=["last", "last+mean"])
def test_what_is_learnt_behind_constant_histories_is_what_is_learnt_with_them(
    dataset, backbone, rows, monkeypatch, model
):
    reports, states, tokens = [], [], []
    for constant in (True, False):
        trainer = make_trainer(dataset, backbone, **model)
        trainer.optimiser.param_groups[0]["eps"] = 1e-3  # some gradients are zero but for rounding
        monkeypatch.setattr(ILLMRec, "constant_trunks", constant)
        rows.clear()
        reports.append(trainer.run())
        states.append(trainer.model.state_dict())
        tokens.append(sum(rows))
    assert tokens[0] < 0.95 * tokens[1]
    for kept, whole in zip(reports[0].epochs, reports[1].epochs, strict=True):
        assert kept == pytest.approx(whole, rel=1e-4)
    for name, value in states[1].items():
        torch.testing.assert_close(states[0][name], value, atol=1e-5, rtol=1e-3, msg=name)


def test_from_the_third_epoch_on_only_branches_go_through_the_llm(dataset, backbone, rows):
    options = replace(OPTIONS, validation_users=0, batch_size=1000, token_budget=100_000)
    trainer = make_trainer(dataset, backbone, options=options, history_length=100)
    trainer.run()
    targets = int((np.diff(trainer.split.train_offsets)[trainer.split.learners] - 1).sum())
    branch = len(trainer.model.prompts.instruction) + 1
    assert rows[-1] == rows[-2] == targets * branch, "two epochs later no history is read"
    assert len(trainer.trunks) == len(trainer.split.learners)


@pytest.mark.parametrize("strategy", ["lora", "frozen"])
def test_a_history_that_something_learns_from_is_never_kept(dataset, backbone, strategy):
    """LoRA in the LLM, or an adaptor before it."""
    model = {"strategy": "lora"} if strategy == "lora" else {"representation": IMAGES}
    options = replace(OPTIONS, strategy=strategy, epochs=3)
    trainer = make_trainer(dataset, backbone, options=options, **model)
    assert not trainer.model.constant_trunks
    trainer.run()
    assert len(trainer.trunks) == 0


def test_in_the_second_stage_histories_with_slots_are_constant(dataset, backbone, rows):
    options = replace(OPTIONS, strategy="two-stage", epochs=6, validation_users=0)
    trainer = make_trainer(dataset, backbone, options=options, representation=IMAGES)
    trainer.run()
    assert trainer.model.constant_trunks and len(trainer.trunks) > 0


def test_no_more_is_kept_than_there_is_room_for(dataset, backbone):
    trainer = make_trainer(dataset, backbone)
    trainer.trunks = Trunks(limit=20_000)
    trainer.run()
    assert 0 < trainer.trunks.nbytes <= 20_000
    held = len(trainer.trunks)
    trainer.trunks.give_up()
    assert held and trainer.trunks.nbytes == len(trainer.trunks) == 0
    trainer.validate()
    trainer.validate()
    assert len(trainer.trunks) == 0, "what was given up for memory is not taken again"


def test_trunks_are_told_apart_by_words_and_by_what_is_in_their_slots(dataset, backbone):
    model = made_model(dataset, backbone)
    model.adaptors.requires_grad_(False)
    model.trunks = Trunks()
    histories = [np.array(history) for history in ([0, 1], [1, 0], [0, 2], [0], [0, 1])]
    together = model.encode(histories)
    for _ in range(3):
        torch.testing.assert_close(model.encode(histories), together, atol=1e-5, rtol=1e-4)
    assert len(model.trunks) == 4
    model.trunks = None
    torch.testing.assert_close(model.encode(histories), together, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("found", [False, True], ids=["read", "found"])
def test_flops_are_those_of_what_goes_through_the_llm(dataset, backbone, found):
    model = made_model(dataset, backbone, representation=TITLES)
    model.trunks = Trunks()
    histories = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6])]
    ends = [np.array([1, 3]), np.array([1]), np.array([2])]
    packed = model.pack([model.prompts.fit(history) for history in histories], ends)
    model.engine.prefix(packed.prefix)  # run once, for all passes
    for _ in range(2 * found):
        model.hidden(packed)
    missing = model.trunks.missing(packed)
    assert missing.tolist() == ([] if found else [0, 1, 2])
    with FlopCounterMode(display=False) as counter:
        model.hidden(packed)[0].sum().backward()
    counted = counter.get_flop_counts()["Global"]
    linear = sum(value for name, value in counted.items() if "bmm" not in str(name))
    behind, once = branches_alone(packed), trunks_alone(packed, missing)
    blocks = len(backbone.blocks)
    pairs = 3 * (blocks - 1) * behind.attended_pairs() + 3 * behind.attended_pairs(read=True)
    pairs += (blocks - 1) * once.attended_pairs()
    width = backbone.model.config.num_attention_heads * backbone.model.config.head_dim
    expected = training_flops(backbone, packed, read=missing)
    assert expected == pytest.approx(linear + 4 * width * pairs, rel=5e-4)
    assert expected < 0.8 * training_flops(backbone, packed)


def test_every_token_item_and_place_of_a_trunk_tells_it_from_others(dataset, backbone):
    model = made_model(dataset, backbone)
    packed = model.pack([model.prompts.fit(np.array([3, 4]))], [np.array([1, 2])])
    kept, read = Trunks(), [{0: (torch.zeros(1), torch.zeros(1))}]
    for _ in range(2):
        kept.of(packed, read=lambda users: read)
    trunk = int(packed.trunk_lengths[0])
    assert kept.missing(packed).tolist() == [] and len(kept) == 1
    assert (Trunks().nbytes, kept.nbytes) == (0, 8), "two numbers of four bytes"
    for position in (0, trunk // 2, trunk - 1):
        ids = packed.ids.copy()
        ids[position] += 1
        assert kept.missing(replace(packed, ids=ids)).tolist() == [0], position
    after = packed.ids.copy()
    after[trunk:] += 1
    assert kept.missing(replace(packed, ids=after)).tolist() == [], "branches are no part of it"
    assert kept.missing(replace(packed, prefix=packed.prefix[1:])).tolist() == [0]
    for slot in (0, 1):
        for name in ("slot_items", "slot_positions"):
            changed = getattr(packed, name)["image"].copy()
            changed[slot] += 1
            assert kept.missing(replace(packed, **{name: {"image": changed}})).tolist() == [0], (name, slot)


def test_a_row_of_branches_has_what_is_read_of_the_whole(dataset, backbone):
    model = made_model(dataset, backbone)
    histories = [model.prompts.fit(np.array(history)) for history in ([1, 2], [3])]
    questions = [(np.array([7, 8]), np.array([9, 10, 11])), (np.array([12]), np.array([13]))]
    ends = [np.array([1, 2]), np.array([1])]
    packed = model.prompts.pack(histories, boundaries=ends, questions=questions)
    alone = branches_alone(packed)
    assert alone.tokens == int((packed.branch > 0).sum()) == int(alone.lengths.sum())
    for part in ("ids", "position_ids", "visible", "branch"):
        whole, own = getattr(packed, part), getattr(alone, part)
        np.testing.assert_array_equal(own[alone.read_positions], whole[packed.read_positions])
    np.testing.assert_array_equal(alone.answer_ids, packed.answer_ids)
    first = trunks_alone(packed, np.array([1]))
    np.testing.assert_array_equal(first.ids, packed.ids[packed.lengths[0] :][: packed.trunk_lengths[1]])


def test_free_memory_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (300, 900))
    assert trunks._free(torch.device("cuda")) == 300
    assert 300 < trunks._free(torch.device("cpu")) < psutil.virtual_memory().total
