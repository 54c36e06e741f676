from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import provenance

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def fresh_commit():
    provenance.git_commit.cache_clear()
    yield
    provenance.git_commit.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_commit: None) -> Path:
    """A repository whose bench/store/provenance.py is where the module believes to be."""
    code = tmp_path / "bench" / "store" / "provenance.py"
    code.parent.mkdir(parents=True)
    code.write_text("first\n")
    monkeypatch.setattr(provenance, "__file__", str(code))
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit_all(folder: Path) -> str:
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_commit_of_a_clean_checkout(checkout: Path) -> None:
    assert provenance.git_commit() is None
    commit = commit_all(checkout)
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() == commit


def test_changed_code_is_marked(checkout: Path) -> None:
    commit = commit_all(checkout)
    (checkout / "bench" / "store" / "provenance.py").write_text("second\n")
    assert provenance.git_commit() == f"{commit}+dirty"


def test_a_repository_around_the_installed_package_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_commit: None
) -> None:
    code = tmp_path / "venv" / "site-packages" / "bench" / "store" / "provenance.py"
    code.parent.mkdir(parents=True)
    code.write_text("installed\n")
    commit_all(tmp_path)
    monkeypatch.setattr(provenance, "__file__", str(code))
    assert provenance.git_commit() is None


def test_no_git_no_commit(monkeypatch: pytest.MonkeyPatch, fresh_commit: None) -> None:
    monkeypatch.setattr(provenance.shutil, "which", lambda program: None)
    assert provenance.git_commit() is None


def test_machine_and_versions_are_json() -> None:
    machine = json.loads(json.dumps(provenance.machine()))
    assert machine.keys() == {"cpu", "cores", "memory_gb", "gpus", "os", "architecture"}
    assert machine["cpu"] and machine["cores"] >= 1
    versions = json.loads(json.dumps(provenance.versions()))
    assert {"python", "illmrec", "torch", "numpy", "transformers"} <= versions.keys()


def test_command_is_what_was_typed(tmp_path: Path) -> None:
    code = "from bench.store.provenance import command; print(command())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--name", "a b"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{Path(sys.executable).name} -c '{code}' --name 'a b'"


def test_store_and_runner_do_not_import_torch() -> None:
    code = "import sys, bench.store.store, bench.harness.runner, illmrec.command_line; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
