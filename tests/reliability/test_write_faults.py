"""Thirty faults, drawn over all commands: see ``write_faults.py``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("write_faults.py")


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler (cc)"
)
def test_after_a_fault_the_same_command_completes() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--faults", "30"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    last = done.stdout.splitlines()[-1]
    assert last.startswith("30 faults: ") and last.endswith("wrong: 0")
