"""Int8 linear layers: the numbers of each way, and the table."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional
from training_models import made_dataset, made_model

from bench.meters import int8_linears
from bench.meters.int8_linears import COMPILED, ENGINE, WAYS, compared, installed, main, quantised
from illmrec.command_line import run
from illmrec.data.splits import leave_one_out
from illmrec.model.backbone import load_backbone


@pytest.fixture(autouse=True)
def _eager(monkeypatch):
    """Compiling takes seconds and changes rounding alone."""
    monkeypatch.setattr(int8_linears, "_fused", lambda function: function)


def test_a_row_is_quantised_to_half_a_step():
    values = torch.randn(5, 64) * torch.tensor([[1e-3], [1.0], [50.0], [1.0], [0.0]])
    table, scale = quantised(values)
    assert table.dtype == torch.int8 and (table.abs().amax(1)[:4] == 127).all()
    assert ((table * scale - values).abs() <= scale / 2 + 1e-7).all()


@pytest.mark.parametrize("way", ["onednn", "int-mm", "weights-only"])
def test_products_are_near_those_of_the_weights(way):
    torch.manual_seed(0)
    weight, inputs = torch.randn(48, 64).bfloat16(), torch.randn(1, 20, 64).bfloat16()
    inputs[0, 3] *= 1000  # a token far from the others has a scale of its own
    exact = functional.linear(inputs.double(), weight.double())
    found = WAYS[way](weight)(inputs)
    assert found.dtype == torch.bfloat16 and found.shape == exact.shape
    error = (found.double() - exact).norm(dim=2) / exact.norm(dim=2)
    assert error.max() < 0.02


def test_torchao_quantises_the_layer_that_runs(monkeypatch):
    def doubled(holder, configuration):
        holder[0].weight = nn.Parameter(2 * holder[0].weight, requires_grad=False)

    fake = SimpleNamespace(quantize_=doubled, Int8WeightOnlyConfig=dict)
    monkeypatch.setitem(sys.modules, "torchao", SimpleNamespace(quantization=fake))
    monkeypatch.setitem(sys.modules, "torchao.quantization", fake)
    layer, inputs = nn.Linear(8, 4, bias=False), torch.randn(1, 3, 8)
    before = layer(inputs)
    with installed({layer: WAYS["torchao-weights"](layer.weight.detach())}):
        torch.testing.assert_close(layer(inputs), 2 * before)
    torch.testing.assert_close(layer(inputs), before)


def test_the_table_has_every_way_and_leaves_the_llm_as_it_was(tiny_llm, monkeypatch):
    backbone = load_backbone(str(tiny_llm), layers=1, dtype="bfloat16")
    model = made_model(made_dataset(), backbone, representation="baselines.text_prompts:TitleOnly").eval()
    monkeypatch.setattr(int8_linears, "compiled", lambda *args: int8_linears.installed({}))
    split = leave_one_out(made_dataset())
    histories = [split.history(user, "test") for user in range(3)]
    before = model.encode(histories)
    table = compared(model, histories, ["onednn", "no-products"], repeats=2).set_index("way")
    assert list(table.index) == [ENGINE, COMPILED, "onednn", "no-products"]
    assert table.loc[ENGINE, "error"] == 0 and 0 < table.loc["onednn", "error"] < 0.5
    assert table.loc["no-products", "error"] > 2 * table.loc["onednn", "error"]
    torch.testing.assert_close(model.encode(histories), before)


@pytest.mark.parametrize(("arguments", "message"), [("--ways int4", "int4"), ("--users 0", "at least 1")])
def test_bad_options_are_refused(arguments, message, capsys):
    assert run(main, prog="int8", args=arguments.split()) == 2
    assert message in capsys.readouterr().err
