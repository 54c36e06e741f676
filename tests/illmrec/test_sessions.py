"""Sessions: scores of histories that grew are those of encoding them anew, and what is read for them is little."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from training_models import N_ITEMS, made_dataset, made_model

from illmrec.data.dataset import Dataset
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.engine import Engine, Execution
from illmrec.model.illmrec import ILLMRec
from illmrec.model.kv_cache import ROOM, KVCache
from illmrec.recommender import Recommender
from illmrec.sessions import Sessions

DESCRIPTIONS = {"has_image": np.zeros(N_ITEMS, dtype=bool)}
"""Items without pictures show their descriptions."""
IDS = [f"i{row}" for row in range(N_ITEMS)]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return made_dataset()


@pytest.fixture(scope="module")
def backbone(tiny_llm: Path) -> Backbone:
    return load_backbone(str(tiny_llm), dtype="float32")


def model_of(dataset: Dataset, backbone: Backbone, **config: object) -> ILLMRec:
    torch.manual_seed(0)
    return made_model(dataset, backbone, **config).eval()


def anew(model: ILLMRec, rows: list[int]) -> np.ndarray:
    return model.score([np.array(rows)])[0]


@pytest.mark.parametrize("instruction", ["after", "before"])
@pytest.mark.parametrize("readout", ["last", "last+mean", "last+features", "features"])
@pytest.mark.parametrize("shown", [{}, DESCRIPTIONS], ids=["image", "description"])
def test_scores_are_those_of_encoding_anew(dataset, backbone, shown, readout, instruction) -> None:
    model = model_of(dataset, backbone, readout=readout, instruction=instruction, **shown)
    session = Recommender(model=model, dataset=dataset).session(IDS[:2])
    np.testing.assert_allclose(session.scores(), anew(model, [0, 1]), rtol=1e-4, atol=1e-5)
    for end in (3, 5):  # one item, then two at once
        session.append(*IDS[2 if end == 3 else 3 : end])
        np.testing.assert_allclose(session.scores(), anew(model, [*range(end)]), rtol=1e-4, atol=1e-5)
        assert session.reading.way == "append"
    session.append(IDS[5])  # the window of five items moves
    np.testing.assert_allclose(session.scores(), anew(model, [*range(6)]), rtol=1e-4, atol=1e-5)
    assert (session.reading.way, session.reading.reason) == ("anew", "moved")


def test_an_item_costs_its_tokens_and_a_branch(dataset, backbone, monkeypatch) -> None:
    model = model_of(dataset, backbone)
    sizes: list[int] = []
    run = Engine._run
    monkeypatch.setattr(
        Engine, "_run", lambda self, inputs, *rest: sizes.append(len(inputs)) or run(self, inputs, *rest)
    )
    session = Recommender(model=model, dataset=dataset).session(IDS[:3])
    session.recommend()
    first = session.reading
    sizes.clear()
    session.append(IDS[3])
    session.recommend()
    lengths = model.prompts.items.lengths
    branch = len(model.prompts.instruction) + 1
    assert sizes == [session.reading.tokens] == [lengths[3] + branch]
    assert (first.way, first.reason) == ("anew", "first")
    assert first.tokens == lengths[:3].sum() + branch
    session.recommend()
    assert session.reading.way == "nothing" and session.reading.tokens == 0 and len(sizes) == 1


def test_slack_lets_the_window_grow_before_it_moves(dataset, backbone) -> None:
    model = model_of(dataset, backbone)
    session = Recommender(model=model, dataset=dataset).session(IDS[:5], slack=2)
    session.scores()
    for end in (6, 7):
        session.append(IDS[end - 1])
        model.limit(history_length=7)
        expected = anew(model, [*range(end)])
        model.limit(history_length=5)
        np.testing.assert_allclose(session.scores(), expected, rtol=1e-4, atol=1e-5)
        assert session.reading.way == "append"
    session.append(IDS[7])
    np.testing.assert_allclose(session.scores(), anew(model, [*range(8)]), rtol=1e-4, atol=1e-5)
    assert session.reading.reason == "moved"


def test_a_context_moves_the_window_too(dataset, backbone) -> None:
    model = model_of(dataset, backbone, **DESCRIPTIONS)
    lengths = model.prompts.items.lengths
    model.limit(context=int(model.prompts.fixed_tokens + lengths[:3].sum()))
    session = Recommender(model=model, dataset=dataset).session(IDS[:2])
    session.scores()
    ways = []
    for end in (3, 4, 5):
        session.append(IDS[end - 1])
        np.testing.assert_allclose(session.scores(), anew(model, [*range(end)]), rtol=1e-4, atol=1e-5)
        ways.append(session.reading.way)
    assert ways[0] == "append" and "anew" in ways[1:]


def test_an_item_that_is_cut_is_read_anew(dataset, backbone) -> None:
    model = model_of(dataset, backbone, **DESCRIPTIONS)
    model.limit(context=int(model.prompts.fixed_tokens + model.prompts.items.lengths.min() - 2))
    session = Recommender(model=model, dataset=dataset).session(IDS[:1])
    session.scores()
    session.append(IDS[1])
    np.testing.assert_allclose(session.scores(), anew(model, [0, 1]), rtol=1e-4, atol=1e-5)
    assert session.reading.way == "anew" and session.nbytes == 0


@pytest.mark.parametrize("readout", ["last", "last+mean"])
def test_many_sessions_are_read_together(dataset, backbone, readout) -> None:
    model = model_of(dataset, backbone, readout=readout)
    sessions = Sessions(model=model, dataset=dataset)
    histories = {f"u{number}": [*range(number, number + 1 + number % 4)] for number in range(6)}
    for user, rows in histories.items():
        sessions.open(user, [IDS[row] for row in rows])
    users = [*histories]
    for added in (0, 1, 2):
        for user in users[: 2 * added]:
            histories[user].append(20 + added)
            sessions.append(user, IDS[20 + added])
        expected = np.stack([anew(model, histories[user]) for user in users])
        np.testing.assert_allclose(sessions.scores(users), expected, rtol=1e-4, atol=1e-5)
    assert {sessions.reading(user).way for user in users[4:]} == {"nothing"}


def test_lists_are_those_of_the_recommender(dataset, backbone) -> None:
    recommender = Recommender(model=model_of(dataset, backbone), dataset=dataset)
    session = recommender.session(IDS[:2])
    session.append(IDS[2])
    for repeats in (False, True):
        expected = recommender.recommend(IDS[:3], k=7, repeats=repeats)
        found = session.recommend(k=7, repeats=repeats)
        assert found["item_id"].tolist() == expected["item_id"].tolist()
        np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4)
    assert not set(session.recommend(k=N_ITEMS)["item_id"]) & set(IDS[:3])


def test_memory_is_bounded_and_who_was_dropped_is_read_anew(dataset, backbone) -> None:
    model = model_of(dataset, backbone)
    free = Sessions(model=model, dataset=dataset)
    for user in "ab":
        free.open(user, IDS[:2])
        free.scores([user])
    one = free.nbytes // 2
    sessions = Sessions(model=model, dataset=dataset, max_bytes=2 * one)
    for user in "abc":
        sessions.open(user, IDS[:2])
        sessions.scores([user])
        assert sessions.nbytes <= 2 * one
    assert sessions.evictions == 1
    for user in "ca":
        sessions.append(user, IDS[2])
        np.testing.assert_allclose(sessions.scores([user])[0], anew(model, [0, 1, 2]), rtol=1e-4, atol=1e-5)
    assert sessions.reading("c").way == "append"
    assert sessions.reading("a").reason == "evicted"
    # Users of one call whose keys and values do not fit together are right all the same, and read on where they stay.
    together = Sessions(model=model, dataset=dataset, max_bytes=2 * one)
    for user in "abcd":
        together.open(user, IDS[:2])
    expected = np.stack([anew(model, [0, 1])] * 4)
    np.testing.assert_allclose(together.scores([*"abcd"]), expected, rtol=1e-4, atol=1e-5)
    assert together.nbytes <= 2 * one
    for user in "abcd":
        together.append(user, IDS[2])
    expected = np.stack([anew(model, [0, 1, 2])] * 4)
    np.testing.assert_allclose(together.scores([*"abcd"]), expected, rtol=1e-4, atol=1e-5)
    assert {user: together.reading(user).way for user in "abcd"} == {
        "a": "anew", "b": "anew", "c": "append", "d": "append",
    }  # fmt: skip
    tiny = Sessions(model=model, dataset=dataset, max_bytes=1)
    tiny.open("a", IDS[:2])
    tiny.scores(["a"])
    assert tiny.nbytes == 0 and tiny.evictions == 1


def test_bytes_of_a_token_are_as_said(dataset, backbone) -> None:
    model = model_of(dataset, backbone)
    session = Recommender(model=model, dataset=dataset).session(IDS[:4])
    assert session.nbytes == 0
    session.scores()
    config = backbone.model.config
    token = 2 * config.num_key_value_heads * (config.hidden_size // config.num_attention_heads) * 4
    tokens = len(model.prompts.task) + model.prompts.items.lengths[:4].sum()
    least = token * len(backbone.blocks) * tokens
    assert least <= session.nbytes <= least + token * len(backbone.blocks) * max(2 * ROOM, tokens)


def test_a_cache_grows_and_forgets_what_is_not_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1, 2, 3 * ROOM, 4, generator=generator)
    cache = KVCache({0: (rows[:, :, :5], -rows[:, :, :5])})
    end = 5
    while end + 9 <= rows.shape[2]:
        new = rows[:, :, end : end + 7]
        keys, values = cache.put(
            0, torch.cat([new, torch.full((1, 2, 2, 4), 9.0)], dim=2), torch.cat([-new] * 2, 2)[:, :, :9]
        )
        assert keys.shape[2] == values.shape[2] == end + 9
        cache.keep(7)
        end += 7
        torch.testing.assert_close(keys[:, :, :end], rows[:, :, :end])
        torch.testing.assert_close(values[:, :, :end], -rows[:, :, :end])
    assert cache.length == end


def test_bad_input(dataset, backbone) -> None:
    model = model_of(dataset, backbone)
    recommender = Recommender(model=model, dataset=dataset)
    with pytest.raises(InputError, match="it is empty; give item ids of tiny"):
        recommender.session([])
    with pytest.raises(InputError, match="unknown item 'nothing'; give item ids of tiny"):
        recommender.session(["i1", "nothing"])
    session = recommender.session(IDS[:2])
    with pytest.raises(InputError, match="unknown item 'x'"):
        session.append("i3", "x")
    np.testing.assert_allclose(session.scores(), anew(model, [0, 1]), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="give at least 1"):
        session.recommend(k=0)
    for arguments, said in (({"slack": -1}, "slack -1"), ({"max_bytes": 0}, "max_bytes 0")):
        with pytest.raises(InputError, match=said):
            Sessions(model=model, dataset=dataset, **arguments)
    sessions = Sessions(model=model, dataset=dataset)
    for ask in (sessions.reading, sessions.close, lambda user: sessions.append(user, "i1")):
        with pytest.raises(InputError, match="no session of 'u'; open one with a history"):
            ask("u")
    model._engine[0].execution = dataclasses.replace(Execution(), rows="padded")
    with pytest.raises(UnsupportedError, match="needs packed rows, and padded rows suit it"):
        recommender.session(IDS[:2])


@pytest.mark.parametrize("length", [3, 6], ids=["anew", "append"])
def test_a_pass_that_fails_leaves_nothing_behind(dataset, backbone, monkeypatch, length) -> None:
    model = made_model(dataset, backbone, history_length=length).eval()
    session = Recommender(model=model, dataset=dataset).session(["i1", "i2", "i3"])
    session.scores()
    session.append("i7")
    hidden, failures = model.hidden, [True]

    def fails_once(*arguments, **keywords):
        states = hidden(*arguments, **keywords)
        if failures:
            failures.pop()
            raise RuntimeError("made up")
        return states

    monkeypatch.setattr(model, "hidden", fails_once)
    with pytest.raises(RuntimeError, match="made up"):
        session.scores()
    expected = model.score([np.array([1, 2, 3, 7])])[0]
    np.testing.assert_allclose(session.scores(), expected, rtol=1e-4, atol=1e-5)
