"""Ctrl-C while Python still imports what a command needs, which takes seconds, ends it with one line as later does."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_STATUS = 130


def end_until_begun(package: str) -> None:
    """Let Ctrl-C end this process in one line until its command begins, where it is ``python -m`` of a package.

    The package calls this when it is imported. In programs of others that import it nothing changes, and neither does
    it where SIGINT is ignored, as in background jobs of a shell.

    Args:
        package: Its name.
    """
    # So Python calls itself until it has found the module that -m names.
    if sys.argv[:1] != ["-m"] or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    if any(part == package or part.startswith(f"{package}.") for part in sys.orig_argv):
        signal.signal(signal.SIGINT, _end)


def begin() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt`` again: the command begins, and has more to say of it."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    # An exception would pass through libraries that are half imported, and some of them catch all there are. Nothing
    # has been written yet.
    os.write(2, b"interrupted\n")
    os._exit(_STATUS)
