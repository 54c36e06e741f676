"""``python -m illmrec.features``: image and text features of a data set, computed ahead of experiments."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from illmrec.errors import nearest

HELP = """\
usage: python -m illmrec.features extract [options]

Image and text features of a data set, once and ahead of experiments, which find them in the cache.

  python -m illmrec.features extract --dataset NAME                what an experiment would compute first
  python -m illmrec.features extract --dataset NAME --shard 1/4    every fourth batch; the other shards run elsewhere

NAME is what experiments call it: toyshop, folder:PATH, or a data set that python -m illmrec.data get has built.
Pictures are read from a folder, a zip or a tar file one by one, never unpacked, and decoded in --workers processes
ahead of the encoder (--vision), which reads --batch-size at a time on --device. Rows go into one table on disk: a run
that is killed goes on where it was, to the same bytes. At the end it says how many items a second that were, how many
the decoder and the encoder do alone, and which of the two is the limit. extract takes --help.
"""

COMMANDS = ("extract",)


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
    from illmrec.features.commands import extract

    return run(
        extract,
        prog=f"python -m illmrec.features {command}",
        args=rest,
        interrupted="finished batches are kept, the same command resumes",
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
