"""Whether the tests see small faults in what numbers rest on: protocol, metrics, statistics, keys and splits.

``python tests/reliability/mutants.py`` puts one fault at a time into a module (:mod:`mutations`) and runs the module's
tests in a process of its own; a fault that they do not see has survived. The share of those seen is the mutation score.
Survivors that no test can see, because what is computed stays the same, stand in ``equivalent_mutants.json``, each with
its reason.
"""

from __future__ import annotations

import ast
import gc
import importlib
import importlib.abc
import importlib.util
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from mutation_targets import TARGETS
from mutations import Mutation, mutations

from illmrec.command_line import run
from illmrec.errors import InputError, nearest

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("illmrec", "baselines", "bench", "reports")
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
# What tests import besides our modules, which every process would spend seconds on.
PRELOADED = (
    "pytest", "hypothesis", "hypothesis.strategies", "numpy", "pandas", "pyarrow.parquet", "scipy.stats",
    "scipy.special", "torch", "tqdm", "filelock", "PIL.Image", "ir_measures", "jsonargparse", "safetensors.torch",
    "transformers", "sentence_transformers", "yaml", "psutil", "matplotlib.pyplot", "_hypothesis_pytestplugin",
    "pytest_benchmark.plugin", "anyio.pytest_plugin", "_pytest.unraisableexception", "_pytest.skipping",
    "_pytest.pastebin", "_pytest.recwarn", "_pytest.unittest", "pdb", "platformdirs.pytest_plugin",
    "pyarrow.pandas_compat", "requests", "execnet",
)  # fmt: skip

_LEAST_LIMIT, _LIMIT = 30.0, 10.0  # seconds, and times what the tests take without a fault
_MEMORY = 3 << 30  # bytes on top of what a process has when it begins
_NO_TESTS = 5  # pytest's exit status
_BROKEN = 99


@dataclass(kw_only=True)
class Score:
    """What came of a module's mutants."""

    killed: int = 0
    timed_out: int = 0
    equivalent: int = 0
    survivors: list[str] = field(default_factory=list)

    @property
    def mutants(self) -> int:
        """How many there were; those that ran out of time count among the killed."""
        return self.killed + self.equivalent + len(self.survivors)

    @property
    def share(self) -> float:
        """Share of all that were killed, equivalent ones counted as survivors."""
        return self.killed / max(self.mutants, 1)


@dataclass(frozen=True, kw_only=True)
class _Running:
    mutation: Mutation
    began: float


class _MutatedLoader(SourceFileLoader):
    """Loads a module from a tree in place of its file."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self.tree = tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(ast.fix_missing_locations(self.tree), self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = _MutatedLoader(fullname, str(self.path), self.tree)
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


class _QuickestFirst:
    """A plugin of pytest: notes how long tests take, or runs the quickest first."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))


def main(
    *,
    modules: tuple[str, ...] = tuple(TARGETS),
    sample: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    out: Path | None = None,
    match: str = "",
) -> int:
    """Mutate modules and run their tests; 1 if a mutant survives that is not known to be equivalent.

    Args:
        modules: Those of ``TARGETS``; all by default.
        sample: Mutants of each module, drawn at random; none takes all of them.
        seed: Of the drawing.
        jobs: Mutants at a time.
        out: A file that a JSON line on every mutant is appended to. Mutants that were killed in it stay so, and are not
            tested again.
        match: Take only mutants whose name contains this text.
    """
    for name in modules:
        if name not in TARGETS:
            raise InputError(f"--modules {name}: {nearest(name, TARGETS)}")
    for name in PRELOADED:
        importlib.import_module(name)
    import torch
    from hypothesis import Phase, settings

    torch.set_num_threads(1)
    # The first example that fails is enough, and the same ones are tried for every mutant.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutants", phases=phases, database=None, derandomize=True, deadline=None)
    settings.load_profile("mutants")
    gc.collect()
    gc.freeze()  # what was imported stays in memory that all processes share
    scores = {}
    for name in modules:
        scores[name] = score(name, sample=sample, seed=seed, jobs=jobs, out=out, match=match)
        print(_line(name, scores[name]), flush=True)
        for survivor in scores[name].survivors:
            print(f"  survived: {survivor}", flush=True)
    total = Score(
        killed=sum(one.killed for one in scores.values()),
        timed_out=sum(one.timed_out for one in scores.values()),
        equivalent=sum(one.equivalent for one in scores.values()),
        survivors=[survivor for one in scores.values() for survivor in one.survivors],
    )
    print(_line("all", total))
    return 1 if total.survivors else 0


def score(name: str, *, sample: int | None, seed: int, jobs: int, out: Path | None, match: str = "") -> Score:
    """Return what came of a module's mutants.

    Args:
        name: The module, of ``TARGETS``.
        sample: How many, drawn at random; None for all.
        seed: Of the drawing.
        jobs: How many at a time.
        out: A file that a JSON line on each is appended to.
        match: Take only mutants whose name contains this text.

    Raises:
        InputError: If its tests fail as they are, or the list of equivalents names what does not exist.
    """
    target = TARGETS[name]
    path = ROOT / Path(*name.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = mutations(tree, only=target.only)
    equivalent = equivalents(name)
    unknown = equivalent.keys() - {mutation.name for mutation in found}
    if unknown:
        raise InputError(
            f"{EQUIVALENT.name}: {name} has no mutant {min(unknown)!r}; mend or remove the entry"
        )
    found = [mutation for mutation in found if match in mutation.name]
    if sample is not None:
        # In a drawn order, so that a larger sample holds a smaller one of the same seed.
        found = random.Random(seed).sample(found, len(found))[:sample]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        seconds, took = _undisturbed(name, Path(folder))
        limit = max(_LEAST_LIMIT, _LIMIT * took)
        known = _known(out, name)
        logger.info("%s: %d mutants, tests take %.1f s", name, len(found), took)
        done = [known[mutation.name] for mutation in found if mutation.name in known]
        result = Score(killed=len(done), timed_out=done.count("timed out"))
        left = [mutation for mutation in found if mutation.name not in known]
        for mutation, verdict, elapsed in _verdicts(
            name, path, tree, left, seconds=seconds, limit=limit, jobs=jobs, folder=Path(folder)
        ):
            if verdict != "survived":
                result.killed += 1
                result.timed_out += verdict == "timed out"
            elif mutation.name in equivalent:
                verdict = "equivalent"
                result.equivalent += 1
            else:
                result.survivors.append(f"line {mutation.line}, {mutation.kind}, {mutation.name}")
            if out is not None:
                noted = {
                    "module": name,
                    "line": mutation.line,
                    "kind": mutation.kind,
                    "mutant": mutation.name,
                }
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**noted, "verdict": verdict, "seconds": round(elapsed, 2)}) + "\n")
    return result


def equivalents(name: str) -> dict[str, str]:
    """Return the mutants of a module that compute the same, each with the reason."""
    listed = json.loads(EQUIVALENT.read_text(encoding="utf-8"))
    found: dict[str, str] = listed.get(name, {})
    return found


def _known(out: Path | None, name: str) -> dict[str, str]:
    """Return the mutants of a module that were killed according to a file, with how."""
    lines = out.read_text(encoding="utf-8").splitlines() if out is not None and out.exists() else []
    noted = [json.loads(line) for line in lines]
    return {
        one["mutant"]: one["verdict"]
        for one in noted
        if one["module"] == name and one["verdict"] in ("killed", "timed out")
    }


def _undisturbed(name: str, folder: Path) -> tuple[dict[str, float], float]:
    """Return how long each test of a module takes without a fault, and all of them, in seconds."""
    noted = folder / "seconds.json"
    began = time.monotonic()
    child = os.fork()
    if not child:
        _become_tests(name, folder=folder, seconds={}, noted=noted, finder=None)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status):
        said = (folder / f"{child}.txt").read_text("utf-8", "replace").splitlines()[-1:]
        raise InputError(f"{name}: its tests fail as they are ({' '.join(said)}); mend them first")
    return json.loads(noted.read_text(encoding="utf-8")), time.monotonic() - began


def _verdicts(
    name: str,
    path: Path,
    tree: ast.Module,
    found: Sequence[Mutation],
    *,
    seconds: dict[str, float],
    limit: float,
    jobs: int,
    folder: Path,
) -> Iterator[tuple[Mutation, str, float]]:
    """Yield every mutation with ``killed``, ``timed out`` or ``survived`` and the seconds it took."""
    waiting, running = list(reversed(found)), dict[int, _Running]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutation = waiting.pop()
            child = os.fork()
            if not child:
                mutation.apply()
                _become_tests(name, folder=folder, seconds=seconds, finder=_Finder(name, path, tree))
            running[child] = _Running(mutation=mutation, began=time.monotonic())
        time.sleep(0.01)
        for child, one in list(running.items()):
            elapsed = time.monotonic() - one.began
            if elapsed > limit:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                verdict = "timed out"
            else:
                ended, status = os.waitpid(child, os.WNOHANG)
                if not ended:
                    continue
                verdict = _verdict(os.waitstatus_to_exitcode(status), folder / f"{child}.txt")
            del running[child]
            (folder / f"{child}.txt").unlink(missing_ok=True)
            shutil.rmtree(folder / str(child), ignore_errors=True)
            yield one.mutation, verdict, elapsed


def _verdict(status: int, said: Path) -> str:
    if status in (_NO_TESTS, _BROKEN):
        raise RuntimeError(f"a mutant was not tested: {said.read_text('utf-8', 'replace')}")
    return "survived" if status == 0 else "killed"


def _become_tests(
    name: str,
    *,
    folder: Path,
    seconds: dict[str, float],
    finder: _Finder | None,
    noted: Path | None = None,
) -> None:
    """Run the tests of a module in this process, a forked one, and end it with pytest's exit status."""
    status = _BROKEN
    try:
        os.setsid()
        descriptor = os.open(folder / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT, 0o644)
        for number in (1, 2):
            os.dup2(descriptor, number)
        status = _run_tests(name, folder=folder, seconds=seconds, finder=finder)
        if noted is not None:
            noted.write_text(json.dumps(seconds), encoding="utf-8")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def _run_tests(name: str, *, folder: Path, seconds: dict[str, float], finder: _Finder | None) -> int:
    import pytest

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
    os.chdir(ROOT)
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    for held in [held for held in sys.modules if held.split(".")[0] in (*PACKAGES, "conftest", "programs")]:
        del sys.modules[held]
    sys.path.insert(0, str(ROOT))
    if finder is not None:
        sys.meta_path.insert(0, finder)
    files = [str(Path("tests") / file) for file in TARGETS[name].tests]
    options = [
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:unraisableexception",
        "--tb=no",
        "--assert=plain",
    ]
    temporary = f"--basetemp={folder / str(os.getpid())}"
    return int(pytest.main([*options, temporary, *files], plugins=[_QuickestFirst(seconds)]))


def _line(name: str, found: Score) -> str:
    text = f"{name}: {found.mutants} mutants, {found.killed} killed ({found.timed_out} by time), "
    text += f"{found.equivalent} equivalent, {len(found.survivors)} survived: {found.share:.1%}"
    return text


if __name__ == "__main__":
    raise SystemExit(run(main, prog="python tests/reliability/mutants.py"))
