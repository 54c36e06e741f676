"""Which experiments there are: every table in ``bench.frames`` that says what experiment it is of."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache

import bench.frames
from bench.frames.experiment import Experiment
from illmrec.errors import InputError, nearest


@cache
def experiments() -> tuple[Experiment, ...]:
    """Return all experiments in the order of ``bench all``."""
    modules = (
        importlib.import_module(f"{bench.frames.__name__}.{found.name}")
        for found in pkgutil.iter_modules(bench.frames.__path__)
    )
    declared = [module.ABOUT for module in modules if hasattr(module, "ABOUT")]
    return tuple(sorted(declared, key=lambda experiment: (experiment.place, experiment.name)))


def chosen(names: Sequence[str]) -> list[Experiment]:
    """Return experiments by name in the order of ``bench all``, each once; all of them where no name is given.

    Raises:
        InputError: If there is no such experiment, with the nearest valid name.
    """
    known = [experiment.name for experiment in experiments()]
    for name in names:
        if name not in known:
            raise InputError(f"--experiments {name}: unknown experiment: {nearest(name, known)}")
    return [experiment for experiment in experiments() if not names or experiment.name in names]
