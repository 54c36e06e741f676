from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from bench.command_line import run
from bench.options import build_parser, parse_options
from illmrec.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PROG = "python -m bench.example"


def main(
    *,
    rows: str,
    max_users: int | None = None,
    rate: float = 0.5,
    overwrite: Literal["always", "never"] = "never",
    seeds: tuple[int, ...] = (0,),
    features: list[Literal["image", "cf", "text"]] | None = None,
    out: Path = Path("reports/out"),
    progress: bool = True,
) -> int:
    """Run the example.

    It has 100% of the types.

    Args:
        rows: Rows of the table,
            by letter.
        max_users: Bounds users.
        rate: Share of something, 5% say.
        overwrite: What to do.
        seeds: Seeds.
        features: Feature types.
        out: Output folder.
        progress: Show bars.

    Returns:
        Something: that is no option.
    """
    return 0


def parse(*args: str) -> dict:
    return parse_options(main, prog=PROG, args=args)


def test_defaults_are_those_of_the_function() -> None:
    assert parse("--rows", "a-e") == {
        "rows": "a-e",
        "max_users": None,
        "rate": 0.5,
        "overwrite": "never",
        "seeds": (0,),
        "features": None,
        "out": Path("reports/out"),
        "progress": True,
    }


def test_values_have_the_types_of_the_function() -> None:
    options = "--rows a --max-users 5 --rate 1 --overwrite always --seeds 1,2,3 --features image,cf"
    values = parse(*options.split(), "--out=x y", "--no-progress")
    assert values == {
        "rows": "a",
        "max_users": 5,
        "rate": 1.0,
        "overwrite": "always",
        "seeds": (1, 2, 3),
        "features": ["image", "cf"],
        "out": Path("x y"),
        "progress": False,
    }
    assert isinstance(values["rate"], float)
    assert parse("--rows", "a", "--max-users", "none")["max_users"] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--max-user 5", "unknown option '--max-user'; did you mean '--max-users'?"),
        ("--max_users 5", "did you mean '--max-users'?"),
        ("--max-users=x", "--max-users: 'x' is not a whole number"),
        ("--rate x", "--rate: 'x' is not a number"),
        ("--overwrite alway", "unknown value 'alway'; did you mean 'always'?"),
        ("--features image,cff", "unknown value 'cff'; did you mean 'cf'?"),
        ("--seeds 1,x", "--seeds: 'x' is not a whole number"),
        ("--max-users", "expected one argument"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(
    args: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(main, prog=PROG, args=["--rows", "a", *args.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_missing_required_option_is_named() -> None:
    with pytest.raises(InputError, match="--rows"):
        parse()


def test_help_shows_every_option_with_text_default_and_choices() -> None:
    text = " ".join(build_parser(main, prog=PROG).format_help().split())
    assert "Run the example. It has 100% of the types." in text
    for part in (
        "--rows TEXT Rows of the table, by letter.",
        "--max-users INT Bounds users. (default: none)",
        "--rate NUMBER Share of something, 5% say. (default: 0.5)",
        "--overwrite {always,never} What to do. (default: never)",
        "--seeds INT,... Seeds. (default: 0)",
        "--features {image,cf,text},...",
        "--progress, --no-progress Show bars. (default: on)",
    ):
        assert part in text
    with pytest.raises(SystemExit) as caught:
        run(main, prog=PROG, args=["--help"])
    assert caught.value.code == 0


def test_a_parameter_without_documentation_is_refused() -> None:
    def undocumented(*, rows: str = "a") -> int:
        """Do it."""
        return 0

    with pytest.raises(TypeError, match="'rows' has no entry"):
        build_parser(undocumented, prog=PROG)


def failing(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        """Fail."""
        raise error

    return command


def test_status_of_the_function_is_that_of_the_command() -> None:
    def command() -> int:
        """Return 1."""
        return 1

    assert run(command, prog=PROG, args=[]) == 1


def test_bad_input_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(InputError("items.csv row 3:\nno title")), prog=PROG, args=[]) == 2
    assert capsys.readouterr().err == "error: items.csv row 3: no title\n"


def test_ctrl_c_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(KeyboardInterrupt()), prog=PROG, args=[]) == 130
    assert capsys.readouterr().err == "interrupted: finished cells are kept, the same command resumes\n"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()), prog=PROG, args=[])


def test_our_log_is_shown_and_that_of_libraries_only_from_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> int:
        """Log."""
        logging.getLogger("bench.example").info("ours")
        logging.getLogger("library").info("noise")
        logging.getLogger("library").warning("trouble")
        return 0

    root = logging.getLogger()
    before = root.handlers[:]
    try:
        assert run(command, prog=PROG, args=[]) == 0
    finally:
        root.handlers[:] = before
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == ["INFO    ours", "WARNING trouble"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_real_process_with_status_130(tmp_path: Path, number: int) -> None:
    started = tmp_path / "started"
    script = tmp_path / "wait.py"
    script.write_text(
        "import signal, sys, time, pathlib\n"
        # Background jobs of a shell inherit an ignored SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from bench.command_line import run\n"
        "def main() -> int:\n"
        "    '''Wait.'''\n"
        f"    pathlib.Path({str(started)!r}).touch()\n"
        "    time.sleep(60)\n"
        "    return 0\n"
        "sys.exit(run(main, prog='wait'))\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not started.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "interrupted: finished cells are kept, the same command resumes\n"
