"""Ctrl-C before a command begins, while Python imports: one line and status 130, in our own commands alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "bench doctor", "bench list", "bench.comparison", "bench.checks", "bench.meters.load", "illmrec.data list",
    "illmrec.features extract", "illmrec.recommend", "illmrec.export", "reports",
)  # fmt: skip


def interrupted(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run Python, send SIGINT while it imports numpy or torch, and return its status and what it wrote to stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    reached = folder / "reached"
    for name in ("numpy", "torch"):
        (folder / f"{name}.py").write_text(
            f"import pathlib, time\npathlib.Path({str(reached)!r}).touch()\ntime.sleep(60)\n"
        )
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        # Background jobs of a shell inherit an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while not reached.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert reached.exists()
    return process.returncode, errors


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_a_command_imports_is_one_line(command: str, tmp_path: Path) -> None:
    said = interrupted(["-m", *command.split()], tmp_path / "early")
    assert said == (130, "interrupted\n")


def test_programs_of_others_that_import_us_keep_their_own_handling(tmp_path: Path) -> None:
    package = tmp_path / "early" / "theirs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import bench, illmrec, reports\n")
    (package / "__main__.py").write_text(
        "try:\n    import numpy\nexcept KeyboardInterrupt:\n    raise SystemExit(7)\n"
    )
    assert interrupted(["-m", "theirs"], tmp_path / "early") == (7, "")


def test_a_command_that_has_begun_says_what_is_kept(tmp_path: Path) -> None:
    package = tmp_path / "early" / "begun"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from illmrec.interrupts import end_until_begun\nend_until_begun('begun')\n"
    )
    (package / "__main__.py").write_text(
        "import sys\n"
        "sys.path.remove(sys.path[1])\n"  # there is no numpy to import yet
        "from illmrec.command_line import run\n"
        "def main() -> int:\n"
        "    '''Import.'''\n"
        f"    sys.path.insert(0, {str(tmp_path / 'early')!r})\n"
        "    sys.modules.pop('numpy')\n"
        "    import numpy\n"
        "    return 0\n"
        "sys.exit(run(main, prog='begun', interrupted='files are whole'))\n"
    )
    assert interrupted(["-m", "begun"], tmp_path / "early") == (130, "interrupted: files are whole\n")
