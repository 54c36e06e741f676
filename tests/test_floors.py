"""Imports only go down: every module stands on a floor, and no floor imports from one above it.

Imports are read from the source, so a lazy import inside a function counts as much as one at the top, and so
do ``import_module("...")`` and ``"package.module:Class"`` strings, through which a registry imports.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("illmrec", "baselines", "bench", "reports")


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Modules that stand on one floor, and what they must not import.

    Each name stands for a module and everything below it, with a trailing ``!`` for the module alone. What
    ``allowed`` covers may be imported although ``forbidden`` covers it, too.
    """

    name: str
    modules: tuple[str, ...]
    forbidden: tuple[str, ...]
    allowed: tuple[str, ...] = ()


BASE = (
    "illmrec.errors", "illmrec.escaping", "illmrec.network_folders", "illmrec.temporary", "illmrec.files",
    "illmrec.checksums", "illmrec.claims", "illmrec.locks", "illmrec.zips", "illmrec.yaml_files",
    "illmrec.parquet_files", "illmrec.interrupts", "illmrec.command_line",
)  # fmt: skip
MODEL_SIDE = (
    "illmrec.prompts",
    "illmrec.model",
    "illmrec.ranking",
    "illmrec.states",
    "illmrec.assembly",
    "illmrec.training",
    "illmrec.recommender",
    "illmrec.saved_model",
    "illmrec.recommend",
    "illmrec.retrieval",
    "illmrec.stored_models",
    "illmrec.model_card",
    "illmrec.exported",
    "illmrec.export",
    "illmrec.endpoint",
    "illmrec.serve",
    "illmrec.session_users",
    "illmrec.sessions",
)

FLOORS = (
    Floor(
        name="1 base",
        modules=("illmrec!", *BASE, "illmrec.data"),
        forbidden=("torch", "transformers", "recbole", *MODEL_SIDE, "illmrec.features", *PACKAGES[1:]),
    ),
    Floor(
        name="1 features",
        modules=("illmrec.features",),
        forbidden=("recbole", *MODEL_SIDE, *PACKAGES[1:]),
    ),
    Floor(name="2 model side", modules=MODEL_SIDE, forbidden=("recbole", *PACKAGES[1:])),
    Floor(name="3 baselines", modules=("baselines",), forbidden=("bench", "reports")),
    Floor(name="4 bench", modules=("bench",), forbidden=("reports",)),
    Floor(
        name="5 reports",
        modules=("reports",),
        forbidden=("torch", "transformers", "recbole", "illmrec", "baselines"),
        allowed=BASE,
    ),
)

ROOMS = {
    "bench": (
        "store", "trackers", "protocol", "frames", "meters", "cluster", "harness", "changes", "suite", "checks",
    ),
    "reports": (
        "sections", "drawing", "wording", "paper", "exhibits", "claims", "page",
    ),
}  # fmt: skip
"""The rooms of a floor from the lowest to the highest; the top of its folder stands above all of them."""

DYNAMIC_NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)*(?::\w+)?")


def covers(patterns: tuple[str, ...], module: str) -> bool:
    """Tell whether one of the patterns names this module or, without ``!``, something above it."""
    return any(
        module == pattern.removesuffix("!")
        or (not pattern.endswith("!") and module.startswith(f"{pattern}."))
        for pattern in patterns
    )


def imported_names(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything a module's source imports, at any depth; ``a.b`` for
    ``from a import b``.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parent = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parent, base] if base else parent)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__") and node.args:
                argument = node.args[0]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield node.lineno, argument.value
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and ":" in node.value
            and DYNAMIC_NAME.fullmatch(node.value)
        ):
            yield node.lineno, node.value.partition(":")[0]


def violations(root: Path) -> list[str]:
    """Return one line per import that goes up, and one per module that stands on no floor or on two."""
    found: list[str] = []
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        relative = path.relative_to(root)
        is_package = path.name == "__init__.py"
        module = ".".join((relative.parent if is_package else relative.with_suffix("")).parts)
        floors = [floor for floor in FLOORS if covers(floor.modules, module)]
        if len(floors) != 1:
            found.append(f"{relative}: stands on {len(floors)} floors; give it one in tests/test_floors.py")
            continue
        floor = floors[0]
        wrong = {
            (line, name)
            for line, name in imported_names(path.read_text(), module, is_package=is_package)
            if covers(floor.forbidden, name) and not covers(floor.allowed, name)
        }
        found += [
            f"{relative}:{line}: floor '{floor.name}' must not import {name}" for line, name in sorted(wrong)
        ]
    return found


def room_violations(root: Path) -> list[str]:
    """Return one line per import from a room to one above it, and one per folder that is no room."""
    found: list[str] = []
    for package, rooms in ROOMS.items():
        order = {name: place for place, name in enumerate(rooms)}
        for path in sorted((root / package).rglob("*.py")):
            inside = path.relative_to(root / package).parts
            own = inside[0] if len(inside) > 1 else None
            if own is not None and own not in order:
                found.append(f"{path.relative_to(root)}: '{own}' is no room; name it in tests/test_floors.py")
                continue
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            for line, name in imported_names(path.read_text(), module, is_package=path.name == "__init__.py"):
                parts = name.split(".")
                if parts[0] != package or own is None or len(parts) < 2 or parts[1] == own:
                    continue
                if order.get(parts[1], len(order)) >= order[own]:
                    found.append(f"{path.relative_to(root)}:{line}: room '{own}' must not import {name}")
    return found


def loaded_after(statement: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def all_modules(package: str) -> list[str]:
    """Return the dotted names of all modules of a package."""
    paths = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def test_no_import_goes_up() -> None:
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_no_import_goes_up_between_rooms() -> None:
    found = room_violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_the_top_of_bench_is_the_list_of_experiments() -> None:
    from bench.suite.catalogue import experiments

    names = {path.stem for path in (ROOT / "bench").glob("*.py")} - {"__init__", "__main__"}
    assert names == {experiment.name for experiment in experiments()}


def test_an_import_between_rooms_that_goes_up_is_found(tmp_path: Path) -> None:
    write(tmp_path, "bench/store/a.py", "from bench.harness import runner")
    write(tmp_path, "bench/harness/b.py", "import bench.ablation\nfrom bench.store import a\nimport torch")
    write(tmp_path, "bench/ablation.py", "from bench.harness import b")
    write(tmp_path, "bench/attic/c.py")
    write(tmp_path, "reports/page/d.py", "from reports.build import e\nfrom reports.drawing import f")
    assert room_violations(tmp_path) == [
        "bench/attic/c.py: 'attic' is no room; name it in tests/test_floors.py",
        "bench/harness/b.py:1: room 'harness' must not import bench.ablation",
        "bench/store/a.py:1: room 'store' must not import bench.harness.runner",
        "reports/page/d.py:1: room 'page' must not import reports.build.e",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "import illmrec",
        f"import {', '.join(BASE)}",
        "import illmrec.data",
        "import bench.store.store",
        "import reports",
    ],
)
def test_light_imports_leave_torch_alone(statement: str) -> None:
    heavy = {"torch", "transformers", "sentence_transformers", "recbole"}
    assert not loaded_after(statement) & heavy


def test_reports_load_nothing_of_the_method() -> None:
    loaded = loaded_after("import " + ", ".join(all_modules("reports")))
    assert not loaded & {"torch", "transformers", "recbole"}
    method = {name for name in loaded if name.split(".")[0] in ("illmrec", "baselines")}
    assert method <= {"illmrec", *BASE}


def test_commands_start_without_what_runs_or_draws() -> None:
    """``--help`` and a typing error wait for all that is imported: half of it was the code of models and figures."""
    commands = sorted(f"bench.{path.stem}" for path in (ROOT / "bench").glob("[!_]*.py"))
    loaded = loaded_after("import " + ", ".join([*commands, "illmrec.serve", "illmrec.recommend"]))
    assert "torch" in loaded
    assert not loaded & {
        "transformers.modeling_utils",
        "matplotlib",
        "optuna",
        "scipy.optimize",
        "torch._dynamo",
    }


def test_illmrec_does_not_load_recbole_or_upper_floors() -> None:
    loaded = loaded_after("import " + ", ".join(all_modules("illmrec")))
    assert not loaded & {"recbole", "baselines", "bench", "reports"}


def write(root: Path, path: str, source: str = "") -> None:
    """Write a module of a synthetic tree."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(source)


@pytest.mark.parametrize(
    ("path", "source", "imported"),
    [
        ("illmrec/data/a.py", "import illmrec.model.engine", "illmrec.model.engine"),
        ("illmrec/data/a.py", "def f():\n    import torch.nn", "torch.nn"),
        ("illmrec/data/__init__.py", "from ..training import train", "illmrec.training.train"),
        ("illmrec/data/a/b.py", "from ...model import engine", "illmrec.model.engine"),
        ("illmrec/__init__.py", "from . import recommender", "illmrec.recommender"),
        ("illmrec/features/a.py", "from illmrec import prompts", "illmrec.prompts"),
        (
            "illmrec/model/a.py",
            "class A:\n    def f(self):\n        from recbole.config import Config",
            "recbole",
        ),
        ("illmrec/training.py", "x = lambda: __import__('bench.store.cell')", "bench.store.cell"),
        (
            "illmrec/prompts/a.py",
            "METHODS = {'tallrec': 'baselines.text_prompts:TALLRec'}",
            "baselines.text_prompts",
        ),
        ("baselines/a.py", "from importlib import import_module as m\nimport bench", "bench"),
        (
            "baselines/a.py",
            "import importlib\nimportlib.import_module('bench.store.store')",
            "bench.store.store",
        ),
        ("bench/a.py", "if True:\n    import reports.html as h", "reports.html"),
        ("reports/a.py", "try:\n    import torch\nexcept ImportError:\n    torch = None", "torch"),
        ("reports/a.py", "from illmrec import files, model", "illmrec.model"),
        ("reports/a.py", "from baselines import *", "baselines.*"),
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path: Path, path: str, source: str, imported: str) -> None:
    write(tmp_path, path, source)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")
    assert f"must not import {imported}" in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("illmrec/data/a.py", "from . import b\nfrom ..errors import InputError\nimport numpy"),
        ("illmrec/features/a.py", "import torch\nfrom illmrec.data import Dataset"),
        ("illmrec/model/a.py", "import torch\nfrom illmrec.features.table import FeatureTable"),
        ("illmrec/model/a.py", 'x = "bench.store.cell is only mentioned here: in prose"'),
        ("baselines/a.py", "import recbole\nfrom illmrec.prompts import Text"),
        ("bench/a.py", "import torch\nfrom baselines import text_prompts"),
        (
            "reports/a.py",
            "from illmrec import errors\nfrom illmrec.errors import InputError\nimport bench.store.store",
        ),
    ],
)
def test_an_import_that_goes_down_is_fine(tmp_path: Path, path: str, source: str) -> None:
    write(tmp_path, path, source)
    assert violations(tmp_path) == []


def test_a_module_on_no_floor_is_found(tmp_path: Path) -> None:
    write(tmp_path, "illmrec/__init__.py")
    write(tmp_path, "illmrec/attic.py")
    write(tmp_path, "illmrec/trainings/loop.py")
    found = violations(tmp_path)
    assert [line.partition(":")[0] for line in found] == ["illmrec/attic.py", "illmrec/trainings/loop.py"]
    assert all("stands on 0 floors" in line for line in found)
