"""LC-Rec: trunks that are shared give the states of prompts written out, scores are those of the LLM, and it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training_models import N_ITEMS, made_dataset

from baselines.generative.beam_search import beam_search
from baselines.generative.code_rows import Row, as_codes, pack_rows
from baselines.generative.lcrec import LCRec
from baselines.generative.lcrec_training import LCRecOptions, LCRecTrainer
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import Split, leave_one_out
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.backbone import Backbone, load_backbone
from illmrec.model.engine import Execution
from illmrec.model.tuning import tuned_backbone
from illmrec.training import TrainingOptions

LEVELS, CODEBOOK = 4, 5


@pytest.fixture(scope="module")
def backbone(tiny_llm) -> Backbone:
    return load_backbone(str(tiny_llm), dtype="float32")


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_one_out(made_dataset())


def drawn_codes() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.permutation(np.unique(generator.integers(0, CODEBOOK, size=(60, LEVELS)), axis=0))[
        :N_ITEMS
    ]


def made(backbone: Backbone, **changes: Any) -> LCRec:
    """A model whose states are standardised by something."""
    arguments: dict[str, Any] = {
        "codes": drawn_codes(),
        "codebook": CODEBOOK,
        "history_length": 5,
        "beams": 4,
    }
    model = LCRec(backbone=backbone, execution=Execution(), **{**arguments, **changes})
    generator = torch.Generator().manual_seed(1)
    model.mean.normal_(generator=generator)
    model.deviation.uniform_(0.5, 1.5, generator=generator)
    return model


HISTORIES = [np.array([3, 1]), np.array([7, 2, 9, 4, 4, 30, 8]), np.array([5])]


@torch.no_grad()
def by_the_llm(model: LCRec, history: np.ndarray, item: int) -> float:
    """The log-probability of an item: a prompt of its own for every code, by the LLM's own forward pass."""
    backbone, total = model.engine.backbone, 0.0
    prefix = backbone.embeddings(torch.from_numpy(model.prefix))
    codes = drawn_codes()
    for level in range(LEVELS):
        rows = [(code, place) for one in history[-5:] for place, code in enumerate(codes[one])]
        rows += [(code, place) for place, code in enumerate(codes[item][:level])]
        own = torch.stack([model.reading[place * CODEBOOK + code] for code, place in rows]) * model._scale
        inputs = torch.cat([prefix, own])[None]
        backbone.model.set_attn_implementation("eager")
        state = backbone.trunk(inputs_embeds=inputs).last_hidden_state[0, -1]
        state = (state - model.mean[0, level]) / model.deviation[0, level]
        table = model.reading if model.writing is None else model.writing
        logits = table[level * CODEBOOK : (level + 1) * CODEBOOK] @ state
        begun = codes[item][:level].tolist()
        legal = sorted({int(row[level]) for row in codes if row[:level].tolist() == begun})
        total += float((logits - logits[legal].logsumexp(0))[codes[item][level]])
    return total


@pytest.mark.parametrize("tied", [True, False])
def test_candidates_have_the_llms_own_probabilities(backbone, tied):
    model = made(backbone, tied=tied)
    candidates = np.array([[0, 5, 39], [7, 7, 1], [2, 3, 11]])
    scores = model.score_candidates(HISTORIES, candidates)
    wanted = [
        [by_the_llm(model, history, item) for item in row]
        for history, row in zip(HISTORIES, candidates, strict=True)
    ]
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)
    everything = made(backbone, tied=tied, beams=N_ITEMS).score(HISTORIES)
    np.testing.assert_allclose(np.take_along_axis(everything, candidates, axis=1), scores, atol=1e-4)
    np.testing.assert_allclose(np.exp(everything).sum(axis=1), 1, atol=1e-4)


def test_a_search_is_that_of_prompts_written_out_whoever_else_is_searched_for(backbone):
    model = made(backbone)

    class WrittenOut:
        """The same logits from a prompt of its own for each beam, without stored keys."""

        def __init__(self, histories):
            self.rows = [model.history_row(history).ids for history in histories]
            self.level = 0

        def begin(self):
            packed = [
                pack_rows(model.prefix, [Row(ids=ids, read=np.array([len(ids) - 1]))]) for ids in self.rows
            ]
            states = torch.cat([model.states(one) for one in packed])
            logits = torch.full((len(states), LEVELS * CODEBOOK), -torch.inf)
            logits[:, self.level * CODEBOOK : (self.level + 1) * CODEBOOK] = model.logits(states, self.level)
            return logits

        def step(self, parents, tokens):
            self.level += 1
            self.rows = [
                np.append(self.rows[parent], as_codes(token))
                for parent, token in zip(parents.tolist(), tokens.numpy(), strict=True)
            ]
            return self.begin()

    with torch.inference_mode():
        wanted = beam_search(WrittenOut(HISTORIES), model.trie, users=3, beams=4)
        found = beam_search(model.writer(HISTORIES), model.trie, users=3, beams=4)
        alone = beam_search(model.writer(HISTORIES[1:2]), model.trie, users=1, beams=4)
    assert found.items.tolist() == wanted.items.tolist()
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    assert alone.items[0].tolist() == found.items[1].tolist()


def test_a_list_has_as_many_items_as_beams_beside_the_history(backbone):
    model = made(backbone, beams=6)
    scores = model.score(HISTORIES)
    for row, history in zip(scores, HISTORIES, strict=True):
        listed = np.flatnonzero(np.isfinite(row))
        assert 0 < len(np.setdiff1d(listed, history)) <= 6
    few = made(backbone, beams=6)
    few.budget.tokens = 64  # a user in a pass
    np.testing.assert_allclose(few.score(HISTORIES), scores, atol=1e-4)


def test_trunks_count_once_and_beams_a_token_each(backbone):
    model = made(backbone)
    seen: list[int] = []
    handle = backbone.blocks[0].register_forward_hook(
        lambda module, arguments, output: seen.append(arguments[0].shape[1])
    )
    try:
        with torch.inference_mode():
            model.writer(HISTORIES).begin()
            seen.clear()
            beam_search(model.writer(HISTORIES), model.trie, users=3, beams=4)
    finally:
        handle.remove()
    items = [min(len(history), 5) for history in HISTORIES]
    assert seen[0] == LEVELS * sum(items)
    assert len(seen) == LEVELS and max(seen[1:]) <= 3 * 4
    assert model.prompt_tokens(HISTORIES).tolist() == [len(model.prefix) + LEVELS * n for n in items]
    assert sum(seen[1:]) <= 3 * model.written_tokens


def test_a_branch_sees_what_it_hangs_from_and_is_seen_by_nothing(backbone):
    model = made(backbone)
    codes = as_codes(np.array([1, 6, 11, 16, 2, 7, 12]))
    words = np.array([4, 9, 8])
    whole = Row(ids=np.concatenate([codes, words]), read=np.array([6, 7, 9]), branch=3, hangs=4)
    alone = Row(ids=np.concatenate([codes[:4], words]), read=np.array([4, 6]))
    with torch.inference_mode():
        states = model.states(pack_rows(model.prefix, [alone, whole]))
        without = model.states(pack_rows(model.prefix, [Row(ids=codes, read=np.array([6]))]))
    torch.testing.assert_close(states[3:], states[:2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(states[2:3], without, atol=1e-4, rtol=1e-4)


def options(**changes: Any) -> TrainingOptions:
    usual: dict[str, Any] = {
        "targets": "all",
        "epochs": 30,
        "batch_size": 8,
        "learning_rate": 2e-2,
        "patience": None,
    }
    return TrainingOptions(**{**usual, "validation_users": 24, **changes})


def trainer(model: LCRec, split: Split, *, lcrec: LCRecOptions | None = None, **changes: Any) -> LCRecTrainer:
    return LCRecTrainer(
        model=model,
        split=split,
        options=options(**changes),
        lcrec=lcrec or LCRecOptions(),
        seed=0,
        negatives=draw_negatives(split.dataset, seed=0, n=15),
        progress=False,
    )


def test_losses_are_those_of_items_and_titles_written_out(backbone, split):
    model = made(backbone)
    trained = trainer(model, split)
    trunk = np.array([4, 2, 9])
    from illmrec.training.windows import Windows

    windows = Windows(trunks=[trunk], boundaries=[np.array([1, 3])], targets=[np.array([2, 7])])
    losses = trained._losses(windows, np.random.default_rng(0))
    full = 0.0
    with torch.no_grad():
        for history, item in ((trunk[:1], 2), (trunk, 7)):
            row = model.target_row(history, np.array([len(history)]), item)
            states = model.states(pack_rows(model.prefix, [row]))
            for level, code in enumerate(drawn_codes()[item]):
                full -= float(model.logits(states[level : level + 1], level).log_softmax(1)[0, code])
        head, embed = backbone.head, backbone.embeddings
        title = trained._titles[7]
        ids = np.concatenate([trained._question, title]).astype(np.int64)
        codes = -1 - model.history_row(trunk).ids
        inputs = torch.cat(
            [
                embed(torch.from_numpy(model.prefix)),
                model.vectors(torch.from_numpy(codes)),
                embed(torch.from_numpy(ids)),
            ]
        )
        backbone.model.set_attn_implementation("eager")
        hidden = backbone.trunk(inputs_embeds=inputs[None]).last_hidden_state[0]
        logs = head(hidden[-len(title) - 1 : -1]).log_softmax(-1)
        asked = -float(logs.gather(1, torch.from_numpy(title.astype(np.int64))[:, None]).mean())
    assert losses["codes"] == pytest.approx(full / 2, rel=1e-4)
    assert losses["next-title"] == pytest.approx(asked, rel=1e-4)
    assert set(losses) == {"codes", "title-to-codes", "codes-to-title", "next-title"}
    assert model.reading.grad is not None and model.reading.grad.abs().sum() > 0


def test_passes_of_few_tokens_leave_the_same_gradients(backbone, split):
    gradients = []
    for budget in (4096, 64):
        model = made(backbone)
        trained = trainer(model, split, token_budget=budget)
        users = split.learners[:6]
        from illmrec.training.windows import draw_windows

        windows = draw_windows(split, users, np.random.default_rng(1), targets="all", length=5)
        losses = trained._losses(windows, np.random.default_rng(2))
        gradients.append((model.reading.grad.clone(), losses))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], atol=1e-5, rtol=1e-3)
    assert gradients[0][1] == pytest.approx(gradients[1][1], rel=1e-4)


def test_it_learns_and_keeps_the_best_epoch(backbone, split):
    looked: list[float] = []
    model = made(backbone)
    trained = trainer(model, split, lcrec=LCRecOptions(alignments="none"))
    trained._look = lambda epoch, value: looked.append(value)
    untrained = trained.validate()
    report = trained.run()
    assert report.epochs[-1]["codes_loss"] < 0.8 * report.epochs[0]["codes_loss"]
    assert max(looked) == pytest.approx(trained.validate(), abs=1e-6)
    assert max(looked) > untrained
    assert report.best_epoch == 1 + int(np.argmax(looked))
    # The first half of the catalogue is popular: what is listed should be from it.
    users = split.users("test")[:8]
    lists = model.score([split.history(int(user), "test") for user in users])
    assert np.isfinite(lists[:, :20]).sum() > np.isfinite(lists[:, 20:]).sum()


def test_low_rank_matrices_learn_with_the_codes(backbone, split):
    pytest.importorskip("peft")
    model = made(tuned_backbone(backbone, strategy="lora", lora_rank=2))
    before = {name: value.clone() for name, value in model.llm.named_parameters()}
    trainer(model, split, strategy="lora", epochs=1, max_steps=2).run()
    changed = [name for name, value in model.llm.named_parameters() if not torch.equal(value, before[name])]
    assert changed and len(before) == len(list(model.llm.named_parameters()))


def test_items_without_a_title_are_not_learnt_by_it(backbone, split, monkeypatch):
    from baselines.generative import lcrec_training

    def without(texts, tokenizer):
        return [np.array([] if text.startswith(" red") else [5, 6], dtype=np.int32) for text in texts]

    monkeypatch.setattr(lcrec_training, "tokenise_texts", without)
    trained = trainer(made(backbone), split, epochs=1, max_steps=1)
    assert 0 < len(trained._titled) < N_ITEMS
    assert np.isfinite(list(trained.run().epochs[0].values())).all()
    monkeypatch.setattr(
        lcrec_training, "tokenise_texts", lambda texts, _: [np.zeros(0, np.int32)] * len(texts)
    )
    with pytest.raises(UnsupportedError, match="lc-rec: no item has a title to be learnt by"):
        trainer(made(backbone), split)


@pytest.mark.parametrize("strategy", ["cached", "two-stage"])
def test_strategies_of_projectors_are_refused(backbone, split, strategy):
    with pytest.raises(UnsupportedError, match=f"strategy {strategy}: lc-rec has neither projectors"):
        trainer(made(backbone), split, strategy=strategy, targets="one", epochs=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"semantics": "txt"}, "semantics txt: did you mean 'text'"),
        ({"alignments": "next-title+codes"}, "alignments codes: .*valid: codes-to-title, next-title, none"),
        ({"alignment_weight": 0.0}, "alignment_weight 0.0: must be above 0"),
        ({"levels": 1}, "levels 1: must be at least 2"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(InputError, match=message):
        LCRecOptions(**changes)


def test_what_does_not_fit(backbone):
    prefix = len(made(backbone).prefix)
    assert made(backbone, context=prefix + 3 * LEVELS).history_length == 2
    with pytest.raises(
        InputError, match=rf"--context {prefix + 4}: {prefix} tokens .* give at least {prefix + 8}"
    ):
        made(backbone, context=prefix + 4)
    with pytest.raises(UnsupportedError, match="needs packed rows, and padded rows suit it"):
        replaced = LCRec(
            backbone=backbone, codes=drawn_codes(), codebook=CODEBOOK, execution=Execution(rows="padded")
        )
        replaced.score(HISTORIES)
