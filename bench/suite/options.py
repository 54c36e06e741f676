"""Settings as options of a command line, for the experiments that ``bench all`` starts and ``bench list`` plans."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from bench.frames.experiment import Experiment
from bench.harness.settings import Settings

_SHARED = ("out", "overwrite", "track", "progress")
"""Settings that every experiment takes, those on generated vectors too."""


def experiment_options(experiment: Experiment, settings: Settings) -> list[str]:
    """Return the options that ``bench all`` gives an experiment; what the user asks for comes last, and wins."""
    arguments = experiment.extra(preset=settings.preset, dataset=settings.dataset)
    if experiment.settings:
        return arguments + option_list(dataclasses.replace(settings, report=False))
    return arguments + option_list(settings, only=_SHARED)


def option_list(settings: Settings, *, only: Sequence[str] | None = None) -> list[str]:
    """Return the options that give these settings: those that differ from their defaults.

    Args:
        settings: The settings.
        only: Names of the settings to give; None for all.
    """
    options: list[str] = []
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if value != entry.default and (only is None or entry.name in only):
            options += _spelled(f"--{entry.name.replace('_', '-')}", value)
    return options


def _spelled(option: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if isinstance(value, tuple):
        return [option, ",".join(map(str, value))]
    return [option, str(value)]
