"""What people get from a wheel: everything that programs read is in it, and they run far from the clone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("illmrec", "baselines", "bench", "reports")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the clone."""
    folder = tmp_path_factory.mktemp("dist")
    arguments = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_file_that_is_read(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    wanted = {name for name in tracked if not name.startswith("reports/gallery/")}
    assert wanted <= names
    assert not [name for name in names if name.startswith(("tests/", "reports/gallery/", "reports/out/"))]


@pytest.mark.slow
def test_programs_of_the_wheel_run_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", str(wheel)], check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # Dependencies are those of this environment; its editable install of the project is not followed from here.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*arguments: str) -> str:
        plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            [str(python), *arguments], cwd=elsewhere, env=plain, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    where = run("-c", "import illmrec, bench, reports; print(bench.__file__)")
    assert Path(where).is_relative_to(environment)
    small = ("--preset", "smoke", "--methods", "title,illmrec", "--lengths", "2", "--no-progress")
    run("-m", "bench.efficiency", *small, "--no-report")
    run("-m", "reports")
    assert (elsewhere / "reports" / "out" / "index.html").is_file()
