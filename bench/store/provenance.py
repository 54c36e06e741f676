"""Where a result came from: machine, library versions, commit and command. Imports no torch."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import psutil

import illmrec

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "recbole",
    "faiss-cpu",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
)
"""Distributions whose version can change a number; those that are not installed are left out."""


@functools.cache
def machine() -> dict[str, object]:
    """Return the CPU model, usable cores, memory, GPU names and operating system."""
    return {
        "cpu": _cpu_model(),
        "cores": _usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": _gpu_names(),
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python, illmrec and the installed ``PACKAGES``, without importing them."""
    found = {"python": platform.python_version(), "illmrec": illmrec.__version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hub_commits(config: Mapping[str, Any]) -> dict[str, str]:
    """Return ``hub:OWNER/MODEL`` and its commit for every model of the hub that a cell's configuration names."""
    from illmrec.features.commits import (
        commits_in,  # its package takes time that a reader of results need not spend
    )

    return {f"hub:{name}": commit for name, commit in commits_in(config).items()}


@functools.cache
def git_commit() -> str | None:
    """Return the commit of the running code, with ``+dirty`` after it where tracked files were changed.

    It is read once per process, so that it names the code that was loaded. Outside a checkout of this project
    (installed in site-packages, or without git) it is None: the commit of a repository that merely contains
    the virtual environment would be a wrong answer.
    """
    root = Path(__file__).resolve().parents[2]
    top = _output("git", "-C", str(root), "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if changes else commit


COMMAND: ContextVar[str] = ContextVar("command", default="")
"""The command that a worker computes for; it is stored in place of the worker's own."""


def command() -> str:
    """Return the command line as it can be typed again, without the interpreter's path."""
    if COMMAND.get():
        return COMMAND.get()
    return shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]])


def processes() -> dict[str, int]:
    """Return the number of processes that share the work, if several do.

    It sets the pace of a run and no number in it, so that it is told apart from :func:`machine`, which is part of the
    key of cells that measure the machine.
    """
    number = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    return {"processes": number} if number > 1 else {}


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    if sys.platform == "darwin":
        model = _output("sysctl", "-n", "machdep.cpu.brand_string")
        if model:
            return model
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    listing = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return [name.strip() for name in listing.splitlines()] if listing else []


def _output(*arguments: str) -> str | None:
    """Return the standard output of a program, or None where it is not installed or says it failed."""
    program = shutil.which(arguments[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *arguments[1:]],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
