from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from illmrec.command_line import parse_options, run
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
        ("--max-us 5", "did you mean '--max-users'?"),
        ("--max-users=x", "--max-users: 'x' does not fit INT"),
        ("--max-users=1.5", "--max-users: '1.5' does not fit INT"),
        ("--max-users=", "--max-users: '' does not fit INT"),
        ("--rate x", "--rate: 'x' does not fit NUMBER"),
        ("--overwrite alway", "--overwrite: 'alway' does not fit {always,never}"),
        ("--features image,cff", "--features: 'cff' does not fit {image,cf,text},..."),
        ("--features [image,cff]", "--features: 'cff' does not fit {image,cf,text},..."),
        ("--seeds 1,x", "--seeds: 'x' does not fit INT,..."),
        ("--max-users", "--max-users: expected one argument"),
        ("--max-users --rate 1", "--max-users: expected one argument"),
        ("--progress=no", "--progress"),
        ("--config", "--config: expected one argument"),
        ("--config nowhere.yaml", "nowhere.yaml"),
        ("stray", "unknown argument 'stray': an option begins with --"),
        ("--seeds 0 1", "--seeds: join values by commas, without blanks: --seeds 0,1"),
        ("--seeds=0 1 --max-users 5", "--seeds: join values by commas, without blanks: --seeds 0,1"),
        ("--features image, cf ,text", "without blanks: --features image,cf,text"),
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
    with pytest.raises(InputError, match="missing: --rows"):
        parse()


@pytest.mark.parametrize(
    ("args", "values"),
    [
        ("--seeds 3", {"seeds": (3,)}),
        ("--seeds -1,2", {"seeds": (-1, 2)}),
        ("--seeds [4,5]", {"seeds": (4, 5)}),
        ("--seeds=", {"seeds": ()}),
        ("--features none", {"features": None}),
        ("--max-users None", {"max_users": None}),
        ("--max-users null", {"max_users": None}),
        ("--max-users -3", {"max_users": -3}),
        ("--rate 1e-4", {"rate": 1e-4}),
        ("--progress", {"progress": True}),
        ("--rows 1", {"rows": "1"}),
        ("--rows none", {"rows": "none"}),
        ("--rows [a", {"rows": "[a"}),
        ("--rows a=b,c", {"rows": "a=b,c"}),
        ("--out 5", {"out": Path("5")}),
    ],
)
def test_spellings_of_values(args: str, values: dict) -> None:
    assert parse("--rows", "a", *args.split()) == {**parse("--rows", "a"), **values}


def test_texts_of_a_list_stay_as_they_are() -> None:
    def command(*, names: list[str]) -> int:
        """Do it.

        Args:
            names: Names.
        """
        return 0

    values = parse_options(command, prog=PROG, args=["--names", "1, null,true,a: b,#c,"])
    assert values == {"names": ["1", "null", "true", "a: b", "#c"]}


@pytest.mark.parametrize("name", ["options.yaml", "options.json"])
@pytest.mark.parametrize("separator", ["-", "_"])
def test_the_command_line_wins_over_a_file(tmp_path: Path, name: str, separator: str) -> None:
    path = tmp_path / name
    content = {
        "rows": "b",
        "max_users": 7,
        "seeds": [1, 2],
        "progress": False,
        "out": "x",
        "features": ["cf"],
    }
    content = {key.replace("_", separator): value for key, value in content.items()}
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in content.items())
    path.write_text(json.dumps(content) if name.endswith("json") else lines)
    from_file = {"rows": "b", "max_users": 7, "seeds": (1, 2), "progress": False, "out": Path("x")}
    expected = {**parse("--rows", "b"), **from_file, "features": ["cf"]}
    assert parse("--config", str(path)) == expected
    before = parse("--seeds", "9", "--progress", "--max-users", "none", f"--config={path}")
    assert before == {**expected, "seeds": (9,), "progress": True, "max_users": None}
    assert parse("--config", str(path), "--seeds", "9") == {**expected, "seeds": (9,)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"max-user: 3", "unknown option 'max-user'; did you mean '--max-users'?"),
        (b"max_user: 3", "unknown option 'max_user'; did you mean '--max-users'?"),
        (b"max_users: x", "--max-users: 'x' does not fit INT"),
        (b"features: [cff]", "--features: 'cff' does not fit {image,cf,text},..."),
        (b"progress: 3", "not boolean: 3"),
        (b"seeds: [1", "Problems parsing config"),
        (b"- seeds", "Unexpected config"),
        (b"", "Unexpected config"),
        (b"\xff\xfe", "decode"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path = tmp_path / "options.yaml"
    path.write_bytes(content)
    assert run(main, prog=PROG, args=["--config", str(path), "--rows", "a"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert error.count("\n") == 1
    assert message in error


def test_printed_options_read_back_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--rows", "a", "--seeds=3,4", "--features=cf", "--max-users=none", "--no-progress"]
    with pytest.raises(SystemExit) as caught:
        run(main, prog=PROG, args=[*args, "--print-config"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert "max_users: null" in printed
    assert "config" not in printed
    (tmp_path / "options.yaml").write_text(printed)
    assert parse("--config", str(tmp_path / "options.yaml")) == parse(*args)


@dataclass(frozen=True, kw_only=True)
class Shared:
    """Options of several commands.

    Attributes:
        items: Number of items.
        seeds: Seeds.
    """

    items: int
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("--seeds: give at least one")


def sharing(shared: Shared, *, rows: str = "a-e") -> int:
    """Run with shared options.

    Args:
        shared: Options of several commands.
        rows: Rows.
    """
    return 0


def test_a_dataclass_stands_for_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--items", "3", "--seeds", "1,2", "--rows", "b"]
    options = parse_options(sharing, prog=PROG, args=args)
    assert options == {"shared": Shared(items=3, seeds=(1, 2)), "rows": "b"}
    with pytest.raises(InputError, match="missing: --items"):
        parse_options(sharing, prog=PROG, args=[])
    with pytest.raises(InputError, match="give at least one"):
        parse_options(sharing, prog=PROG, args=["--items=3", "--seeds="])
    with pytest.raises(SystemExit):
        run(sharing, prog=PROG, args=["--help"])
    assert "--items INT Number of items." in " ".join(capsys.readouterr().out.split())


def test_help_shows_every_option_with_text_default_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(main, prog=PROG, args=["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Run the example. It has 100% of the types." in text
    for part in (
        "--rows TEXT Rows of the table, by letter.",
        "--max-users INT Bounds users. (default: none)",
        "--rate NUMBER Share of something, 5% say. (default: 0.5)",
        "--overwrite {always,never} What to do. (default: never)",
        "--seeds INT,... Seeds. (default: 0)",
        "--features {image,cf,text},... Feature types. (default: none)",
        "--out PATH Output folder. (default: reports/out)",
        "--progress, --no-progress Show bars. (default: on)",
        "--config FILE",
        "--print-config",
    ):
        assert part in text
    for noise in ("type:", "Something", "--features+", "[=flags]"):
        assert noise not in text


def test_a_parameter_without_documentation_is_refused() -> None:
    def undocumented(*, rows: str = "a") -> int:
        """Do it."""
        return 0

    with pytest.raises(TypeError, match="'rows' has no entry"):
        parse_options(undocumented, prog=PROG, args=[])


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


def test_an_error_of_a_disk_that_a_library_raises_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for error, said in (
        (OSError(errno.EIO, "Input/output error", "out/a"), "cannot write out/a: Input/output error"),
        (OSError("error closing file"), "cannot write a file: error closing file"),
    ):
        assert run(failing(error), prog=PROG, args=[]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {said}; free some space")
    for bug in (FileNotFoundError(errno.ENOENT, "gone"), ConnectionResetError()):
        with pytest.raises(type(bug)):
            run(failing(bug), prog=PROG, args=[])


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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_real_process_with_one_line(tmp_path: Path, number: int, status: int) -> None:
    started = tmp_path / "started"
    script = tmp_path / "wait.py"
    script.write_text(
        "import signal, sys, time, pathlib\n"
        # Background jobs of a shell inherit an ignored SIGINT.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from illmrec.command_line import run\n"
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
    assert process.returncode == status
    assert errors == "interrupted: finished cells are kept, the same command resumes\n"
