"""Energy from counters: joules of one run, of the right processor, and none where no counter can be read."""

from __future__ import annotations

import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest

from bench.meters import energy
from bench.meters.energy import EnergyMeter, energy_meter


class Counters:
    """Stands in for Zeus: a processor that draws so many joules each time its block is run."""

    def __init__(self, *, cpu=None, dram=None, gpu=None) -> None:
        self.each = {"cpu_energy": cpu, "dram_energy": dram, "gpu_energy": gpu or {}}
        self.runs = 0

    def block(self) -> None:
        self.runs += 1

    def begin_window(self, key: str, sync_execution: bool = True) -> None:
        self.began = self.runs

    def end_window(self, key: str, sync_execution: bool = True) -> SimpleNamespace:
        runs = self.runs - self.began
        return SimpleNamespace(
            **{
                name: None if each is None else {number: runs * joules for number, joules in each.items()}
                for name, each in self.each.items()
            }
        )


def test_joules_are_those_of_one_run_of_all_that_is_read() -> None:
    counters = Counters(cpu={0: 3.0, 1: 4.0}, dram={0: 0.5})
    counters.runs = 5  # what came before does not count
    found = EnergyMeter(counters, "cpu").measure(counters.block, seconds=0.005)
    assert found is not None and found.joules == pytest.approx(7.5)
    assert found.read == "cpu+dram" and found.runs == counters.runs - 5 >= 1


def test_of_several_gpus_the_one_that_works_counts(monkeypatch) -> None:
    counters = Counters(cpu={0: 3.0}, gpu={0: 50.0, 1: 9.0})
    monkeypatch.setattr(energy, "Timer", lambda device: SimpleTimer())
    found = EnergyMeter(counters, "cuda:1").measure(counters.block, seconds=0.0)
    assert found is not None and (found.joules, found.read) == (12.0, "cpu+gpu")
    # Without NVML the part that does the work is missing: what is left is no measurement of it.
    counters = Counters(cpu={0: 3.0})
    assert EnergyMeter(counters, "cuda:1").measure(counters.block, seconds=0.0) is None


class SimpleTimer:
    """A timer of nothing: there is no GPU to wait for."""

    seconds = 1.0

    def __enter__(self) -> SimpleTimer:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_a_machine_without_rapl_is_told_to_be_estimated(monkeypatch, caplog) -> None:
    class Unreadable(Exception):
        """As Zeus raises it."""

    for counters in (Counters(), Counters(cpu={}), Counters(cpu={0: 0.0})):
        _install(monkeypatch, lambda counters=counters: counters, Unreadable)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert energy_meter("cpu") is None
        assert "energy will be estimated" in caplog.text and "no counter of the cpu" in caplog.text

    def refused() -> Counters:
        raise Unreadable("root is needed\nor a daemon")

    _install(monkeypatch, refused, Unreadable)
    assert energy_meter("cpu") is None


def test_what_a_counter_reads_is_used(monkeypatch) -> None:
    counters = Counters(cpu={0: 1.0})
    begin = counters.begin_window
    # The probe of the meter runs a block that is not the counters' own.
    monkeypatch.setattr(counters, "begin_window", lambda *a, **k: (begin(*a, **k), counters.block()))
    _install(monkeypatch, lambda: counters, OSError)
    assert energy_meter("cpu") is not None


def test_without_zeus_the_extra_is_named(monkeypatch, caplog) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert energy_meter("cpu") is None
    assert "pip install illmrec[energy]" in caplog.text


def _install(monkeypatch, monitor, error) -> None:
    """Put modules in Zeus's place: its monitor and its error."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    zeus, monitors, exceptions = (ModuleType(name) for name in ("zeus", "zeus.monitor", "zeus.exception"))
    monitors.ZeusMonitor = monitor  # type: ignore[attr-defined]
    exceptions.ZeusBaseError = error  # type: ignore[attr-defined]
    for module in (zeus, monitors, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
