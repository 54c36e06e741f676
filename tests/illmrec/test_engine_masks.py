"""What a token may see: as blocks of keys for one call of attention, and averaged where an LLM has no blocks."""

from __future__ import annotations

import numpy as np
import pytest
import test_engine
import torch
from test_engine import N_ITEMS, build, example
from torch.nn.attention.flex_attention import create_mask

from illmrec.model.backbone import load_backbone
from illmrec.model.cost import forward_flops
from illmrec.model.flex import FlexMask
from illmrec.model.pooling import pooled_inputs

items, backbone = test_engine.items, test_engine.backbone  # fixtures


@pytest.mark.parametrize("filled", [1, 128])
def test_blocks_of_keys_hold_all_that_queries_may_see(items, backbone, filled):
    model = build(items, backbone)
    prompts = model.prompts
    fitted = [prompts.fit(np.arange(n) % N_ITEMS) for n in (1, 9, 3, 30, 2, 17, 5, 8)]
    packed = model.pack(fitted, [np.arange(1, len(f.items) + 1) for f in fitted]).filled(filled)
    assert packed.tokens > 4 * 128
    blocks = FlexMask.of(packed, device=torch.device("cpu")).blocks
    seen = create_mask(blocks.mask_mod, None, None, packed.tokens, len(packed.prefix) + packed.tokens, "cpu")
    padded = torch.nn.functional.pad(seen[0, 0], (0, -seen.shape[3] % 128, 0, -seen.shape[2] % 128))
    needed = padded.unflatten(0, (-1, 128)).unflatten(2, (-1, 128)).any(3).any(1)
    listed = blocks.to_dense()[0, 0].bool()
    assert listed.shape == needed.shape
    assert (listed | ~needed).all(), "a block that is needed is not listed"
    assert listed.float().mean() < 0.7, "blocks that nobody may see are skipped"


@pytest.mark.parametrize("instruction", ["after", "before"])
def test_an_llm_without_blocks_averages_what_a_token_may_see(items, tiny_llm, instruction):
    backbone = load_backbone(str(tiny_llm), dtype="float32", layers=0)
    model = build(items, backbone, instruction=instruction)
    assert model.engine.execution.rows == "pooled" and backbone.describe()["layers"] == 0
    *_, packed = example(items, backbone, model)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(packed.tokens, 8, generator=generator)
    prefix = torch.randn(len(packed.prefix), 8, generator=generator)
    found = pooled_inputs(packed, inputs, prefix, np.arange(packed.tokens))
    start, expected = 0, []
    for user, length in enumerate(packed.lengths):
        seen = torch.from_numpy(packed.mask(user, prefix=True)).float()
        own = torch.cat([prefix, inputs[start : start + length]])
        expected.append(seen @ own / seen.sum(dim=1, keepdim=True))
        start += length
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        states = torch.cat(model.hidden(packed))
    assert len(states) == len(packed.read_positions) and states.std(dim=0).min() > 0
    assert forward_flops(backbone, packed) == 0
