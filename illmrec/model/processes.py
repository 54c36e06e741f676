"""The processes of one run, as ``accelerate launch`` or ``torchrun`` start them: one model, each its share of users.

Every process runs the same program on the same data and comes to the functions below in the same order. They share a
file system, to which the main process alone writes results. With one process all this is free: no process group is
made and nothing is imported. A process that fails ends the run: the launcher stops the others.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from illmrec.errors import InputError

if TYPE_CHECKING:
    from accelerate import PartialState
    from torch import Tensor

logger = logging.getLogger(__name__)

_PATIENCE = timedelta(days=30)
"""How long processes wait for each other: the main one may compute features for a day before the others read them."""

_BUCKET = 1 << 26
"""Gradients that are summed at a time; the copy takes 4 bytes of each."""


def count() -> int:
    """Return the number of processes that work on this run."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_main() -> bool:
    """Return whether this is the process that writes, prints and decides what is computed."""
    return count() == 1 or os.environ["RANK"] == "0"


def own_device(wanted: str) -> str:
    """Return the device of this process: what is wanted, or with several processes on GPUs one for each.

    Args:
        wanted: A torch device.

    Raises:
        InputError: If several processes cannot share it.
    """
    if count() == 1:
        if "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ:
            _warn_of_one_process()
        return wanted
    if wanted not in ("cpu", "cuda"):
        raise InputError(f"--device {wanted}: {count()} processes run on cpu, or on cuda with a GPU each")
    if wanted == "cuda":
        import torch

        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"{torch.cuda.device_count()} GPUs here, and process {local + 1} needs one of its own; "
                "start no more processes than there are GPUs, or give --device cpu"
            )
    group = _group(on_cpu=wanted == "cpu")
    return "cpu" if wanted == "cpu" else str(group.device)


@functools.cache
def _warn_of_one_process() -> None:
    logger.warning(
        "several processes were asked for, and accelerate starts one on CPUs; torchrun --nproc-per-node starts several"
    )


def _group(*, on_cpu: bool | None = None) -> PartialState:
    """Return the state of the process group; the first call makes the group, on GPUs where there are any."""
    import torch
    from accelerate import PartialState

    on_cpu = not torch.cuda.is_available() if on_cpu is None else on_cpu
    # What goes between the processes besides gradients and states lies on the CPU: to wait there costs no GPU.
    backend = {} if on_cpu else {"backend": "cuda:nccl,cpu:gloo"}
    return PartialState(cpu=on_cpu, timeout=_PATIENCE, **backend)


def total(values: Tensor) -> Tensor:
    """Return the sum of a tensor over processes, the same bits on each; it replaces the tensor's values."""
    if count() > 1:
        import torch

        _group()
        torch.distributed.all_reduce(values)
    return values


def of_main(numbers: Sequence[float]) -> list[float]:
    """Return the main process's numbers on every process; each gives as many."""
    if count() == 1:
        return list(numbers)
    import torch

    values = torch.tensor(numbers, dtype=torch.float64)
    _group()
    torch.distributed.broadcast(values, src=0)
    return list(values.tolist())


def take_from_main(values: Iterable[Tensor]) -> None:
    """Replace tensors by those of the main process, on every process."""
    if count() == 1:
        return
    import torch

    _group()
    for tensor in values:
        torch.distributed.broadcast(tensor.detach(), src=0)


def wait() -> None:
    """Come back when every process has come here."""
    if count() > 1:
        import torch

        total(torch.zeros(1))


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Let the main process through a block before the others: it computes what they then find in the cache.

    Blocks are not nested. An error in the main process's block does not keep the others from meeting it themselves.
    """
    if not is_main():
        of_main([0])
    try:
        yield
    finally:
        if is_main():
            of_main([0])


def share(tokens: np.ndarray) -> np.ndarray:
    """Return the rows of this process: int64, about as many tokens for each process, none where rows are few.

    Args:
        tokens: Int [rows], tokens of each row, the same on every process.
    """
    if count() == 1:
        return np.arange(len(tokens))
    # Dealt from the longest, there and back again, as cards are.
    place = np.arange(len(tokens)) % (2 * count())
    dealt = np.minimum(place, 2 * count() - 1 - place)
    return np.sort(np.argsort(-tokens, kind="stable")[dealt == int(os.environ["RANK"])])


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum gradients over processes; a parameter that has none on any keeps none, so that optimisers leave it alone.

    Args:
        parameters: Of one data type and device, the same on every process.
    """
    if count() == 1:
        return
    import torch

    everything = list(parameters)
    has = torch.tensor([float(p.grad is not None) for p in everything], device=everything[0].device)
    reached = [p for p, n in zip(everything, total(has).tolist(), strict=True) if n]
    for bucket in _buckets(reached):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        sums = total(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, part in zip(bucket, sums.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = part.view_as(parameter)


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group parameters so that those of a group have no more than ``_BUCKET`` values, or are one."""
    bucket: list[Tensor] = []
    size = 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket
