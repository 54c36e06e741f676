"""Energy of a block as the machine's own counters have it, read by Zeus: RAPL of CPUs, NVML of GPUs."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from bench.meters.time_and_memory import Timer

logger = logging.getLogger(__name__)

SECONDS = 2.0
"""A block is run for so long at least: NVML's counters move every tenth of a second or so."""
_WINDOW = "illmrec"


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of a block.

    Attributes:
        joules: Of one run of it, in J.
        read: What was read, such as ``cpu+dram`` or ``cpu+dram+gpu``.
        runs: How many times it was run.
    """

    joules: float
    read: str
    runs: int


class Monitor(Protocol):
    """What of ``zeus.monitor.ZeusMonitor`` is used here."""

    def begin_window(self, key: str, sync_execution: bool = True) -> None:
        """Read the counters."""

    def end_window(self, key: str, sync_execution: bool = True) -> Any:
        """Return the joules since: ``gpu_energy`` and, or None, ``cpu_energy`` and ``dram_energy`` by number."""


class EnergyMeter:
    """Reads the machine's counters around blocks. They count all that runs on it, not this process alone.

    Args:
        monitor: Reads them.
        device: Where the blocks run; the counter of this processor must be among those that are read.
    """

    def __init__(self, monitor: Monitor, device: torch.device | str) -> None:
        self._monitor = monitor
        self._device = torch.device(device)

    def measure(self, block: Callable[[], object], *, seconds: float = SECONDS) -> Energy | None:
        """Return the energy of one run of a block, or None where the counter of its processor cannot be read.

        Args:
            block: What is measured; it is run again and again.
            seconds: For so long at least.
        """
        runs, spent = 0, 0.0
        self._monitor.begin_window(_WINDOW, sync_execution=False)
        while spent < seconds or not runs:
            with Timer(self._device) as timer:
                block()
            spent += timer.seconds
            runs += 1
        found = self._monitor.end_window(_WINDOW, sync_execution=False)
        parts = {
            name: sum(by_number.values())
            for name, by_number in (
                ("cpu", found.cpu_energy),
                ("dram", found.dram_energy),
                ("gpu", self._own(found.gpu_energy)),
            )
            if by_number
        }
        needed = {"cpu": "cpu", "cuda": "gpu"}.get(self._device.type)
        if needed not in parts or parts[needed] <= 0:
            return None
        return Energy(joules=sum(parts.values()) / runs, read="+".join(parts), runs=runs)

    def _own(self, joules: dict[int, float]) -> dict[int, float]:
        """Return the energy of the GPU that the blocks run on, of no other; where they run on none, of all."""
        if self._device.type != "cuda":
            return joules
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        return {index: joules[index]} if index in joules else {}


def energy_meter(device: torch.device | str) -> EnergyMeter | None:
    """Return a meter of this machine's energy, or None where no counter can be read; the log says why.

    Args:
        device: Where the work runs.
    """
    if importlib.util.find_spec("zeus") is None:
        _estimated("Zeus is not installed: pip install illmrec[energy]")
        return None
    from zeus.exception import ZeusBaseError
    from zeus.monitor import ZeusMonitor

    try:
        meter = EnergyMeter(ZeusMonitor(), device)
        readable = meter.measure(partial(time.sleep, 0.1), seconds=0.3) is not None
    except (ZeusBaseError, OSError, RuntimeError) as error:
        _estimated(str(error).partition("\n")[0])
        return None
    if not readable:
        _estimated(f"no counter of the {torch.device(device).type} can be read (RAPL needs root, or a readable"
                   " /sys/class/powercap)")  # fmt: skip
        return None
    return meter


def _estimated(reason: str) -> None:
    logger.info("energy will be estimated from time and an assumed power: %s", reason)
