"""IDGenRec: scores are those of the LLM's own logits, losses those of prompts written out, and it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training_models import N_ITEMS, made_dataset

from baselines.generative.beam_search import beam_search
from baselines.generative.identifiers import keyword_identifiers
from baselines.generative.idgenrec import IDGenRec, WordWriter
from baselines.generative.idgenrec_training import IDGenRecOptions, IDGenRecTrainer, idgenrec_options
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.engine import Execution
from illmrec.model.tuning import tuned_backbone
from illmrec.training import TrainingOptions
from illmrec.training.options import CachedOptions
from illmrec.training.windows import Windows, draw_windows

HISTORIES = [np.array([3, 1]), np.array([7, 2, 9, 4, 4, 30, 8]), np.array([5])]


@pytest.fixture(scope="module")
def backbone(tiny_llm) -> Backbone:
    return load_backbone(str(tiny_llm), dtype="float32")


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(made_dataset())


@pytest.fixture(scope="module")
def identifiers(split) -> list[str]:
    return keyword_identifiers(split.dataset.items, words=2)


def made(backbone: Backbone, identifiers: list[str], **changes: Any) -> IDGenRec:
    arguments: dict[str, Any] = {"history_length": 5, "beams": 4, **changes}
    return IDGenRec(backbone=backbone, identifiers=identifiers, execution=Execution(), **arguments)


def own_logits(model: IDGenRec, ids: list[int]) -> torch.Tensor:
    """Return the LLM's own logits after some tokens, [vocabulary]."""
    llm = model.engine.backbone.model
    llm.set_attn_implementation("eager")
    return llm(torch.tensor([[*model.prefix.tolist(), *ids]])).logits[0, -1]


@torch.no_grad()
def by_the_llm(model: IDGenRec, history: np.ndarray, item: int) -> float:
    """The log-probability of an item: a prompt of its own for every token, among what other items go on with."""
    before = [int(token) for words in model.words(history[-5:]) for token in words]
    every, total = [words.tolist() for words in model.words(range(N_ITEMS))], 0.0
    for place, token in enumerate(every[item]):
        begun = every[item][:place]
        legal = sorted({words[place] for words in every if words[:place] == begun and len(words) > place})
        logits = own_logits(model, before + begun)
        total += float(logits[token] - logits[legal].logsumexp(0))
    return total


def test_candidates_have_the_llms_own_probabilities(backbone, identifiers):
    model = made(backbone, identifiers)
    candidates = np.array([[0, 5, 39], [7, 7, 1], [2, 3, 11]])
    scores = model.score_candidates(HISTORIES, candidates)
    wanted = [
        [by_the_llm(model, history, item) for item in row]
        for history, row in zip(HISTORIES, candidates, strict=True)
    ]
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
    everything = made(backbone, identifiers, beams=N_ITEMS).score(HISTORIES)
    np.testing.assert_allclose(np.take_along_axis(everything, candidates, axis=1), scores, atol=1e-4)
    np.testing.assert_allclose(np.exp(everything).sum(axis=1), 1, atol=1e-4)


@torch.no_grad()
def test_other_heads_than_linear_maps_are_asked_whole(backbone, identifiers):
    class Head(torch.nn.Module):
        def __init__(self, of: torch.nn.Linear) -> None:
            super().__init__()
            self.of = of

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.of(states)

    model = made(backbone, identifiers)
    states = torch.randn(300, backbone.width)
    wanted, head = model.logits(states), backbone.head
    backbone.model.set_output_embeddings(Head(head))
    try:
        torch.testing.assert_close(model.logits(states), wanted)
    finally:
        backbone.model.set_output_embeddings(head)


@torch.no_grad()
def test_beams_are_those_of_transformers_generate(backbone, identifiers):
    model = made(backbone, identifiers)
    found = beam_search(WordWriter(model, HISTORIES), model.trie, users=3, beams=4)
    every = [tuple(words.tolist()) for words in model.words(range(N_ITEMS))]
    end = every[0][-1]
    backbone.model.set_attn_implementation("eager")
    for user, history in enumerate(HISTORIES):
        prompt = [*model.prefix.tolist(), *model.history_row(history).ids.tolist()]

        def allowed(_: int, written: torch.Tensor, start: int = len(prompt)) -> list[int]:
            begun = tuple(written[start:].tolist())
            legal = {words[len(begun)] for words in every if words[: len(begun)] == begun and words != begun}
            return sorted(legal or {end})  # beams that count no more are asked for, too

        theirs = backbone.model.generate(
            torch.tensor([prompt]), num_beams=4, num_return_sequences=4, max_new_tokens=model.trie.longest,
            do_sample=False, prefix_allowed_tokens_fn=allowed, renormalize_logits=True, length_penalty=0.0,
            eos_token_id=end, pad_token_id=end, early_stopping=False, return_dict_in_generate=True,
            output_scores=True,
        )  # fmt: skip
        np.testing.assert_allclose(found.scores[user], theirs.sequences_scores.numpy(), atol=1e-4)
        for item, row in zip(found.items[user], theirs.sequences[:, len(prompt) :].tolist(), strict=True):
            assert tuple(row[: len(every[item])]) == every[item]


def test_a_list_has_as_many_items_as_beams_beside_the_history(backbone, identifiers):
    model = made(backbone, identifiers, beams=6)
    scores = model.score(HISTORIES)
    for row, history in zip(scores, HISTORIES, strict=True):
        assert 0 < len(np.setdiff1d(np.flatnonzero(np.isfinite(row)), history)) <= 6
    few = made(backbone, identifiers, beams=6)
    few.budget.tokens = 64  # a user in a pass
    np.testing.assert_allclose(few.score(HISTORIES), scores, atol=1e-4)


def test_prompts_and_what_is_written_are_counted(backbone, identifiers):
    model = made(backbone, identifiers)
    lengths = [len(words) for words in model.words(range(N_ITEMS))]
    assert model.tokens_per_item == pytest.approx(np.mean(lengths))
    wanted = [len(model.prefix) + sum(lengths[item] for item in history[-5:]) for history in HISTORIES]
    assert model.prompt_tokens(HISTORIES).tolist() == wanted
    seen: list[int] = []
    handle = backbone.blocks[0].register_forward_hook(
        lambda module, arguments, output: seen.append(arguments[0].shape[1])
    )
    try:
        with torch.inference_mode():
            WordWriter(model, HISTORIES).begin()
            seen.clear()
            beam_search(WordWriter(model, HISTORIES), model.trie, users=3, beams=4)
    finally:
        handle.remove()
    assert seen[0] == sum(wanted) - 3 * len(model.prefix) and 0 < sum(seen[1:]) <= 3 * model.written_tokens


def options(**changes: Any) -> TrainingOptions:
    usual: dict[str, Any] = {"targets": "all", "epochs": 4, "batch_size": 8, "patience": None, "risa": False}
    usual |= {"strategy": "end-to-end", "llm_learning_rate": 5e-3, "validation_users": 24}
    return TrainingOptions(**{**usual, **changes})


def trainer(model: IDGenRec, split: Split, **changes: Any) -> IDGenRecTrainer:
    return IDGenRecTrainer(
        model=model,
        split=split,
        options=options(**changes),
        seed=0,
        negatives=draw_negatives(split.dataset, seed=0, n=15),
        progress=False,
    )


def test_the_loss_is_that_of_identifiers_written_out(backbone, identifiers, split):
    model = made(tuned_backbone(backbone, strategy="end-to-end"), identifiers)
    trunk = np.array([4, 2, 9])
    windows = Windows(trunks=[trunk], boundaries=[np.array([1, 3])], targets=[np.array([2, 7])])
    loss = trainer(model, split)._losses(windows, np.random.default_rng(0))
    wanted: list[float] = []
    with torch.no_grad():
        for history, item in ((trunk[:1], 2), (trunk, 7)):
            before = [int(token) for words in model.words(history) for token in words]
            for place, token in enumerate(own := model.words([item])[0].tolist()):
                wanted.append(-float(own_logits(model, before + own[:place]).log_softmax(0)[token]))
    assert loss == {"words": pytest.approx(np.mean(wanted), rel=1e-4)}


def test_passes_of_few_tokens_leave_the_same_gradients(backbone, identifiers, split):
    found = []
    for budget in (4096, 64):
        model = made(tuned_backbone(backbone, strategy="end-to-end"), identifiers)
        windows = draw_windows(split, split.learners[:6], np.random.default_rng(1), targets="all", length=5)
        loss = trainer(model, split, token_budget=budget)._losses(windows, np.random.default_rng(2))
        found.append((next(iter(model.llm.parameters())).grad.clone(), loss["words"]))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=1e-3)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4) and found[0][0].abs().sum() > 0


def test_it_learns_what_is_popular(backbone, identifiers, split):
    model = made(tuned_backbone(backbone, strategy="end-to-end"), identifiers)
    trained = trainer(model, split)
    untrained = trained.validate()
    report = trained.run()
    assert report.epochs[-1]["words_loss"] < 0.8 * report.epochs[0]["words_loss"]
    assert trained.validate() == max(epoch["valid_ndcg@10"] for epoch in report.epochs) > untrained
    # The first half of the catalogue is popular: what is listed should be from it.
    lists = model.score([split.history(int(user), "test") for user in split.users("test")[:8]])
    assert np.isfinite(lists[:, :20]).sum() > np.isfinite(lists[:, 20:]).sum()


def test_low_rank_matrices_learn_and_the_llm_stays(backbone, identifiers, split):
    pytest.importorskip("peft")
    model = made(tuned_backbone(backbone, strategy="lora", lora_rank=2), identifiers)
    before = {name: value.clone() for name, value in model.llm.named_parameters()}
    frozen = backbone.embeddings.weight.clone()
    trainer(model, split, strategy="lora", epochs=1, max_steps=2).run()
    changed = [name for name, value in model.llm.named_parameters() if not torch.equal(value, before[name])]
    assert changed and all("lora" in name for name in before)
    assert torch.equal(backbone.embeddings.weight, frozen)


def test_lora_stands_in_where_nothing_of_the_llm_would_learn(backbone, identifiers, split):
    assert idgenrec_options(options(strategy="frozen")).strategy == "lora"
    assert idgenrec_options(TrainingOptions(strategy="cached", cached=CachedOptions())).strategy == "lora"
    assert idgenrec_options(options(strategy="embeddings")).strategy == "embeddings"
    with pytest.raises(UnsupportedError, match="strategy frozen: idgenrec has nothing to train but the LLM"):
        trainer(made(backbone, identifiers), split, strategy="frozen", llm_learning_rate=None)


def test_what_does_not_fit(backbone, identifiers):
    with pytest.raises(InputError, match="words 0: must be at least 1"):
        IDGenRecOptions(words=0)
    model = made(backbone, identifiers)
    prefix, longest = len(model.prefix), model.trie.longest
    assert made(backbone, identifiers, context=prefix + 3 * longest).history_length == 2
    needed = prefix + 2 * longest - 1
    assert made(backbone, identifiers, context=needed).history_length == 1
    with pytest.raises(InputError, match=f"--context {needed - 1}: .* give at least {needed}"):
        made(backbone, identifiers, context=needed - 1)
    with pytest.raises(
        UnsupportedError, match="writes the identifier 'red ; mug' by the token that ends one"
    ):
        made(backbone, ["red ; mug", "blue"])
