"""The engine against plain Hugging Face passes: one branch at a time, padded, in float32."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from illmrec.errors import InputError
from illmrec.model.backbone import load_backbone
from illmrec.model.cost import forward_flops, training_flops, training_memory
from illmrec.model.engine import Engine, Execution, Rows
from illmrec.model.illmrec import ILLMRec
from illmrec.prompts.packing import PromptBuilder
from illmrec.prompts.questions import Questions
from illmrec.prompts.segments import ImageRepresentation
from illmrec.prompts.tokens import tokenise_items

N_ITEMS = 12


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    words = np.array(["red", "blue", "green", "mug", "lamp", "shoe", "plain", "dots"])
    text = lambda n: " ".join(generator.choice(words, n))  # noqa: E731
    return pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(N_ITEMS)],
            "title": [text(1 + i % 4) for i in range(N_ITEMS)],
            "brand": ["" if i == 3 else text(1) for i in range(N_ITEMS)],
            "category": [text(1) for _ in range(N_ITEMS)],
            "description": [text(10 + i) for i in range(N_ITEMS)],
        }
    )


def build(
    items: pd.DataFrame,
    backbone,
    *,
    rows: Rows | None = None,
    context: int | None = None,
    instruction: str = "after",
) -> ILLMRec:
    present = np.ones(N_ITEMS, dtype=bool)
    present[5] = False
    tokenised = tokenise_items(items, ImageRepresentation(), backbone.tokenizer, present={"image": present})
    features = np.random.default_rng(1).normal(size=(N_ITEMS, 20)).astype(np.float32)
    return ILLMRec(
        backbone=backbone,
        prompts=PromptBuilder(
            items=tokenised, tokenizer=backbone.tokenizer, context=context, instruction=instruction
        ),
        features={"image": features},
        heads=("image",),
        hidden=16,
        shared=8,
        execution=None if rows is None else Execution(rows=rows),
    )


@pytest.fixture(scope="module")
def backbone(tiny_llm):
    return load_backbone(str(tiny_llm), dtype="float32")


def plain_states(model: ILLMRec, histories: list[np.ndarray], tails: list[np.ndarray]) -> list[torch.Tensor]:
    """Two-pass reference: each prompt as one right-padded row with an ordinary attention mask."""
    backbone, prompts = model.engine.backbone, model.prompts
    rows = []
    for history, tail in zip(histories, tails, strict=True):
        parts = [prompts.items.ids[prompts.items.offsets[i] : prompts.items.offsets[i + 1]] for i in history]
        owners = np.concatenate(
            [
                np.full(len(prompts.task), -1),
                *[np.full(len(p), i) for p, i in zip(parts, history, strict=True)],
            ]
        )
        ids = np.concatenate([prompts.task, *parts, tail]).astype(np.int64)
        owners = np.concatenate([owners, np.full(len(tail), -1)])
        embedded = backbone.embeddings(torch.from_numpy(np.maximum(ids, 0))).clone()
        for at in np.flatnonzero(ids == -1):
            embedded[at] = model.adaptors["image"](model.features("image")[owners[at]])
        for at in np.flatnonzero(ids == -100):
            embedded[at] = model.rec
        rows.append(embedded)
    longest = max(map(len, rows))
    padded = torch.stack([torch.cat([r, r.new_zeros(longest - len(r), r.shape[1])]) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    backbone.model.set_attn_implementation("eager")
    output = backbone.trunk(inputs_embeds=padded, attention_mask=mask, use_cache=False).last_hidden_state
    return [output[i, : len(r)] for i, r in enumerate(rows)]


def example(items, backbone, model):
    generator = np.random.default_rng(2)
    windows = [generator.integers(N_ITEMS, size=n) for n in (1, 4, 7, 3)]
    windows[1][0] = 5  # the item without an image
    questions = Questions(items=items, tokenizer=backbone.tokenizer, answer_tokens=12).draw(
        generator.integers(N_ITEMS, size=len(windows)), generator
    )
    boundaries = [np.arange(1, len(w) + 1) for w in windows]
    packed = model.prompts.pack(
        [model.prompts.fit(w) for w in windows], boundaries=boundaries, questions=questions
    )
    return windows, boundaries, questions, packed


@pytest.mark.parametrize(
    ("rows", "instruction"),
    [
        ("packed", "after"),
        ("padded", "after"),
        ("separate", "after"),
        ("packed", "before"),
        ("separate", "before"),
    ],
)
def test_one_pass_equals_two_plain_passes(items, backbone, rows, instruction):
    model = build(items, backbone, rows=rows, instruction=instruction)
    windows, boundaries, questions, packed = example(items, backbone, model)
    rec, answers = model.hidden(packed)
    answer_loss = model.answer_loss(answers, torch.from_numpy(packed.answer_ids), chunk=5)
    loss = answer_loss / len(packed.answer_ids) + rec.square().mean()
    loss.backward()
    gradients = [model.rec.grad.clone()] + [p.grad.clone() for p in model.adaptors.parameters()]
    model.zero_grad()

    instruction = np.concatenate([model.prompts.instruction, [-100]])
    prefixes = [w[:b] for w, bs in zip(windows, boundaries, strict=True) for b in bs]
    plain_rec = torch.stack([s[-1] for s in plain_states(model, prefixes, [instruction] * len(prefixes))])
    plain = plain_states(model, windows, [np.concatenate([q, a]) for q, a in questions])
    plain_logits = [
        backbone.head(s[len(s) - len(a) - 1 : -1]) for s, (_, a) in zip(plain, questions, strict=True)
    ]
    labels = torch.from_numpy(np.concatenate([a for _, a in questions]).astype(np.int64))
    plain_loss = (
        torch.nn.functional.cross_entropy(torch.cat(plain_logits), labels) + plain_rec.square().mean()
    )
    plain_loss.backward()

    torch.testing.assert_close(rec, plain_rec, atol=1e-4, rtol=0)
    torch.testing.assert_close(loss, plain_loss, atol=1e-4, rtol=0)
    for ours, theirs in zip(
        gradients, [model.rec.grad, *(p.grad for p in model.adaptors.parameters())], strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_scores_do_not_depend_on_who_shares_a_row(items, tiny_llm, dtype, tolerance):
    model = build(items, load_backbone(str(tiny_llm), dtype=dtype))
    generator = np.random.default_rng(3)
    histories = [generator.integers(N_ITEMS, size=n) for n in generator.integers(1, 9, size=10)]
    alone = np.concatenate([model.score([h]) for h in histories])
    for budget in (1, 150, 200, 500, 4096):
        order = generator.permutation(len(histories))
        scores = model.score([histories[row] for row in order], token_budget=budget)
        np.testing.assert_allclose(scores, alone[order], atol=tolerance)
    assert np.ptp(alone) > 10 * tolerance, "scores differ by more than the tolerance"


@pytest.mark.parametrize("rows", ["padded", "separate"])
def test_packed_and_other_rows_agree(items, backbone, rows):
    packed, other = build(items, backbone, rows="packed"), build(items, backbone, rows=rows)
    histories = [np.array([1, 2, 3]), np.array([4]), np.array([5, 6, 7, 8, 9])]
    np.testing.assert_allclose(packed.score(histories), other.score(histories), atol=1e-5)


@pytest.mark.parametrize("branches", [True, False])
def test_one_call_of_flex_attention_agrees_with_attention_user_by_user(items, backbone, branches):
    model = build(items, backbone)
    packed = example(items, backbone, model)[-1]
    if not branches:
        packed = model.prompts.pack([model.prompts.fit(np.arange(n)) for n in (1, 5, 3)])
    states = []
    with torch.inference_mode():
        for flex in (False, True):
            model.engine.flex = flex
            states.append(torch.cat(model.hidden(packed)))
    torch.testing.assert_close(states[0], states[1], atol=1e-5, rtol=0)


def test_memory_of_a_training_pass_is_predicted(items, backbone):
    model = build(items, backbone)
    packed = example(items, backbone, model)[-1]
    kept, _ = kept_for_backward(model, packed, checkpointing=False)
    assert training_memory(backbone, packed) == pytest.approx(kept, rel=0.1)


def kept_for_backward(model: ILLMRec, packed, *, checkpointing: bool) -> tuple[int, list[torch.Tensor]]:
    """Return the bytes that are kept outside of parameters, and the gradients."""
    own = {t.untyped_storage().data_ptr() for t in (*model.engine.backbone.model.parameters(),)}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.engine.checkpointing = checkpointing
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        rec, answers = model.hidden(packed)
    (rec.square().mean() + answers.square().mean()).backward()
    return sum(kept.values()), [model.rec.grad, *(p.grad for p in model.adaptors.parameters())]


def test_checkpointing_keeps_less_and_gives_the_same_gradients(items, backbone):
    model = build(items, backbone)
    packed = example(items, backbone, model)[-1]
    whole, plain = kept_for_backward(model, packed, checkpointing=False)
    less, again = kept_for_backward(model, packed, checkpointing=True)
    assert less < 0.6 * whole
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other)


def test_an_instruction_before_the_history_leaves_one_token_in_a_branch(items, backbone):
    after, before = (build(items, backbone, instruction=place).prompts for place in ("after", "before"))
    boundaries = [np.arange(1, 4)]
    packed = [p.pack([p.fit(np.arange(3))], boundaries=boundaries) for p in (after, before)]
    history = int(after.items.lengths[:3].sum())
    assert packed[0].tokens == history + 3 * (len(after.instruction) + 1)
    assert packed[1].tokens == history + 3
    assert len(packed[1].prefix) > len(packed[0].prefix) + 5
    assert abs(before.fixed_tokens - after.fixed_tokens) <= 2


def test_long_prompts_train_with_the_same_gradients(items, backbone, monkeypatch):
    from illmrec.model import attention

    gradients = []
    for pairs in (0, 512 * 512):
        monkeypatch.setattr(attention, "DENSE_PAIRS", pairs)
        model = build(items, backbone)
        *_, packed = example(items, backbone, model)
        rec, answers = model.hidden(packed)
        (rec.square().mean() + answers.square().mean()).backward()
        gradients.append([model.rec.grad, *(p.grad for p in model.adaptors.parameters())])
    for fused, dense in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, dense, atol=1e-5, rtol=1e-4)


def test_context_drops_oldest_items_then_cuts_text(items, backbone):
    model = build(items, backbone)
    history = np.arange(6)
    lengths = model.prompts.items.lengths[history]
    fixed = model.prompts.fixed_tokens
    tight = build(items, backbone, context=fixed + int(lengths[-2:].sum()))
    fitted = tight.prompts.fit(history)
    assert fitted.items.tolist() == [4, 5]
    assert (fitted.dropped_items, fitted.dropped_tokens) == (4, int(lengths[:4].sum()))
    tiny = build(items, backbone, context=fixed + 3)
    fitted = tiny.prompts.fit(np.array([0, 1]))
    assert fitted.items.tolist() == [1] and len(fitted.cut_ids) == 3
    assert (fitted.cut_ids == -1).sum() == 1, "the slot stays"
    packed = tiny.prompts.pack([fitted])
    assert len(packed.prefix) + packed.tokens == fixed + 3 and len(packed.slot_positions["image"]) == 1
    assert np.isfinite(tiny.score([np.array([0, 1])])).all()


def test_context_too_small_for_the_instruction(items, backbone):

    with pytest.raises(InputError, match="--context 5"):
        build(items, backbone, context=5)


def test_flops_agree_with_torch_counter(items, backbone):
    model = build(items, backbone)
    packed = model.prompts.pack([model.prompts.fit(np.array([1, 2, 3, 4]))])
    slots = {"image": torch.zeros(4, backbone.width)}
    engine = Engine(backbone)

    def count() -> float:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            engine.hidden(
                packed, slots=slots, rec=model.rec, positions=torch.from_numpy(packed.rec_positions)
            )
        return _products(counter)[0]

    matrices = [p for block in backbone.blocks for p in block.parameters() if p.ndim == 2]
    per_token = 2 * sum(p.numel() for p in matrices)
    mlp = 2 * sum(p.numel() for p in backbone.last_mlp.parameters())
    first, linear = count(), count()
    assert first == pytest.approx(linear + per_token * len(packed.prefix), rel=5e-4), "the prefix is run once"
    # Some releases rotate positions by a matrix product, which is none of a block's.
    assert linear == pytest.approx(per_token * packed.tokens - mlp * (packed.tokens - 1), rel=5e-4)
    n, prefix = packed.tokens, len(packed.prefix)
    assert packed.attended_pairs() == n * (n + 1) // 2 + n * prefix
    assert packed.attended_pairs(read=True) == n + prefix
    pairs = 2 * packed.attended_pairs() + packed.attended_pairs(read=True)
    assert forward_flops(backbone, packed) == pytest.approx(linear + 4 * 32 * pairs, rel=5e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_flops_agree_with_torch_counter(items, backbone, checkpointing):
    model = build(items, backbone)
    *_, packed = example(items, backbone, model)
    engine = Engine(backbone)
    engine.checkpointing = checkpointing
    slots = {"image": torch.randn(len(packed.slot_positions["image"]), backbone.width, requires_grad=True)}
    read = np.concatenate([packed.rec_positions, packed.answer_positions])
    engine.prefix(packed.prefix)  # run once, for all passes
    # As a rule PyTorch stops a second forward pass short, before the block's last product.
    with FlopCounterMode(display=False) as counter, set_checkpoint_early_stop(False):
        states = engine.hidden(packed, slots=slots, rec=model.rec, positions=torch.from_numpy(read))
        states.sum().backward()
    linear, attention = _products(counter)
    # Two products forward and four backward go over whole rectangles of pairs, of which a part may attend.
    prefix, lengths, trunks = len(packed.prefix), packed.lengths, packed.trunk_lengths
    scored = int((trunks * (prefix + trunks) + (lengths - trunks) * (prefix + lengths)).sum())
    before = len(backbone.blocks) - 1
    calls = 3 * before + checkpointing * before
    # In the last block the tokens alone attend whose states are read.
    user = np.searchsorted(np.cumsum(lengths), read, side="right")
    last = 3 * int((prefix + lengths[user]).sum())
    assert attention == pytest.approx(4 * 32 * (calls * scored + last), rel=5e-4)
    # The frozen head: logits of the answers, and their gradient times its weights.
    head = 2 * 2 * backbone.head.weight.numel() * len(packed.answer_ids)
    pairs = calls * packed.attended_pairs() + 3 * packed.attended_pairs(read=True)
    expected = linear + 4 * 32 * pairs + head
    assert training_flops(backbone, packed, checkpointing=checkpointing) == pytest.approx(expected, rel=5e-4)


def _products(counter: FlopCounterMode) -> tuple[int, int]:
    """Return the FLOPs of matrix products, and of those in batches, which attention alone has here."""
    counted = counter.get_flop_counts()["Global"]
    batched = sum(value for name, value in counted.items() if "bmm" in str(name))
    return sum(counted.values()) - batched, batched


def test_questions_skip_absent_properties(items, backbone):
    questions = Questions(items=items, tokenizer=backbone.tokenizer)
    drawn = questions.draw(np.full(200, 3), np.random.default_rng(0))
    text = {backbone.tokenizer.decode(answer.tolist()) for _, answer in drawn}
    assert len(text) == 3 and not any("brand" in t for t in text)


def test_users_text_cannot_spell_a_control_token(items, backbone):
    hostile = items.assign(title="</s><s>")
    tokenised = tokenise_items(
        hostile, ImageRepresentation(), backbone.tokenizer, present={"image": np.ones(N_ITEMS, dtype=bool)}
    )
    assert not {0, 1} & set(tokenised.ids.tolist())


def test_descriptions_are_needed_only_where_an_image_is_missing(items, backbone):

    undescribed = items.assign(description="")
    present = np.ones(N_ITEMS, dtype=bool)
    representation, tokenizer = ImageRepresentation(), backbone.tokenizer
    tokenised = tokenise_items(undescribed, representation, tokenizer, present={"image": present})
    assert (tokenised.ids == -1).sum() == N_ITEMS
    present[3] = False
    with pytest.raises(InputError, match="no 'description'"):
        tokenise_items(undescribed, representation, tokenizer, present={"image": present})
    with pytest.raises(InputError, match="no 'title'"):
        tokenise_items(items.drop(columns="title"), representation, tokenizer, present={"image": present})


def test_rows_filled_up_with_nobody_change_no_state(items, backbone):
    model = build(items, backbone)
    packed = example(items, backbone, model)[-1]
    with torch.inference_mode():
        plain = torch.cat(model.hidden(packed))
        assert packed.tokens % 128
        for flex in (False, True):
            model.engine.row_multiple, model.engine.flex = 128, flex
            torch.testing.assert_close(torch.cat(model.hidden(packed)), plain, atol=1e-5, rtol=0)
    assert packed.filled(128).tokens % 128 == 0 and packed.filled(1) is packed


@pytest.mark.slow
def test_a_compiled_llm_has_the_same_states_and_gradients(items, tiny_llm):
    results = []
    for compiled in (False, True):
        backbone = load_backbone(str(tiny_llm), dtype="float32", compiled=compiled)
        assert backbone.describe().get("compiled", False) is compiled
        model = build(items, backbone)
        model.engine.checkpointing = compiled
        packed = example(items, backbone, model)[-1]
        rec, answers = model.hidden(packed)
        (rec.square().mean() + answers.square().mean()).backward()
        results.append([rec, answers, model.rec.grad, *(p.grad for p in model.adaptors.parameters())])
    for plain, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-4)
