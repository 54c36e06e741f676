"""Compiled parts of an LLM: copies run their own weights, and a machine without a compiler is told so."""

from __future__ import annotations

import pytest
import torch

from illmrec.errors import InputError
from illmrec.model.backbone import load_backbone
from illmrec.model.compilation import check_compiler
from illmrec.model.tuning import tuned_backbone


@pytest.mark.slow
def test_a_copy_of_a_compiled_llm_runs_its_own_weights(tiny_llm):
    backbone = load_backbone(str(tiny_llm), layers=1, dtype="float32", compiled=True)
    copied = tuned_backbone(backbone, strategy="end-to-end")
    with torch.no_grad():
        for parameter in copied.blocks.parameters():
            parameter.zero_()
        inputs = torch.randn(1, 3, backbone.width)
        norm, own = backbone.blocks[0].input_layernorm, copied.blocks[0].input_layernorm
        assert not own(inputs).any() and norm(inputs).any()


def test_a_machine_without_a_compiler_is_told_so(tiny_llm, monkeypatch):
    def broken(*arguments, **options):
        raise RuntimeError("no C++ compiler")

    check_compiler.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(InputError, match=r"--compile: this machine cannot .* \(no C\+\+ compiler\)"):
        load_backbone(str(tiny_llm), compiled=True)
