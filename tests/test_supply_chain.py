"""What the packages may not do: run code that comes with data or models, or do anything while they are imported."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
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

IMPORT_ALL = """
import importlib, json, pkgutil, sys
watched, seen = set(json.loads(sys.argv[1])), []
sys.addaudithook(lambda event, arguments: seen.append(event) if event in watched else None)
for package in json.loads(sys.argv[2]):
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


def test_importing_runs_no_program_and_asks_no_network() -> None:
    arguments = [json.dumps(WATCHED), json.dumps(PACKAGES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=ROOT,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [], done.stdout + done.stderr
