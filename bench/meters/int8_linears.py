"""``python -m bench.meters.int8_linears``: encoding with the LLM's linear layers in int8, in turns with the engine.

Nothing else uses int8: ``docs/engine.md`` says what was measured and why it was left out.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bench.meters.time_and_memory import Timer
from illmrec.assembly import ModelConfig, build_model
from illmrec.command_line import run
from illmrec.data import load_dataset
from illmrec.data.splits import split_of
from illmrec.errors import InputError, nearest
from illmrec.features.table import FeatureTable
from illmrec.model.backbone import load_backbone
from illmrec.model.compilation import check_compiler, compiled
from illmrec.model.illmrec import ILLMRec

ENGINE, COMPILED = "engine", "engine-compiled"
Forward = Callable[[Tensor], Tensor]


@cache
def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of single numbers and rows compiled: eager steps would cost more than the products save."""
    return torch.compile(function, dynamic=True)


def quantised(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return int8 [rows, width] and the scale of each row, float32 [rows, 1]: symmetric, the largest is 127."""
    scale = (values.float().abs().amax(-1, keepdim=True) / 127).clamp_min(1e-8)
    return (values.float() / scale).round().to(torch.int8), scale


def _scaled(products: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (products.float() * scale).to(dtype)


class OneDNN:
    """A linear layer by oneDNN's int8 product, which applies the weights' scales and gives bfloat16.

    Args:
        weight: [out, in], quantised by output channel.
    """

    def __init__(self, weight: Tensor) -> None:
        table, scale = quantised(weight)
        self._scale, self._zero = scale[:, 0], torch.zeros(len(weight), dtype=torch.int64)
        self._packed = torch.ops.onednn.qlinear_prepack(table, None)

    def product(self, table: Tensor) -> Tensor:
        """Return bfloat16 [rows, out] of int8 [rows, in]; rows still have to be scaled."""
        found: Tensor = torch.ops.onednn.qlinear_pointwise(
            table, 1.0, 0, self._packed, self._scale, self._zero, None, 1.0, 0, torch.bfloat16, "none", [], ""
        )
        return found

    def __call__(self, inputs: Tensor) -> Tensor:
        """Quantise by token, multiply, scale: [1, rows, in] to [1, rows, out]."""
        table, scale = _fused(quantised)(inputs[0])
        scaled: Tensor = _fused(_scaled)(self.product(table), scale, inputs.dtype)
        return scaled[None]


class Prequantised(OneDNN):
    """The same where quantising and scaling cost nothing: the same table for all inputs. It bounds the others."""

    @staticmethod
    @cache
    def _table(rows: int, width: int) -> Tensor:
        return torch.randint(-50, 50, (rows, width), dtype=torch.int8)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return [1, rows, out] of no inputs."""
        return self.product(self._table(inputs.shape[1], inputs.shape[2]))[None].to(inputs.dtype)


def _integer_product(weight: Tensor) -> Forward:
    """By ``torch._int_mm``, quantised by token and output channel."""
    table, scale = quantised(weight)

    def forward(inputs: Tensor) -> Tensor:
        rows, factor = _fused(quantised)(inputs[0])
        found: Tensor = _fused(_scaled)(torch._int_mm(rows, table.t()), factor * scale[:, 0], inputs.dtype)
        return found[None]

    return forward


def _weights_only(weight: Tensor) -> Forward:
    table, scale = quantised(weight)
    factor = scale[:, 0].to(weight.dtype)
    return lambda inputs: torch._weight_int8pack_mm(inputs[0], table, factor)[None]


def _nothing(weight: Tensor) -> Forward:
    """No product at all: what is left of the time is that of everything else."""
    made: dict[int, Tensor] = {}

    def forward(inputs: Tensor) -> Tensor:
        rows = inputs.shape[1]
        if rows not in made:
            made[rows] = torch.randn(1, rows, len(weight)).mul_(0.05).to(inputs.dtype)
        return made[rows]

    return forward


def _torchao(configuration: str, weight: Tensor) -> Forward:
    try:
        quantization = importlib.import_module("torchao.quantization")
    except ImportError:
        raise InputError("--ways torchao: torchao is not installed (pip install torchao)") from None
    holder = nn.Sequential(nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype))
    holder[0].weight = nn.Parameter(weight.clone(), requires_grad=False)
    quantization.quantize_(holder, getattr(quantization, configuration)())
    # A module set as a layer's forward would become a part of the layer, and never run.
    return lambda inputs: holder(inputs)


WAYS: dict[str, Callable[[Tensor], Forward]] = {
    "onednn": OneDNN,
    "onednn-prequantised": Prequantised,
    "int-mm": _integer_product,
    "weights-only": _weights_only,
    "torchao-dynamic": partial(_torchao, "Int8DynamicActivationInt8WeightConfig"),
    "torchao-weights": partial(_torchao, "Int8WeightOnlyConfig"),
    "no-products": _nothing,
}


@contextmanager
def installed(forwards: Mapping[nn.Linear, Forward]) -> Iterator[None]:
    """Run linear layers otherwise, for a while."""
    for layer, forward in forwards.items():
        layer.forward = forward  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        for layer in forwards:
            del layer.forward


def main(
    *,
    dataset: str = "toyshop",
    representation: str = "baselines.text_prompts:TALLRec",
    layers: int | None = None,
    users: int = 32,
    repeats: int = 7,
    ways: tuple[str, ...] = (ENGINE, COMPILED, "onednn", "onednn-prequantised", "no-products"),
) -> int:
    """Time encoding by the engine, and with the linear layers of its blocks in int8, in turns.

    Columns: way; seconds, the median over repeats; times engine and times engine-compiled, medians of the ratios of
    runs that took turns, with the least and the most; error, the norm of what differs from the engine's states over
    that of what differs between users. Ways but engine and engine-compiled have all else as in engine.

    Args:
        dataset: toyshop, folder:PATH, or a published one.
        representation: How items are shown, package.module:Class, without slots.
        layers: Keep the first so many blocks of SmolLM2-135M; "none" keeps all.
        users: Whose histories are encoded.
        repeats: Timed runs of each way.
        ways: Some of engine, engine-compiled, onednn, onednn-prequantised, int-mm, weights-only, torchao-dynamic,
            torchao-weights, no-products; engine and engine-compiled always run.
    """
    valid = (ENGINE, COMPILED, *WAYS)
    for way in ways:
        if way not in valid:
            raise InputError(f"--ways {way}: {nearest(way, valid)}")
    if min(users, repeats) < 1:
        raise InputError("--users and --repeats: give at least 1")
    check_compiler("cpu")
    data = load_dataset(dataset)
    config = ModelConfig(representation=representation, heads=("text",))
    model = build_model(
        config,
        dataset=data,
        backbone=load_backbone(layers=layers),
        features={"text": _made_up(data.n_items)},
        has_image=np.ones(data.n_items, dtype=bool),
    )
    split = split_of(data)
    drawn = np.random.default_rng(0).permutation(split.users("test"))[:users]
    histories = [split.history(int(user), "test") for user in drawn]
    table = compared(model, histories, [way for way in ways if way in WAYS], repeats=repeats)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    return 0


def _made_up(items: int) -> FeatureTable:
    """Return features of the items: what is encoded does not depend on them."""
    values, present = np.ones((items, 8), dtype=np.float32), np.ones(items, dtype=bool)
    return FeatureTable(values=values, present=present, key="made up", meta={})


@torch.inference_mode()
def compared(model: ILLMRec, histories: list[np.ndarray], ways: list[str], *, repeats: int) -> pd.DataFrame:
    """Return one row for each way, after those of the engine; columns are those of :func:`main`.

    Args:
        model: The model.
        histories: What is encoded.
        ways: Names of ``WAYS``.
        repeats: Timed runs of each.
    """
    backbone = model.engine.backbone
    layers = [part for part in backbone.blocks.modules() if isinstance(part, nn.Linear)]
    places: dict[str, Callable[[], Any]] = {
        ENGINE: lambda: installed({}),
        COMPILED: lambda: compiled(backbone.blocks, backbone.device),
    }
    for way in ways:
        forwards = {layer: WAYS[way](layer.weight.detach()) for layer in layers}
        places[way] = partial(installed, forwards)
    seconds: dict[str, list[float]] = {name: [] for name in places}
    states: dict[str, Tensor] = {}
    for number in range(1 + repeats):  # the first is not counted
        for name, place in places.items():
            with place(), Timer() as timer:
                states[name] = model.encode(histories)
            if number:
                seconds[name].append(timer.seconds)
    spread = (states[ENGINE] - states[ENGINE].mean(dim=0)).norm()
    rows = []
    for name in places:
        row: dict[str, float | str] = {"way": name, "seconds": float(np.median(seconds[name]))}
        for other in (ENGINE, COMPILED):
            ratios = np.array(seconds[other]) / np.array(seconds[name])
            row |= {f"times_{other}": float(np.median(ratios)), f"least_{other}": float(ratios.min())}
            row |= {f"most_{other}": float(ratios.max())}
        rows.append({**row, "error": float((states[name] - states[ENGINE]).norm() / spread)})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.meters.int8_linears", interrupted=""))
