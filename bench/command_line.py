"""How every command behaves: options, log, signals and exit statuses."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from tqdm import tqdm

from bench.options import parse_options
from illmrec.errors import InputError

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130

_OUR_PACKAGES = ("illmrec", "baselines", "bench", "reports")


def run(main: Callable[..., int], *, prog: str, args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Options come from the signature and docstring of ``main`` (see ``bench.options``). An ``InputError``,
    an unknown option included, becomes one ``error: ...`` line on stderr and status 2; Ctrl-C and SIGTERM
    become one line and status 130. Any other exception is a bug and keeps its traceback.

    Args:
        main: The command: typed keyword parameters, a documented docstring, returns an exit status.
        prog: How the command is called, e.g. ``python -m bench.ablation``.
        args: The arguments; None for those of the process.

    Raises:
        SystemExit: With status 0 after ``--help``.
    """
    try:
        with _sigterm_interrupts():
            options = parse_options(main, prog=prog, args=sys.argv[1:] if args is None else args)
            set_up_logging()
            return main(**options)
    except InputError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt:
        print("interrupted: finished cells are kept, the same command resumes", file=sys.stderr)
        return EXIT_INTERRUPTED


def set_up_logging() -> None:
    """Log our packages at INFO and libraries at WARNING to stderr, without tearing progress bars."""
    handler = _BarSafeHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for package in _OUR_PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)


class _BarSafeHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before they kill, end the command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
