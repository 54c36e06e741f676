"""A command line from a typed, documented function: its keyword parameters become long options."""

from __future__ import annotations

import argparse
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from illmrec.errors import InputError, nearest

_SCALARS: dict[Any, str] = {str: "TEXT", int: "INT", float: "NUMBER", Path: "PATH"}


def parse_options(main: Callable[..., Any], *, prog: str, args: Sequence[str]) -> dict[str, Any]:
    """Parse the arguments of a command into the keyword arguments of its function.

    ``max_users`` becomes ``--max-users``. Types: str, int, float, Path, ``Literal`` (a choice), bool (``--x`` and
    ``--no-x``), list or tuple of one of these (values joined by commas), and ``T | None`` ("none" gives None).
    A parameter without a default is required. Help comes from the Google-style docstring: everything before
    ``Args:`` describes the command, and each parameter needs its entry.

    Args:
        main: The function.
        prog: How the command is called, e.g. ``python -m bench.ablation``.
        args: The arguments, without the program's name.

    Raises:
        InputError: If an option is unknown (with the nearest valid one) or missing, or a value does not fit.
        SystemExit: With status 0 after ``--help``.
        TypeError: If the function cannot be turned into options.
    """
    parser = build_parser(main, prog=prog)
    values, unknown = parser.parse_known_args(list(args))
    if unknown:
        option = next((text for text in unknown if text.startswith("-")), None)
        if option is None:
            raise InputError(f"unexpected argument '{unknown[0]}'; see {prog} --help")
        known = [text for action in parser._actions for text in action.option_strings if text != "-h"]
        raise InputError(f"unknown option '{option}'; {nearest(option.partition('=')[0], known)}")
    return vars(values)


def build_parser(main: Callable[..., Any], *, prog: str) -> argparse.ArgumentParser:
    """Return the parser that ``parse_options`` uses; see there."""
    description, documented = _read_docstring(main)
    parser = _Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(main)
    for name, parameter in inspect.signature(main).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise TypeError(f"{main.__name__}: '{name}' cannot be an option")
        if name not in documented:
            raise TypeError(f"{main.__name__}: '{name}' has no entry under Args in the docstring")
        _add_option(parser, name, hints[name], parameter.default, documented[name])
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _add_option(parser: argparse.ArgumentParser, name: str, hint: Any, default: Any, text: str) -> None:
    required = default is inspect.Parameter.empty
    described = text if required else f"{text} (default: {_shown(default)})"
    common: dict[str, Any] = {"dest": name, "required": required, "help": described.replace("%", "%%")}
    if not required:
        common["default"] = default
    option = "--" + name.replace("_", "-")
    inner, optional = _without_none(hint)
    if inner is bool:
        parser.add_argument(option, action=argparse.BooleanOptionalAction, **common)
        return
    convert, metavar = _converter(inner)

    def parse(value: str) -> Any:
        return None if optional and value.lower() == "none" else convert(value)

    parser.add_argument(option, type=parse, metavar=metavar, **common)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return hint, False


def _converter(hint: Any) -> tuple[Callable[[str], Any], str]:
    """Return what turns the text of an option into a value, and how help shows that text."""
    if get_origin(hint) is Literal:
        by_name = {str(choice): choice for choice in get_args(hint)}

        def choose(text: str) -> Any:
            if text not in by_name:
                raise argparse.ArgumentTypeError(f"unknown value '{text}'; {nearest(text, by_name)}")
            return by_name[text]

        return choose, "{" + ",".join(by_name) + "}"
    if get_origin(hint) in (list, tuple):
        container: type[list[Any]] | type[tuple[Any, ...]] = get_origin(hint)
        members = [member for member in get_args(hint) if member is not Ellipsis]
        if len(members) != 1:
            raise TypeError(f"{hint} cannot be an option: its values must be of one type")
        convert, metavar = _converter(members[0])

        def convert_all(text: str) -> Any:
            return container(convert(part.strip()) for part in text.split(",") if part.strip())

        return convert_all, f"{metavar},..."
    if hint not in _SCALARS:
        raise TypeError(f"{hint} cannot be an option")

    def convert_one(text: str) -> Any:
        try:
            return hint(text)
        except ValueError:
            expected = {int: "a whole number", float: "a number"}.get(hint, "valid")
            raise argparse.ArgumentTypeError(f"'{text}' is not {expected}") from None

    return convert_one, _SCALARS[hint]


def _shown(default: Any) -> str:
    if isinstance(default, list | tuple):
        return ",".join(map(str, default)) or "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default is None else str(default)


def _read_docstring(main: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the text before ``Args:`` and the entries under it."""
    head, _, rest = inspect.cleandoc(main.__doc__ or "").partition("\nArgs:\n")
    entries: dict[str, str] = {}
    name = ""
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break
        entry = re.match(r" {4}(\w+)(?: \([^)]*\))?: (.*)", line)
        if entry:
            name = entry[1]
            entries[name] = entry[2].strip()
        elif name and line.strip():
            entries[name] += " " + line.strip()
    return head.strip(), entries
