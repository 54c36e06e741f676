"""Compiled parts of an LLM: norms and MLPs fused by torch.compile, for less time and memory after a start of seconds.

Only these parts: attention has code of its own here, and a part that depends on its place in the LLM would be compiled
once for every block, where one compiled norm and one MLP serve all blocks and all lengths of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from illmrec.errors import InputError


@contextmanager
def compiled(blocks: nn.ModuleList, device: torch.device) -> Iterator[None]:
    """Run norms and MLPs compiled, for a while; :func:`compile_parts` does it for good."""
    parts = compile_parts(blocks, device)
    try:
        yield
    finally:
        for part in parts:
            del part.forward


def compile_parts(blocks: nn.ModuleList, device: torch.device) -> list[nn.Module]:
    """Have the norms and MLPs of an LLM's blocks compiled when they first run, and return them.

    Results differ in rounding: fused steps keep float32 between them where bfloat16 would be stored.

    Args:
        blocks: The transformer blocks; copies of them are compiled, too.
        device: Where they run.

    Raises:
        InputError: If this machine cannot compile.
    """
    check_compiler(device.type)
    parts = [part for block in blocks for name, part in block.named_children() if _fusible(name, part)]
    for part in parts:
        # Not a bound method: a deep copy of the LLM has to run its own parts.
        part.forward = partial(_compiled(type(part).forward), part)
    return parts


def _fusible(name: str, part: nn.Module) -> bool:
    return name == "mlp" or "norm" in type(part).__name__.lower()


@cache
def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    fused: Callable[..., Any] = torch.compile(forward, dynamic=True)
    return fused


@cache
def check_compiler(device: str) -> None:
    """Compile a line for a kind of device.

    Raises:
        InputError: If this machine cannot.
    """
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.ones(8, device=device))
    # What can be missing (a C++ compiler, Triton, headers) has an error of its own each.
    except Exception as error:
        raise InputError(
            f"--compile: this machine cannot compile for {device} ({str(error).strip().splitlines()[0]}); leave it out"
        ) from error
