"""How every command behaves: options from a typed, documented function, log, signals and exit statuses."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import itertools
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn, TextIO, Union, get_args, get_origin

import docstring_parser
import jsonargparse
from tqdm import tqdm

from illmrec.errors import InputError, nearest
from illmrec.escaping import for_terminal
from illmrec.files import disk_error, is_of_disk
from illmrec.interrupts import begin
from illmrec.temporary import remove_abandoned
from illmrec.yaml_files import parsed_yaml

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

_OUR_PACKAGES = ("illmrec", "baselines", "bench", "reports")
_METAVARS: dict[Any, str] = {str: "TEXT", int: "INT", float: "NUMBER", Path: "PATH"}


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A command as it was called, so that another process can be told to run the same.

    Attributes:
        module: The module that holds its function ``main``.
        args: Its arguments.
    """

    module: str
    args: tuple[str, ...]


_INVOCATION: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def invocation() -> Invocation | None:
    """Return the command that is running, or None outside of any."""
    return _INVOCATION.get()


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which ends a command as Ctrl-C does."""


def run(
    main: Callable[..., int],
    *,
    prog: str,
    args: Sequence[str] | None = None,
    interrupted: str = "finished cells are kept, the same command resumes",
) -> int:
    """Run a command and return its exit status.

    Options come from the signature and docstring of ``main`` (see ``parse_options``). An ``InputError``,
    an unknown option included, or an error of a disk becomes one ``error: ...`` line on stderr and status 2;
    Ctrl-C becomes one line and status 130, SIGTERM one and 143. Any other exception is a bug and keeps its traceback.
    What killed commands have left in the system's folder for temporary files is removed.

    Args:
        main: The command: typed keyword parameters, a documented docstring, returns an exit status.
        prog: How the command is called, e.g. ``python -m bench.ablation``.
        args: The arguments; None for those of the process.
        interrupted: What is said where it was interrupted: what is kept, and what the same command does.

    Raises:
        SystemExit: With status 0 after ``--help`` and ``--print-config``.
    """
    given = tuple(sys.argv[1:] if args is None else args)
    named = prog.removeprefix("python -m ") if main.__module__ == "__main__" else main.__module__
    token = _INVOCATION.set(Invocation(module=named, args=given))
    try:
        begin()
        with _sigterm_interrupts(), contextlib.redirect_stdout(typing.cast(TextIO, _Printed(sys.stdout))):
            options = parse_options(main, prog=prog, args=given)
            set_up_logging()
            remove_abandoned(Path(tempfile.gettempdir()))
            return main(**options)
    except InputError as error:
        print(f"error: {for_terminal(' '.join(str(error).splitlines()))}", file=sys.stderr)
        return EXIT_INPUT
    except KeyboardInterrupt as interrupt:
        print(f"interrupted: {interrupted}" if interrupted else "interrupted", file=sys.stderr)
        return EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
    except Exception as error:
        # What reads and writes says more; this is for what libraries write by themselves.
        if not is_of_disk(error):
            raise
        print(f"error: {disk_error(getattr(error, 'filename', None) or 'a file', error)}", file=sys.stderr)
        return EXIT_INPUT
    finally:
        _INVOCATION.reset(token)


def parse_options(main: Callable[..., Any], *, prog: str, args: Sequence[str]) -> dict[str, Any]:
    """Parse the arguments of a command into the keyword arguments of its function.

    ``max_users`` becomes ``--max-users``. Types are those of jsonargparse, among them str, int, float, Path,
    ``Literal`` (a choice), bool (``--x`` and ``--no-x``), list or tuple (values joined by commas) and
    ``T | None`` ("none" gives None). A parameter without a default is required; one whose type is a dataclass
    stands for its fields. Help comes from the docstring, where each parameter or field needs its entry.
    ``--config FILE`` reads options from YAML or JSON, and those on the command line win;
    ``--print-config`` writes such a file to stdout.

    Args:
        main: The function.
        prog: How the command is called, e.g. ``python -m bench.ablation``.
        args: The arguments, without the program's name.

    Raises:
        InputError: If an option is unknown (with the nearest valid one) or missing, or a value does not fit.
        SystemExit: With status 0 after ``--help`` and ``--print-config``.
        TypeError: If the function cannot be turned into options.
    """
    parser = _Parser(main, prog=prog)
    values = parser.parse_args(parser.spelled(args))
    values.pop("config")
    if values.pop("print_config"):
        print(parser.dump(values, skip_unset=False), end="")
        raise SystemExit(0)
    options = values.as_dict()
    for name, kind in parser.dataclasses.items():
        options[name] = kind(**{field.name: options.pop(field.name) for field in dataclasses.fields(kind)})
    return options


class _Parser(jsonargparse.ArgumentParser):
    """The parser of one command, whose errors are one line."""

    def __init__(self, main: Callable[..., Any], *, prog: str) -> None:
        documentation = _documentation(main)
        super().__init__(
            prog=prog,
            description=documentation.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            print_config=None,
        )
        self.dataclasses: dict[str, Any] = {}
        self.hints: dict[str, Any] = {"--config": Path}  # of the options that take a value
        self.never_none: dict[str, str] = {}  # how a value is written, by name of the parameter
        self.flags = ["--help", "--print-config"]
        self._add_options(main, documentation)
        text = "Read options from a YAML or JSON file; those on the command line win."
        self.add_argument("--config", action="config", metavar="FILE", help=text)
        text = "Print all options as such a file and exit."
        self.add_argument("--print-config", action="store_true", help=text)

    def _add_options(self, source: Callable[..., Any], documentation: docstring_parser.Docstring) -> None:
        texts = {entry.arg_name: entry.description or "" for entry in documentation.params}
        hints = typing.get_type_hints(source)
        for name, parameter in inspect.signature(source).parameters.items():
            if dataclasses.is_dataclass(hints[name]):
                self.dataclasses[name] = hints[name]
                self._add_options(hints[name], _documentation(hints[name]))
            elif name in texts:
                self._add_option(_option(name), hints[name], parameter.default, texts[name])
            else:
                raise TypeError(f"{source.__name__}: '{name}' has no entry in the docstring")

    def _add_option(self, option: str, hint: Any, default: Any, text: str) -> None:
        required = default is inspect.Parameter.empty
        common: dict[str, Any] = {"required": True} if required else {"default": default}
        described = text if required else f"{text} (default: {_shown(default)})"
        common["help"] = described.replace("%", "%%")
        if type(None) not in _members(hint):
            self.never_none[option.removeprefix("--").replace("-", "_")] = (
                "true or false" if hint is bool else _metavar(hint)
            )
        if hint is bool:
            self.flags += [option, option.replace("--", "--no-", 1)]
            self.add_argument(option, action=jsonargparse.ActionYesNo(no_prefix="no-"), **common)
        else:
            self.hints[option] = hint
            action = self.add_argument(option, type=hint, metavar=_metavar(hint), **common)
            action.option_strings = [option]  # keeps --x+, which appends to a list, out of the help

    def spelled(self, args: Sequence[str]) -> list[str]:
        """Return arguments as the library reads them: lists and None in YAML, files before what wins."""
        files: list[str] = []
        others: list[str] = []
        remaining = list(args)
        while remaining:
            option, equals, value = remaining.pop(0).partition("=")
            if option in self.hints and not equals and remaining and not remaining[0].startswith("--"):
                equals, value = "=", remaining.pop(0)
            if equals and _is_list(self.hints.get(option)):
                _refuse_blanks(option, value, remaining)
            if option in self.hints and equals:
                value = _as_yaml(value, self.hints[option])
            (files if option == "--config" else others).append(option + equals + value)
        return files + others

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> jsonargparse.Namespace:
        """Parse a configuration file; its errors begin with its name."""
        try:
            values = super().parse_path(path, *args, **kwargs)
            self.validate(values, skip_required=True)
            # The library takes null for whatever was not said.
            for name in (name for name in self.never_none if name in values and values[name] is None):
                raise InputError(f"{_option(name)}: null does not fit {self.never_none[name]}")
        except (TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as error:
            message = str(error) if isinstance(error, InputError) else self._in_one_line(str(error))
            raise InputError(f"{path}: {message}") from None
        return values

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> jsonargparse.Namespace:
        """Parse the text of a configuration, which is looked at first: aliases may stand for billions of values."""
        try:
            parsed_yaml(content)
        except InputError as error:
            raise InputError(f"Problems parsing config: {error}") from None
        return super().parse_string(content, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an ``InputError`` instead of printing the usage and a paragraph."""
        raise InputError(self._in_one_line(message)) from None

    def _in_one_line(self, message: str) -> str:
        if unknown := re.match(r"unrecognized arguments: (-[^\s=]*)|Option '(.*)' is not accepted", message):
            name = unknown[1] or unknown[2]
            option = name if unknown[1] else _option(name)
            return f"unknown option '{name}'; {nearest(option, [*self.hints, *self.flags])}"
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            message = f"unknown argument '{unknown[1]}': an option begins with --, and a value with blanks has quotes"
        if about := re.match(r'Parser key "(\w+)": *', message):
            option = _option(about[1])
            value = re.search("Got value: (.*)", message) or re.search("Given value: (.*)", message)
            if value:
                return f"{option}: '{value[1]}' does not fit {_metavar(self.hints[option])}"
            return f"{option}: {' '.join(message[about.end() :].split())}"
        if missing := re.match("the following arguments are required: (.*)", message):
            message = f"missing: {', '.join(map(_option, missing[1].split(', ')))}"
        return f"{' '.join(message.split())}; see {self.prog} --help"


def _documentation(source: Callable[..., Any]) -> docstring_parser.Docstring:
    return docstring_parser.parse(source.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_list(hint: Any) -> bool:
    return bool({list, tuple} & set(map(get_origin, _members(hint))))


def _refuse_blanks(option: str, value: str, following: Sequence[str]) -> None:
    """Refuse values of a list that a shell took apart, before one of them is called unknown.

    Raises:
        InputError: If something that is no option follows the value.
    """
    apart = list(itertools.takewhile(lambda word: not word.startswith("-"), following))
    if apart:
        joined = ",".join(filter(None, (part.strip(",") for part in (value, *apart))))
        raise InputError(f"{option}: join values by commas, without blanks: {option} {joined}")


def _as_yaml(text: str, hint: Any) -> str:
    if type(None) in _members(hint) and text.lower() == "none":
        return "null"
    if _is_list(hint) and not text.startswith("["):
        return json.dumps([part.strip() for part in text.split(",") if part.strip()])
    return text


def _metavar(hint: Any) -> str:
    shown = []
    for member in _members(hint):
        if get_origin(member) is Literal:
            shown.append("{" + ",".join(map(str, get_args(member))) + "}")
        elif get_origin(member) in (list, tuple):
            shown.append(_metavar(get_args(member)[0]) + ",...")
        elif member is not type(None):
            shown.append(_METAVARS.get(member, "VALUE"))
    return "|".join(shown)


def _shown(default: Any) -> str:
    if isinstance(default, list | tuple):
        return ",".join(map(str, default)) or "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default is None else str(default)


def set_up_logging() -> None:
    """Log our packages at INFO and libraries at WARNING to stderr, without tearing progress bars.

    Of the processes that a launcher starts for one run the first one tells what goes on; the others only warn.
    """
    handler = _BarSafeHandler()
    handler.setFormatter(_LineFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    # What runs as ``python -m`` goes by the name of ``__main__``.
    for package in (*_OUR_PACKAGES, "__main__"):
        logging.getLogger(package).setLevel(level)


class _LineFormatter(logging.Formatter):
    """Messages quote texts from users: none steers the terminal, or makes a line that looks like one of ours."""

    def format(self, record: logging.LogRecord) -> str:
        return for_terminal("\n    ".join(super().format(record).splitlines()))


class _Printed:
    """Standard output of a command, which no text from users can steer.

    Args:
        stream: Where it goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(for_terminal(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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
        raise Terminated

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
