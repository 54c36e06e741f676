"""The locks: every package at one version with the hashes of its files, and another file is not installed."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@pytest.fixture(scope="module")
def noxfile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("noxfile_under_test", ROOT / "noxfile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("version", PYTHONS)
def test_every_package_has_hashes_and_the_constraints_hold_the_same_versions(
    noxfile: ModuleType, version: str
) -> None:
    name = f"python-{version}.txt"
    checked = (ROOT / "locks" / "hashes" / name).read_text(encoding="utf-8")
    found = noxfile.entries(checked)
    assert len(found) > 100 and not any(noxfile.OF_TORCH.match(name) for name in found)
    for text in found.values():
        for entry in re.split(r"\n(?=\S)", text):
            first, *hashes = entry.replace("\\\n", "\n").splitlines()
            assert re.match(r"[\w.-]+==\S+( ; .*)?$", first.strip()), first
            assert hashes and all(HASH.fullmatch(line.strip()) for line in hashes), entry
    assert noxfile.without_hashes(checked) == (ROOT / "locks" / name).read_text(encoding="utf-8")


def test_what_is_installed_apart_has_hashes(noxfile: ModuleType) -> None:
    found = noxfile.entries(noxfile.APART.read_text(encoding="utf-8"))
    for requirement in (noxfile.EMBEDDED_LLM, noxfile.RECBOLE):
        entry = found[requirement.partition("==")[0]]
        assert entry.startswith(f"{requirement} ") and HASH.search(entry)


def test_entries_of_several_versions_stay_together(noxfile: ModuleType) -> None:
    text = 'A_b==1 ; python_version < "3" \\\n    --hash=sha256:00\nc==1\n'
    text += "a-b==2 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n"
    assert noxfile.entries(text) == {
        "a-b": 'A_b==1 ; python_version < "3" \\\n    --hash=sha256:00\na-b==2 \\\n    --hash=sha256:11 \\\n'
        "    --hash=sha256:22",
        "c": "c==1",
    }
    assert noxfile.without_hashes(text) == 'A_b==1 ; python_version < "3"\nc==1\na-b==2\n'


def wheel(folder: Path) -> Path:
    """Write a wheel with one module by hand."""
    path = folder / "sample_of_locks-1.0-py3-none-any.whl"
    files = {
        "sample_of_locks.py": b"X = 1\n",
        "sample_of_locks-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: sample-of-locks\nVersion: 1.0\n",
        "sample_of_locks-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "sample_of_locks-1.0.dist-info/RECORD"
    lines = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for name, data in files.items()
    ]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(record, "\n".join([*lines, f"{record},,"]) + "\n")
    return path


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    """As ``noxfile.install_checked`` calls pip, on a folder in place of an index."""
    digits = hashlib.sha256(wheel(tmp_path).read_bytes()).hexdigest()
    changed = ("0" if digits[0] != "0" else "1") + digits[1:]
    for given, refused in ((digits, False), (changed, True)):
        (tmp_path / "checked.txt").write_text(f"sample-of-locks==1.0 \\\n    --hash=sha256:{given}\n")
        target = tmp_path / given[:4]
        options = ["--no-index", "--find-links", str(tmp_path), "--target", str(target)]
        checked = ["--require-hashes", "--no-deps", "--requirement", str(tmp_path / "checked.txt")]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--isolated", "install", *options, *checked],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode != 0) == refused, done.stderr
        assert (target / "sample_of_locks.py").exists() != refused
        assert ("DO NOT MATCH THE HASHES" in done.stderr) == refused


class Refused(Exception):
    """What a session raises by ``error``."""


class Session:
    """A session of nox that only refuses."""

    def error(self, said: str) -> None:
        raise Refused(said)


@pytest.mark.parametrize(
    ("resolved", "asked"),
    [
        (["toolz", "PyYAML", "nvidia-cublas", "illmrec"], {"toolz", "pyyaml", "numpy"}),
        (["toolz", "made-up"], None),
    ],
)
def test_what_pip_chose_is_installed_by_its_entries_and_nothing_else(
    noxfile: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resolved: list[str],
    asked: set[str] | None,
) -> None:
    calls = []

    def pip_install(session: object, *arguments: str, environment: object) -> None:
        calls.append(arguments)
        if "--dry-run" in arguments:
            found = [{"metadata": {"name": name, "version": "1"}} for name in resolved]
            report = Path(arguments[arguments.index("--report") + 1])
            report.write_text(json.dumps({"install": found}), encoding="utf-8")

    monkeypatch.setattr(noxfile, "pip_install", pip_install)
    monkeypatch.setattr(noxfile, "interpreter_output", lambda *arguments: "numpy pip torch")  # what is there
    environment = noxfile.Environment(tmp_path, held=(noxfile.LOCKS / "python-3.11.txt",))
    assert environment.hashes == noxfile.HASHES / "python-3.11.txt"
    assert noxfile.Environment(tmp_path, held=(tmp_path / "lowest-versions.txt",)).hashes is None
    if asked is None:
        with pytest.raises(Refused, match=r"locks/hashes/python-3.11.txt lacks made-up: run nox -s lock"):
            noxfile.install_checked(Session(), environment, "--editable", ".")
        return
    noxfile.install_checked(Session(), environment, "--editable", ".")
    assert calls[0][-2:] == ("--editable", ".") and {"--require-hashes", "--no-deps"} <= set(calls[1])
    given = noxfile.entries(Path(calls[1][-1]).read_text(encoding="utf-8"))
    assert given.keys() == asked and all("--hash=sha256:" in entry for entry in given.values())
