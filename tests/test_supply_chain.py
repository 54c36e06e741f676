"""What the packages may not do: run code that comes with data or models, or do anything while they are imported."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("illmrec", "baselines", "bench", "reports")

UNSAFE_CALLS = (
    "eval", "exec", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "os.system",
    "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle", "pandas.read_pickle", "joblib.load", "shelve.open",
)  # fmt: skip

WATCHED = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn",
    "socket.connect", "socket.getaddrinfo", "urllib.Request",
)  # fmt: skip
"""Audit events of starting a program and of the network."""

GENERATORS = ("ast", "collections", "dataclasses", "enum", "functools", "typing")
"""Modules of the standard library that write code for whoever declares a class by them, or only parse it."""

IMPORT_ALL = """
import importlib, json, os, pkgutil, sys
watched, packages, generators = map(json.loads, sys.argv[1:4])
seen = []

def text_run_for_us(filename):
    # Code that is in no file, run or compiled because one of our modules says so while it is imported: not because of
    # a library that it imports, and not by what declares classes.
    if os.path.isfile(filename):
        return None
    frame = sys._getframe(2)
    if frame.f_globals.get("__name__", "").partition(".")[0] in generators:
        return None
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] in packages:
            return f"{name}, line {frame.f_lineno}"
        if frame.f_code.co_name == "<module>":
            return None
        frame = frame.f_back
    return None

def hook(event, arguments):
    if event in watched:
        seen.append(event)
    elif event in ("exec", "compile"):
        filename = arguments[0].co_filename if event == "exec" else arguments[1]
        where = text_run_for_us(os.fsdecode(filename or ""))
        if where:
            seen.append(f"{event} of a text: {where}")

sys.addaudithook(hook)
for package in packages:
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, package + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                print("left out:", module.name, error, file=sys.stderr)
print(json.dumps(seen))
"""


def calls(source: str) -> Iterator[tuple[int, str, ast.Call]]:
    """Yield line, dotted name and node of every call in a source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def unsafe(source: str) -> list[str]:
    """Return what a source does that may run code it was given, as ``line: what``."""
    found = []
    for line, name, node in calls(source):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in UNSAFE_CALLS:
            found.append(f"{line}: {name}")
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(f"{line}: torch.load without weights_only=True")
        for option, unless in (("trust_remote_code", "False"), ("allow_pickle", "False"), ("shell", "False")):
            if given.get(option, unless) != unless:
                found.append(f"{line}: {option}={given[option]}")
        if name == "yaml.load" and "safe" not in given.get("Loader", "").lower():
            found.append(f"{line}: yaml.load without a safe loader")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_runs_code_that_it_was_given(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{what}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for what in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(command, shell=True)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
    ],
)
def test_what_would_is_found(source: str) -> None:
    assert unsafe(source)


def done_at_import(packages: Sequence[str], folder: Path) -> list[str]:
    """Return what packages below a folder do while all their modules are imported that they may not do."""
    arguments = [json.dumps(value) for value in (WATCHED, packages, GENERATORS)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=folder,
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_importing_runs_no_program_and_no_text_and_asks_no_network() -> None:
    assert done_at_import(PACKAGES, ROOT) == []


def test_what_is_run_at_import_is_found(tmp_path: Path) -> None:
    package = tmp_path / "sample"
    package.mkdir()
    sources = {
        "__init__": "",
        "declares": (
            "import dataclasses, typing, collections\n"
            "@dataclasses.dataclass(frozen=True, order=True)\nclass A:\n    x: int = 0\n"
            "class B(typing.NamedTuple):\n    y: int\n"
            "C = collections.namedtuple('C', 'z')\n"
        ),
        "imports": "import timeit, decimal, argparse\n",
        "runs_exec": "\nexec('x = 1')\n",
        "runs_eval": "x = eval('1 + 1')\n",
        "compiles": "x = compile('1', '<text>', 'eval')\n",
        "through_a_library": "import timeit\ntimeit.timeit('1', number=1)\n",
        "in_a_function": "def f():\n    exec('x = 1')\nf()\n",
        "starts": "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])\n",
        "asks": "import socket\ntry:\n    socket.getaddrinfo('localhost', 1)\nexcept OSError:\n    pass\n",
    }
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source, encoding="utf-8")
    found = done_at_import(["sample"], tmp_path)
    texts = {what.partition(": ")[2] for what in found if " of a text: " in what}
    assert texts == {
        "sample.runs_exec, line 2", "sample.runs_eval, line 1", "sample.compiles, line 1",
        "sample.through_a_library, line 2", "sample.in_a_function, line 2",
    }  # fmt: skip
    assert {what for what in found if " of a text: " not in what} == {
        "subprocess.Popen",
        "socket.getaddrinfo",
    }
