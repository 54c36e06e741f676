"""``python -m bench``: what experiments there are, what they will cost here, and all of them in one command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.suite.catalogue import experiments
from illmrec.errors import nearest

HELP = """\
usage: python -m bench COMMAND [options]

How should an LLM recommender show an item to the LLM? Every table and figure of the paper is an experiment.

  python -m bench doctor     what this machine has, and what to do about what is missing
  python -m bench list       every experiment, its table or figure, and what it would cost on this machine
  python -m bench all        run them all, so that trained models are shared, and build the report once
  python -m bench scaling-out  how long a grid like the stored one would take on 1 to 100 workers
  python -m bench restore    a store from a gallery's published results, to which own runs can be added
  python -m bench same       whether a change changed no rank: the working tree against a commit, or without fast paths
  python -m bench.NAME       run one, e.g. python -m bench.ablation
  python -m reports          figures, tables and the page from what is stored

Each takes --help. They share their options and their results: a model that one experiment has trained is found by
the next, and a command that was interrupted resumes where it stopped.

  python -m bench list --preset small                     what it would cost, before anything runs
  python -m bench all --preset smoke                      everything once on tiny data, to see it work
  python -m bench all --dataset folder:PATH --seeds 0,1   your data, two seeds
  python -m bench all --experiments ablation,comparison   some of them
  python -m bench same --against main                     a change that should change no number
  python -m bench same --plain                            fast paths that should change no rank
  python -m bench scaling-out --cells 1000                a grid of so many cells on simulated workers

--preset smoke is for trying things out, small (the default) for a CPU, paper has the settings of the paper.

Experiments:
{listed}

Exit status of all: 0 even where the data could not support an experiment (the list at the end says which and why),
1 where an experiment failed, 2 where the options cannot be used at all, 130 after Ctrl-C, 143 after SIGTERM.
"""


def main(arguments: Sequence[str]) -> int:
    """Run a subcommand and return its exit status; without one, or with ``--help``, print how to use them."""
    command, *rest = arguments or ["--help"]
    if command in ("--help", "-h", "help"):
        lines = [f"  {experiment.name:<18} {experiment.question}" for experiment in experiments()]
        print(HELP.format(listed="\n".join(lines)), end="")
        return 0
    # Imported late: the help needs no PyTorch.
    if command == "list":
        from bench.suite import listing
        from illmrec.command_line import run

        return run(listing.main, prog="python -m bench list", args=rest)
    if command == "all":
        from bench.suite import everything
        from illmrec.command_line import run

        return run(everything.main, prog="python -m bench all", args=rest)
    if command == "doctor":
        from bench.suite import doctor
        from illmrec.command_line import run

        return run(doctor.main, prog="python -m bench doctor", args=rest, interrupted="")
    if command == "scaling-out":
        from bench.suite import scaling_out
        from illmrec.command_line import run

        return run(scaling_out.main, prog="python -m bench scaling-out", args=rest)
    if command == "restore":
        from bench.suite import restore
        from illmrec.command_line import run

        return run(restore.main, prog="python -m bench restore", args=rest)
    if command == "same":
        from bench.suite import same
        from illmrec.command_line import run

        return run(same.main, prog="python -m bench same", args=rest)
    known = [experiment.name for experiment in experiments()]
    if command in known:
        print(f"error: an experiment is a program of its own: python -m bench.{command}", file=sys.stderr)
    else:
        meant = nearest(command, ["doctor", "list", "all", "scaling-out", "restore", "same", *known])
        print(f"error: unknown command '{command}': {meant}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
