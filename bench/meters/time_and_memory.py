"""Meters: synchronised time, peak memory, and the device's own matrix-product peak."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch
import torch.nn.functional as F

logger = logging.getLogger(__name__)

BYTES_PER_MB = 1e6
"""MB in every table is 10^6 bytes."""

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_SAMPLE_SECONDS = 0.005

_PRODUCTS = (
    # rows, inner, columns of [rows, inner] x [inner, columns]: squares and the MLPs of LLMs, small to large.
    (512, 512, 512),
    (1024, 1024, 1024),
    (1024, 576, 1536),
    (2048, 2048, 2048),
    (512, 2048, 8192),
    (4096, 4096, 4096),
    (4096, 2560, 6912),
    (8192, 8192, 8192),
)


def synchronise(device: torch.device | str) -> None:
    """Wait until the device has finished what was queued; on the CPU nothing is queued."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
    elif kind == "xpu":
        torch.xpu.synchronize(device)
    elif kind != "cpu":
        raise ValueError(f"do not know how to synchronise a '{kind}' device, so a time on it would be wrong")


class Timer:
    """Seconds of a block, with the device synchronised at both ends.

    Example: ``with Timer("cuda") as timer: ...`` and then ``timer.seconds``.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> Timer:
        synchronise(self.device)
        self._started = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        synchronise(self.device)
        self.seconds = time.perf_counter() - self._started


class PeakMemory:
    """Peak memory of a block: the device's allocated tensors on CUDA, the process's resident set on the CPU.

    Blocks must not be nested: an inner one resets the peak of the outer one.

    Attributes:
        peak_mb: The absolute peak during the block, weights and libraries included: what tables report.
        above_start_mb: The peak less what was in use when the block began.
        source: How it was measured: ``torch.cuda.max_memory_allocated``; ``VmHWM``, the kernel's own
            high-water mark; or ``sampled``, every 5 ms, where the kernel's cannot be reset (and on MPS):
            short peaks may be missed.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.peak_mb = 0.0
        self.above_start_mb = 0.0
        self.source = ""
        self._start = 0
        self._sampler: _Sampler | None = None

    def __enter__(self) -> PeakMemory:
        synchronise(self.device)
        if self.device.type == "cuda":
            self.source = "torch.cuda.max_memory_allocated"
            torch.cuda.reset_peak_memory_stats(self.device)
            self._start = torch.cuda.memory_allocated(self.device)
            return self
        if self.device.type == "cpu" and _reset_high_water_mark():
            self.source = "VmHWM"
            self._start = psutil.Process().memory_info().rss
            return self
        self.source = "sampled"
        read = _memory_reader(self.device)
        self._start = read()
        self._sampler = _Sampler(read)
        self._sampler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        synchronise(self.device)
        if self._sampler is not None:
            peak = self._sampler.stop()
        elif self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = _status_bytes("VmHWM")
        self.peak_mb = peak / BYTES_PER_MB
        self.above_start_mb = max(0, peak - self._start) / BYTES_PER_MB


@contextmanager
def clean_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure peak memory after what others freed has gone back to the system, so that nothing inherits it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform.startswith("linux"):
        # glibc keeps freed memory; other C libraries have no such function.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
    with PeakMemory(device) as memory:
        yield memory


def memory_parts(model: Any, memory: PeakMemory) -> dict[str, float]:
    """Return what a model takes by itself, in MB: weights of the LLM, features and heads, activations, and the sum.

    Args:
        model: An ``ILLMRec``, or one by which the LLM writes items.
        memory: Measured around its work, with nothing else at work.
    """
    parts = {
        "weights_mb": _megabytes(model.engine.backbone.model.state_dict().values()),
        "features_mb": _megabytes([*model.buffers(), *model.parameters()]),
        "activations_mb": memory.above_start_mb,
    }
    return {**parts, "peak_memory_mb": sum(parts.values())}


def matmul_peak(dtype: torch.dtype, device: torch.device | str, *, seconds: float = 1.0) -> float:
    """Return the best rate in GFLOP/s of square and LLM-shaped matrix products: the ceiling for a model.

    It uses the threads and precision settings (TF32, say) in force, so that utilisation is a ratio of
    two measurements under equal conditions.

    Args:
        dtype: Type of the factors.
        device: Where to multiply.
        seconds: Roughly how long to measure in total. Products that take a quarter of it once are left out.
    """
    share = seconds / len(_PRODUCTS)
    best = 0.0
    with torch.inference_mode():
        for rows, inner, columns in _PRODUCTS:
            operations = 2.0 * rows * inner * columns
            if best and operations / best > seconds / 4:
                continue
            left = torch.randn(rows, inner, device=device).to(dtype)
            right = torch.randn(columns, inner, device=device).to(dtype)
            once = _repeat_seconds(left, right, 1, device)
            repeats = max(1, int(share / 4 / max(once, 1e-6)))
            spent = 0.0
            while spent < share:
                elapsed = _repeat_seconds(left, right, repeats, device)
                spent += elapsed
                best = max(best, operations * repeats / elapsed)
    return best / 1e9


def _repeat_seconds(
    left: torch.Tensor, right: torch.Tensor, repeats: int, device: torch.device | str
) -> float:
    with Timer(device) as timer:
        for _ in range(repeats):
            F.linear(left, right)
    return timer.seconds


def _megabytes(tensors: Iterable[Any]) -> float:
    """Return what tensors take, those that share memory counted once."""
    sizes = {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors}
    return sum(sizes.values()) / BYTES_PER_MB


class _Sampler(threading.Thread):
    """Reads a number of bytes every few milliseconds and keeps the largest."""

    def __init__(self, read: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._read = read
        self._done = threading.Event()
        self._peak = read()

    def run(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, self._read())

    def stop(self) -> int:
        self._done.set()
        self.join()
        return max(self._peak, self._read())


def _memory_reader(device: torch.device) -> Callable[[], int]:
    if device.type == "mps":
        return torch.mps.current_allocated_memory
    if device.type != "cpu":
        raise ValueError(f"do not know how to read the memory of a '{device.type}' device")
    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


def _reset_high_water_mark() -> bool:
    """Reset this process's peak resident set (Linux, 5 into clear_refs) and say whether that worked."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        _CLEAR_REFS.write_text("5")
        mark = _status_bytes("VmHWM")
    except (OSError, LookupError):
        return False
    # Some sandboxes take the write and do nothing. The kernel's counters lag by some pages per thread.
    resident = psutil.Process().memory_info().rss
    return bool(mark <= resident + max(8e6, 0.02 * resident))


def _status_bytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"{_STATUS} has no {name}")
