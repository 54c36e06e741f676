"""Twenty kills at random moments: see ``kills.py``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("kills.py")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_after_a_kill_the_same_command_completes() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--kills", "20"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    first, last = done.stdout.splitlines()[-2:]
    assert first.startswith("20 kills of ") and last.endswith("wrong: 0")
