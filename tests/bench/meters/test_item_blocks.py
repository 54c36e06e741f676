"""Histories from items' own keys and values: exact where they must be, and as transformers' own cache gives them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_models import made_dataset, made_model
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from bench.meters.item_blocks import ItemBlocks, Recomputed
from bench.meters.reused_items import EXACT, Users, agreement, compared, main
from illmrec.command_line import run
from illmrec.data.candidates import draw_negatives
from illmrec.data.splits import leave_one_out
from illmrec.errors import InputError, UnsupportedError
from illmrec.model.backbone import load_backbone
from illmrec.training.options import CachedOptions

TITLES = "baselines.text_prompts:TitleOnly"
HISTORIES = [np.array([3, 7, 1, 3]), np.array([5]), np.array([2, 9, 4]), np.array([11, 12])]


@pytest.fixture(scope="module")
def model(tiny_llm):
    """Three blocks that attend sharply, so that what an item sees of others matters."""
    backbone = load_backbone(str(tiny_llm), dtype="float32")
    for block in backbone.blocks:
        block.self_attn.q_proj.weight.data.mul_(40)
        block.self_attn.o_proj.weight.data.mul_(10)
    return made_model(made_dataset(), backbone, representation=TITLES).eval()


@pytest.fixture(scope="module")
def blocks(model):
    return ItemBlocks(model, np.arange(20), entering=(1, 2), token_budget=60)


@pytest.mark.parametrize(
    "whole", [Recomputed(first_blocks=3), Recomputed(last_blocks=3), Recomputed(first_tokens=1000)]
)
def test_states_are_those_of_the_engine_where_every_token_is_computed(model, blocks, whole):
    found = blocks.encode(HISTORIES, whole, token_budget=90)
    torch.testing.assert_close(found, model.encode(HISTORIES), rtol=1e-4, atol=1e-5)
    assert blocks.work(HISTORIES, whole)[0] <= blocks.work(HISTORIES, whole)[1]


def test_a_history_of_one_item_is_exact_and_longer_ones_are_not(model, blocks):
    error = (blocks.encode(HISTORIES, Recomputed()) - model.encode(HISTORIES)).norm(dim=1)
    assert error[1] < 1e-5 and (error[[0, 2, 3]] > 1e-3).all()


def test_the_first_block_alone_needs_nothing_of_a_history(tiny_llm):
    backbone = load_backbone(str(tiny_llm), layers=1, dtype="float32")
    model = made_model(made_dataset(), backbone, representation=TITLES).eval()
    found = ItemBlocks(model, np.arange(20)).encode(HISTORIES, Recomputed())
    torch.testing.assert_close(found, model.encode(HISTORIES), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_states_are_those_of_transformers_own_cache_filled_with_items(model, blocks):
    llm, prompts, history = model.engine.backbone.model, model.prompts, HISTORIES[2]
    llm.set_attn_implementation("sdpa")
    unturned: dict[int, torch.Tensor] = {}
    for number, block in enumerate(llm.model.layers):
        block.self_attn.k_proj.register_forward_hook(
            lambda module, arguments, output, number=number: unturned.__setitem__(number, output)
        )
    prefix = len(prompts.task)
    keys: list[list[torch.Tensor]] = [[] for _ in llm.model.layers]
    values: list[list[torch.Tensor]] = [[] for _ in llm.model.layers]
    for place, item in enumerate(history):
        ids = prompts.items.ids[prompts.items.offsets[item] : prompts.items.offsets[item + 1]]
        row = torch.from_numpy(np.concatenate([prompts.task, ids]))[None]
        cache = llm(row, use_cache=True).past_key_values
        for number, layer in enumerate(cache.layers):
            start = 0 if place == 0 else prefix
            keys[number].append(unturned[number][0, start:])
            values[number].append(layer.values[0, :, start:])
    filled = DynamicCache()
    length = prefix + int(prompts.items.lengths[history].sum())
    for number in range(len(keys)):
        plain = torch.cat(keys[number]).view(length, 2, -1).transpose(0, 1)[None]
        cos, sin = llm.model.rotary_emb(plain, torch.arange(length)[None])
        turned = apply_rotary_pos_emb(plain, plain, cos, sin)[1]
        filled.update(turned, torch.cat(values[number], dim=1)[None], number)
    words = llm.get_input_embeddings()(torch.from_numpy(prompts.instruction))
    branch = torch.cat([words, model.rec[None]])[None]
    places = torch.arange(length, length + branch.shape[1])[None]
    output = llm.model(inputs_embeds=branch, position_ids=places, past_key_values=filled)
    for block in llm.model.layers:
        block.self_attn.k_proj._forward_hooks.clear()
    found = blocks.encode([history], Recomputed())
    torch.testing.assert_close(found[0], output.last_hidden_state[0, -1], rtol=1e-3, atol=1e-4)


def test_tokens_of_every_way_are_counted(model, blocks):
    history, branch = [HISTORIES[2]], len(model.prompts.instruction) + 1
    tokens = int(model.prompts.items.lengths[HISTORIES[2]].sum()) + branch
    for way, expected in (
        (Recomputed(), 3 * branch),
        (Recomputed(first_tokens=2), 3 * (branch + 2 * 2)),
        (Recomputed(first_blocks=1), 2 * branch + tokens),
        (Recomputed(first_tokens=1, last_blocks=2), branch + 2 + 2 * tokens),
    ):
        assert blocks.work(history, way) == (expected, 3 * tokens)


def test_the_table_has_a_row_for_each_way_and_for_projectors_trained_anew(model, monkeypatch, tmp_path):
    monkeypatch.setenv("ILLMREC_CACHE", str(tmp_path))
    dataset = made_dataset()
    split = leave_one_out(dataset)
    drawn = draw_negatives(dataset, seed=0, n=5)
    users = Users(dataset=dataset, split=split, rows=split.users("test"), negatives=drawn)
    ways = {"whole": Recomputed(first_blocks=3), "own": Recomputed()}
    monkeypatch.setattr("bench.meters.reused_items.negatives", lambda *args, **kwargs: drawn)
    options = CachedOptions(epochs=1)
    table = compared(model, users, ways, timed_users=4, repeats=1, options=options).set_index("way")
    assert list(table.index) == [EXACT, "whole", "whole, retrained", "own", "own, retrained"]
    assert table.loc[["exact", "whole"], "spearman"].to_numpy() == pytest.approx(1, abs=1e-3)
    assert abs(table.loc["whole", "difference_sampled"]) < 0.02
    assert table.loc["own", "spearman"] < 0.999 and table.loc["own", "computed"] < 0.7
    # Training for one way changes nothing of the next.
    alone = compared(model, users, {"own": Recomputed()}, timed_users=1, repeats=1).set_index("way")
    assert alone.loc["own", "spearman"] == pytest.approx(table.loc["own", "spearman"], abs=1e-6)


def test_agreement_is_spearmans(model):
    stats = pytest.importorskip("scipy.stats")
    first, second = np.random.default_rng(0).normal(size=(2, 3, 30))
    second += first
    expected = np.mean([stats.spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)])
    both = [set(np.argsort(-a)[:10]) & set(np.argsort(-b)[:10]) for a, b in zip(first, second, strict=True)]
    assert agreement(first, second) == pytest.approx((expected, np.mean([len(each) for each in both]) / 10))


def test_what_cannot_be_measured_is_refused(model, tmp_path, capsys):
    images = made_model(made_dataset(), model.engine.backbone)
    with pytest.raises(UnsupportedError, match="slots"):
        ItemBlocks(images, np.arange(3))
    with pytest.raises(InputError, match="fewer than 0"):
        Recomputed(first_tokens=-1)
    for arguments, message in (("--users 0", "at least 1"), ("", "no trained model")):
        assert run(main, prog="reused", args=["--model", str(tmp_path), *arguments.split()]) == 2
        assert message in capsys.readouterr().err
