"""The data type in which a device multiplies fastest, measured once and kept."""

from __future__ import annotations

import json
import logging
import platform
import time

import torch
from torch.nn import functional

from illmrec.files import atomic_write_text, cache_dir, hash_json, parsed_json

logger = logging.getLogger(__name__)

_MARGIN = 1.2
"""bfloat16 has to be so many times as fast as float32, since it costs digits."""

_ROWS, _INNER, _COLUMNS = 256, 576, 1536
_REPEATS = 5


def native_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it faster than float32, float32 elsewhere.

    A CPU is measured (a fraction of a second) and the outcome kept in the cache for this machine and torch, because
    the data type is part of what identifies a result: it must not change with the load of the moment.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device.type != "cpu":
        return torch.float32
    machine = [
        platform.node(),
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.__version__,
    ]
    path = cache_dir() / "precision" / f"{hash_json(machine)}.json"
    if path.exists():
        ratio = float(parsed_json(path.read_text())["bfloat16_over_float32"])
    else:
        ratio = _seconds(torch.float32) / _seconds(torch.bfloat16)
        logger.info("matrix products in bfloat16 run at %.1f times the speed of float32 here", ratio)
        atomic_write_text(path, json.dumps({"bfloat16_over_float32": round(ratio, 3)}))
    return torch.bfloat16 if ratio > _MARGIN else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """Return the seconds of one matrix product in the shape of an LLM's layer, the best of some."""
    left, right = torch.ones(_ROWS, _INNER, dtype=dtype), torch.ones(_COLUMNS, _INNER, dtype=dtype)
    times = []
    with torch.inference_mode():
        for _ in range(1 + _REPEATS):
            started = time.perf_counter()
            functional.linear(left, right)
            times.append(time.perf_counter() - started)
    return min(times[1:])
