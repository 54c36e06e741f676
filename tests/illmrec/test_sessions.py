"""Sessions against whole histories that the LLM reads one by one with its own attention, in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_models import IMAGES, N_ITEMS, made_dataset, made_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from illmrec.errors import InputError, UnsupportedError
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.engine import Engine, Execution
from illmrec.model.illmrec import ILLMRec
from illmrec.model.readout import READOUTS
from illmrec.recommender import Recommender

TEXTS = "baselines.text_prompts:"
REPRESENTATIONS = (IMAGES, f"{TEXTS}TitleOnly", f"{TEXTS}TALLRec", f"{TEXTS}TRSR", f"{TEXTS}FullDescription")
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def dataset():
    made = made_dataset()
    texts = [" ".join(f"{word} mug and the {word} lamp" for word in t.split()) for t in made.items["title"]]
    return replace(
        made, items=made.items.assign(brand="red", summary=texts, description=[f"{t}. {t}" for t in texts])
    )


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), layers=2, dtype="float32")


def separately(model: ILLMRec) -> ILLMRec:
    """Have the LLM read each prompt by itself, with its own attention."""
    model._engine[0] = Engine(model.engine.backbone, execution=Execution(rows="separate", attention="eager"))
    return model


def two(dataset, backbone, **config) -> tuple[Recommender, ILLMRec]:
    """Return a recommender and a model with the same parameters that reads prompts one by one."""
    served, read = (made_model(dataset, backbone, **config).eval() for _ in range(2))
    return Recommender(model=served, dataset=dataset), separately(read)


def ids(rows) -> list[str]:
    return [f"i{row}" for row in rows]


def random_history(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(N_ITEMS, size=length)


@pytest.mark.parametrize("instruction", ["after", "before"])
@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_appended_items_score_as_the_history_read_anew(
    dataset, backbone, representation, instruction
) -> None:
    recommender, reference = two(
        dataset, backbone, representation=representation, instruction=instruction, history_length=20
    )
    history = random_history(8)
    session = recommender.session(ids(history[:3]))
    lengths = recommender.model.prompts.items.lengths
    branch = len(recommender.model.prompts.instruction) + 1
    session.scores()
    assert session.encoding.reason == "new"
    for end, added in ((4, 1), (5, 1), (8, 3)):
        for row in history[end - added : end]:
            session.append(f"i{row}")
        np.testing.assert_allclose(session.scores(), reference.score([history[:end]])[0], **CLOSE)
        assert (session.encoding.way, session.encoding.reason) == ("append", None)
        assert session.encoding.tokens == lengths[history[end - added : end]].sum() + branch
    assert session.history == tuple(ids(history))
    assert session.slid == session.evicted == 0


@pytest.mark.parametrize("readout", READOUTS)
def test_every_readout_goes_on(dataset, backbone, readout) -> None:
    recommender, reference = two(dataset, backbone, readout=readout, history_length=6)
    history = random_history(9)
    session = recommender.session(ids(history[:2]))
    for end in (2, 3, 5, 6, 7, 9):
        for row in history[len(session.history) : end]:
            session.append(f"i{row}")
        np.testing.assert_allclose(session.scores(), reference.score([history[:end]])[0], **CLOSE)
        if readout == "features":
            assert session.encoding.tokens == 0
        else:
            assert session.encoding.way == ("append" if 2 < end <= 6 else "anew")


FAMILIES = {
    "windows": ("mistral", {"sliding_window": 12}),
    "soft-caps": ("gemma2", {"sliding_window": 12, "attn_logit_softcapping": 1.0}),
    "sinks": ("gpt_oss", {"sliding_window": 12, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "learned positions": ("gpt2", {}),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_other_attentions_go_on(dataset, tiny_llm, kind) -> None:
    name, settings = FAMILIES[kind]
    sizes = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
    }  # fmt: skip
    if name == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512}
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    config = AutoConfig.for_model(
        name, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=1, **sizes, **settings
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        llm = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
    backbone = Backbone(name=kind, model=llm, tokenizer=tokenizer, layers=2, fingerprint=kind)
    recommender, reference = two(dataset, backbone, history_length=6, readout="last+mean")
    history = random_history(6)
    session = recommender.session(ids(history[:3]))
    session.scores()
    for end in (4, 6):
        for row in history[len(session.history) : end]:
            session.append(f"i{row}")
        np.testing.assert_allclose(session.scores(), reference.score([history[:end]])[0], **CLOSE)
        assert session.encoding.way == "append"


def test_a_window_that_slides_is_encoded_anew_and_says_so(dataset, backbone) -> None:
    recommender, reference = two(dataset, backbone, history_length=4)
    history = random_history(8)
    session = recommender.session(ids(history[:3]))
    reasons = []
    for end in range(3, 9):
        if end > 3:
            session.append(f"i{history[end - 1]}")
        np.testing.assert_allclose(session.scores(), reference.score([history[:end]])[0], **CLOSE)
        reasons.append(session.encoding.reason)
    assert reasons == ["new", None, "slid", "slid", "slid", "slid"]
    assert session.slid == 4


def test_slack_lets_a_window_grow_and_then_cuts_it_back(dataset, backbone) -> None:
    recommender, reference = two(dataset, backbone, history_length=4)
    reference.history_length = 100
    history = random_history(12)
    session = recommender.session(ids(history[:4]), slack=2)
    read = []
    for end in range(4, 13):
        if end > 4:
            session.append(f"i{history[end - 1]}")
        scores = session.scores()
        (length,) = [
            n
            for n in range(4, min(end, 6) + 1)
            if np.allclose(scores, reference.score([history[end - n : end]])[0], **CLOSE)
        ]
        read.append(length)
    assert read == [4, 5, 6, 4, 5, 6, 4, 5, 6]
    assert session.slid == 2


def test_the_context_limits_a_window_in_tokens(dataset, backbone) -> None:
    free = made_model(dataset, backbone)
    context = free.prompts.fixed_tokens + 3 * int(free.prompts.items.lengths.max())
    recommender, reference = two(dataset, backbone, history_length=20, context=context)
    history = random_history(12)
    session = recommender.session(ids(history[:2]))
    for end in range(2, 13):
        if end > 2:
            session.append(f"i{history[end - 1]}")
        np.testing.assert_allclose(session.scores(), reference.score([history[:end]])[0], **CLOSE)
    slid = session.slid
    assert slid > 0
    slack = recommender.session(ids(history[:2]), slack=2)
    for row in history[2:]:
        slack.append(f"i{row}")
        slack.scores()
    assert 0 < slack.slid < slid


def test_an_item_that_is_cut_is_never_gone_on_from(dataset, backbone) -> None:
    free = made_model(dataset, backbone, representation=f"{TEXTS}TRSR")
    context = free.prompts.fixed_tokens + int(free.prompts.items.lengths.min()) - 3
    recommender, reference = two(
        dataset, backbone, representation=f"{TEXTS}TRSR", context=context, history_length=3
    )
    history = random_history(3)
    session = recommender.session(ids(history[:1]))
    for end in (1, 2, 3):
        if end > 1:
            session.append(f"i{history[end - 1]}")
        np.testing.assert_allclose(session.scores(), reference.score([history[:end]])[0], **CLOSE)
        assert session.encoding.way == "anew"


def test_many_sessions_go_through_the_llm_in_one_pass(dataset, backbone, monkeypatch) -> None:
    recommender, reference = two(dataset, backbone, history_length=20)
    pool = recommender.sessions()
    histories = {f"u{n}": random_history(2 + n, seed=n) for n in range(5)}
    for user, history in histories.items():
        pool.open(user, ids(history))
    passes = []
    hidden = recommender.model.hidden
    monkeypatch.setattr(
        recommender.model, "hidden", lambda *a, **k: passes.append(len(a[0].lengths)) or hidden(*a, **k)
    )
    pool.recommend(list(histories), k=3)
    added = {"u0": [3, 4], "u2": [7], "u4": [1]}
    pool.append({user: ids(rows) for user, rows in added.items()})
    pool.open("new", ids([5, 6]))
    histories = {u: np.append(h, added.get(u, [])).astype(int) for u, h in histories.items()}
    histories["new"] = np.array([5, 6])
    users = [*histories, "u2"]  # twice in one call
    np.testing.assert_allclose(
        pool.scores(users), reference.score([histories[user] for user in users]), **CLOSE
    )
    assert passes == [5, 4]  # who added nothing is not run again
    assert pool["u2"].encoding.way == "append"
    assert pool["new"].encoding.way == "anew"
    found = pool.recommend(["u2", "new"], k=4)
    for user, frame in zip(["u2", "new"], found, strict=True):
        expected = recommender.recommend(ids(histories[user]), k=4)
        assert frame["item_id"].tolist() == expected["item_id"].tolist()
        np.testing.assert_allclose(frame["score"], expected["score"], **CLOSE)
    repeated = pool.recommend(["new"], k=N_ITEMS, repeats=True)[0]
    assert set(ids([5, 6])) <= set(repeated["item_id"])
    pool.close("new")
    assert "new" not in pool
    assert len(pool) == 5


def test_memory_is_bounded_and_what_was_dropped_comes_back(dataset, backbone) -> None:
    recommender, reference = two(dataset, backbone, history_length=8)
    free = recommender.sessions()
    # 2 (keys and values) * blocks * key heads * head width * bytes
    assert free.bytes_a_token == 2 * 2 * 2 * 8 * 4
    max_bytes = int(2.5 * free.longest * free.bytes_a_token)
    pool = recommender.sessions(max_bytes=max_bytes)
    histories = {f"u{n}": random_history(4, seed=n) for n in range(6)}
    for user, history in histories.items():
        pool.open(user, ids(history))
    for turn in range(3):
        users = list(histories)
        np.testing.assert_allclose(pool.scores(users), reference.score(list(histories.values())), **CLOSE)
        assert 0 < pool.bytes <= max_bytes
        pool.append({user: ids([turn]) for user in users})
        histories = {user: np.append(history, turn) for user, history in histories.items()}
    assert pool["u0"].evicted > 0
    # The last ones are still there, and go on.
    pool.scores(["u5"])
    assert pool["u5"].encoding.way == "append"
    pool.scores(["u0"])
    assert pool["u0"].encoding.reason == "evicted"


def test_a_pass_that_fails_leaves_nothing_half_written(dataset, backbone, monkeypatch) -> None:
    recommender, reference = two(dataset, backbone, history_length=6)
    history = random_history(4)
    session = recommender.session(ids(history[:3]))
    session.scores()
    session.append(f"i{history[3]}")
    hidden, failures = recommender.model.hidden, [True]

    def fails_once(*arguments, **keywords):
        states = hidden(*arguments, **keywords)
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError("made up")
        return states

    monkeypatch.setattr(recommender.model, "hidden", fails_once)
    np.testing.assert_allclose(session.scores(), reference.score([history])[0], **CLOSE)


def test_bad_input(dataset, backbone) -> None:
    recommender, _ = two(dataset, backbone, history_length=4)
    with pytest.raises(InputError, match=r"unknown item 'nothing'; give item ids of tiny$"):
        recommender.session(["i1", "nothing"])
    with pytest.raises(InputError, match="its history is empty"):
        recommender.session([])
    pool = recommender.sessions()
    pool.open("a", ["i1"])
    pool.open("b", ["i1"])
    with pytest.raises(InputError, match="session 'b': unknown item 'x'"):
        pool.append({"a": ["i2"], "b": ["x"]})
    assert pool["a"].history == ("i1",)
    for call in (lambda: pool["c"], lambda: pool.scores(["c"]), lambda: pool.append({"c": ["i1"]})):
        with pytest.raises(InputError, match="session 'c': there is none; open it"):
            call()
    with pytest.raises(InputError, match="k 0: give at least 1"):
        pool.recommend(["a"], k=0)
    with pytest.raises(InputError, match="slack -1"):
        recommender.sessions(slack=-1)
    with pytest.raises(InputError, match=r"max_bytes 10: a session of \d+ tokens takes .* bytes"):
        recommender.sessions(max_bytes=10)
    assert pool.recommend([]) == []
    separately(recommender.model)
    with pytest.raises(UnsupportedError, match="separate rows suit it; use another LLM"):
        recommender.session(["i1"])
