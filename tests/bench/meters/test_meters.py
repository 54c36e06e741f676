from __future__ import annotations

import time

import pytest
import torch

from bench.meters import time_and_memory as meters
from bench.meters.time_and_memory import PeakMemory, Timer, clean_memory, matmul_peak, synchronise

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MB = 10**6


def allocate(megabytes: int) -> None:
    torch.ones(megabytes * MB // 4)


def test_timer_measures_its_block() -> None:
    with Timer() as timer:
        time.sleep(0.05)
    assert timer.seconds >= 0.05


def test_a_device_that_cannot_be_synchronised_is_refused() -> None:
    with pytest.raises(ValueError, match="meta"):
        synchronise("meta")


@pytest.mark.parametrize("kernel", [True, False])
def test_peak_memory_sees_what_the_block_has_freed(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(meters, "_reset_high_water_mark", lambda: False)
    with clean_memory(torch.device("cpu")) as large:  # what the process has kept would be allocated again
        kept = torch.ones(200 * MB // 4)
        time.sleep(0.05)
        del kept
    assert large.source == ("VmHWM" if kernel and meters._reset_high_water_mark() else "sampled")
    assert large.above_start_mb == pytest.approx(200, abs=30)
    assert large.peak_mb > large.above_start_mb


def test_a_second_block_does_not_inherit_the_first_peak() -> None:
    with clean_memory(torch.device("cpu")) as first:
        allocate(300)
    with PeakMemory() as second:
        pass
    assert second.peak_mb < first.peak_mb - 200
    assert second.above_start_mb < 50


def test_peak_memory_falls_back_where_the_mark_cannot_be_reset(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "_CLEAR_REFS", tmp_path / "missing" / "clear_refs")
    with PeakMemory() as memory:
        pass
    assert memory.source == "sampled"
    # A sandbox that takes the write and does nothing: the mark stays far above what is resident.
    ignored = tmp_path / "clear_refs"
    monkeypatch.setattr(meters, "_CLEAR_REFS", ignored)
    monkeypatch.setattr(meters, "_status_bytes", lambda name: 10**15)
    with PeakMemory() as memory:
        pass
    assert memory.source == "sampled"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matmul_peak_is_a_rate(dtype: torch.dtype) -> None:
    assert 0.1 < matmul_peak(dtype, "cpu", seconds=0.1) < 1e7


@NEEDS_CUDA
def test_cuda_memory_is_that_of_tensors() -> None:
    with PeakMemory("cuda") as memory:
        torch.ones(100 * MB // 4, device="cuda")
    assert memory.source == "torch.cuda.max_memory_allocated"
    assert memory.above_start_mb == pytest.approx(100, abs=5)


@NEEDS_CUDA
def test_cuda_timer_waits_for_the_device() -> None:
    factor = torch.randn(4096, 4096, device="cuda")
    with Timer("cuda") as timer:
        for _ in range(20):
            factor @ factor
    assert 2 * 4096**3 * 20 / timer.seconds < 2e15
