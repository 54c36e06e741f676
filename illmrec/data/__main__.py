"""``python -m illmrec.data``: published data sets, from their publishers' files to what experiments read."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from illmrec.errors import nearest

HELP = """\
usage: python -m illmrec.data COMMAND [options]

The data sets of the paper and of the field, by name.

  python -m illmrec.data list            which there are
  python -m illmrec.data stats NAME      where its files come from, its licence, its numbers beside the paper's
  python -m illmrec.data get NAME        build it; then --dataset NAME works in every experiment
  python -m illmrec.data check PATH      what is in a publisher's file, or in a folder that experiments read
  python -m illmrec.data export NAME     write it for RecBole or Hugging Face datasets (--to, --out)
  python -m illmrec.data measure         how fast reviews are read here, and in how much memory (--lines, --out)

get takes the publisher's files from a folder with --source DIR, pictures from one with --picture-folder DIR; it does
without pictures with --images none. Each command takes --help.
"""

COMMANDS = {
    "list": "list_data_sets",
    "get": "get",
    "stats": "stats",
    "check": "check",
    "export": "export",
    "measure": "measure",
}
_POSITIONAL = {"get": "--name", "stats": "--name", "check": "--path", "export": "--name"}


def main(arguments: Sequence[str]) -> int:
    """Run a subcommand and return its exit status; without one, or with ``--help``, print how to use them."""
    command, *rest = arguments or ["--help"]
    if command in ("--help", "-h", "help"):
        print(HELP, end="")
        return 0
    if command not in COMMANDS:
        print(f"error: unknown command '{command}': {nearest(command, COMMANDS)}", file=sys.stderr)
        return 2
    from illmrec.command_line import run  # imported late: the help needs nothing
    from illmrec.data import commands

    if command in _POSITIONAL and rest and not rest[0].startswith("-"):
        rest = [_POSITIONAL[command], *rest]
    return run(
        getattr(commands, COMMANDS[command]),
        prog=f"python -m illmrec.data {command}",
        args=rest,
        interrupted="finished steps are kept, the same command resumes" if command == "get" else "",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
