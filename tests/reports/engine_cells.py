"""Cells of the engine's benchmarks in the layout that they write, with plausible numbers, made without running them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.frames import retrieval, scaling, serving, throughput
from bench.store.cell import Record

MACHINE = {"cpu": "a CPU", "cores": 2}
SECONDS = {  # of a phase and path, with all paths beside
    "train-one": {
        "two-pass": 12.0,
        "two-pass-sorted": 8.0,
        "padding-free": 10.0,
        "released-style": 30.0,
        "engine": 3.0,
    },
    "train-all": {"two-pass": 90.0, "two-pass-sorted": 85.0, "padding-free": 80.0, "engine": 6.0},
    "inference": {
        "two-pass": 4.0,
        "two-pass-sorted": 3.2,
        "padding-free": 3.6,
        "released-style": 16.0,
        "llama.cpp": 2.0,
        "engine": 1.6,
    },
}
SAMPLES = {"train-one": 8, "train-all": 80, "inference": 8}
POINTS = {
    ("exact", None): (1.0, 50.0),
    ("flat", None): (1.0, 80.0),
    ("hnsw", 32): (0.82, 4000.0),
    ("hnsw", 128): (0.93, 1500.0),
    ("ivfpq", 8): (0.55, 5000.0),
}


def throughput_cells(
    filler: Any,
    *,
    phases: tuple[str, ...] = tuple(SECONDS),
    paths: tuple[str, ...] = throughput.PATHS,
    slower: float = 1.0,
    **changes: Any,
) -> list[Record]:
    """Store one run; ``changes`` go into the configuration, and all seconds are ``slower`` times as long."""
    written = []
    for phase in phases:
        beside = [path for path in SECONDS[phase] if path in paths]
        for path in beside:
            median = slower * SECONDS[phase][path]
            config = {
                "method": path,
                "phase": phase,
                "beside": beside,
                "llm": filler.llm,
                "device": "cpu",
                "machine": MACHINE,
                "threads": 2,
                "users": ["a", "b", "c"],
                "lengths": [2, 11, 20],
                **changes,
            }
            results = {
                "path": path,
                "phase": phase,
                "device": "cpu",
                "dtype": "bfloat16",
                "users": 3,
                "repeats": 3,
                "samples": SAMPLES[phase],
                "tokens": 900,
                "seconds_median": median,
                "samples_per_second": SAMPLES[phase] / median,
                "tokens_per_second": 900 / median,
                "peak_memory_mb": 1500.0 if path == "engine" else 3200.0,
                "utilisation": 1.5 / median,
                "speedup_vs_two_pass": (
                    slower * SECONDS[phase]["two-pass"] / median if "two-pass" in beside else None
                ),
            }
            timings = pd.DataFrame({"repeat": range(3), "seconds": [0.5 * median, median, 2 * median]})
            written.append(
                filler.write(
                    throughput.EXPERIMENT, config, results, {"timings": timings}, version=throughput.VERSION
                )
            )
    return written


def scaling_cells(
    filler: Any, *, axes: tuple[str, ...] = scaling.AXES, exponent: float = 1.0
) -> list[Record]:
    """Store one run in which seconds are exactly a power of each size."""
    sizes = {"users": (4, 8, 16), "history": (2, 4, 8), "catalogue": (1000, 10_000, 1_000_000)}
    written = []
    for axis in axes:
        for value in sizes[axis]:
            median = 0.01 * value**exponent
            own = (
                {"dataset": None, "users": 64, "k": 10, "width": 256}
                if axis == "catalogue"
                else {"llm": filler.llm, "users": ["a", "b"]}
            )
            config = {
                "method": "engine",
                "axis": axis,
                "value": value,
                "repeats": 2,
                "device": "cpu",
                "machine": MACHINE,
                "threads": 2,
                **own,
            }
            results = {
                "axis": axis,
                "value": value,
                "users": 8,
                "device": "cpu",
                "dtype": "float32",
                "seconds_median": median,
            }
            timings = pd.DataFrame({"repeat": range(2), "seconds": [0.9 * median, 1.1 * median]})
            written.append(
                filler.write(
                    scaling.EXPERIMENT, config, results, {"timings": timings}, version=scaling.VERSION
                )
            )
    return written


def serving_cells(filler: Any, *, methods: tuple[str, ...] = ("illmrec", "trsr")) -> list[Record]:
    """Store one run in which appending takes a quarter of the time for the first method, an eighth for the next."""
    written = []
    for number, method in enumerate(methods):
        for length in (10, 20):
            anew, speedup = 10.0 * length, 4.0 * 2**number
            config = {
                "method": method,
                "representation": method,
                "history_length": length,
                "llm": filler.llm,
                "users": ["a", "b"],
                "sessions": 2,
                "repeats": 3,
                "device": "cpu",
                "machine": MACHINE,
                "threads": 2,
            }
            alone = {
                way: {"tokens": 9.0, "latency_ms_median": median, "latency_ms_p95": 2 * median}
                for way, median in ((serving.ANEW, anew), (serving.APPEND, anew / speedup))
            }
            together = {
                serving.ANEW: 5.0,
                serving.APPEND: 5.0 * speedup,
                "sessions": 2,
                "megabytes_per_session": 4.5,
            }
            results = {"alone": alone, "together": together}
            written.append(filler.write(serving.EXPERIMENT, config, results, version=serving.VERSION))
    return written


def retrieval_cells(filler: Any, *, items: int = 1_000_000) -> list[Record]:
    """Store one run over all kinds of index, in an order that is not that of the table."""
    written = []
    for (kind, effort), (recall, rate) in reversed(POINTS.items()):
        config = {
            "dataset": None,
            "method": kind,
            "effort": effort,
            "items": items,
            "width": 256,
            "queries": 1000,
            "k": 10,
            "repeats": 2,
            "threads": 2,
            "machine": MACHINE,
            "library": None if kind == "exact" else "faiss 1.12",
        }
        results = {
            "kind": kind,
            "effort": effort,
            "items": items,
            "width": 256,
            "queries": 1000,
            "k": 10,
            "recall": recall,
            "queries_per_second": rate,
            "latency_ms_median": 5.0,
            "latency_ms_p95": 6.0,
            "build_seconds": 60.0,
            "index_mb": 1024.0,
            "search_memory_mb": 30.0,
        }
        timings = pd.DataFrame(
            {
                "seconds": [800 / rate, 1200 / rate, 1e-6],
                "users": [1000, 1000, 1],
                "batched": [True, True, False],
            }
        )
        written.append(
            filler.write(
                retrieval.EXPERIMENT, config, results, {"timings": timings}, version=retrieval.VERSION
            )
        )
    return written
