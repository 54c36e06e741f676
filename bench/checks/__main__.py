"""``python -m bench.checks package.module:Name``: the checks that one's own method passes and fails."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from bench.checks.method import checked
from bench.checks.report import Check
from bench.checks.representations import REPRESENTATION_CHECKS
from bench.checks.scorers import SCORER_CHECKS
from illmrec.command_line import EXIT_INTERRUPTED
from illmrec.errors import InputError
from illmrec.interrupts import begin

HELP = """\
usage: python -m bench.checks [--help] package.module:Name [package.module:Name ...]

Does a method of your own keep the contract? It is run on a small generated shop, in seconds; no LLM is loaded.

  python -m bench.checks my_methods:CategoryAndImage    your class in my_methods.py, where Python finds it
  python -m bench.checks illmrec                        a representation of the toolkit, to see what passing looks like

Name is a representation, which shows items to the LLM, or a scorer, which scores the catalogue for histories: a class,
a function that makes one, or an object. A class or function is called with those of split, dataset, n_items and seed
that it has as parameters. In Python, in a test of your own:

  from bench.checks import check_method

  check_method(MyScorer)                        one error that lists all checks it fails
  check_method(my_scorer, dataset=my_dataset)   a scorer that is fitted already, and its data

Checks of a representation:
{representation}
Checks of a scorer:
{scorer}
A check that another one's failure makes meaningless is skipped. Exit status: 0 if every method passes, 1 if one fails a
check, 2 if one cannot be imported.
"""


def main(arguments: Sequence[str]) -> int:
    """Check each method that is named and return the exit status; without one, or with ``--help``, teach."""
    if not arguments or {"--help", "-h"} & set(arguments):
        lists = {"representation": REPRESENTATION_CHECKS, "scorer": SCORER_CHECKS}
        print(HELP.format(**{kind: _listed(checks) for kind, checks in lists.items()}), end="")
        return 0
    status = 0
    try:
        begin()
        for name in arguments:
            if name.startswith("-"):
                raise InputError(f"unknown option '{name}'; give methods as package.module:Name")
            report = checked(name)
            print(report, flush=True)
            status = max(status, int(bool(report.failed)))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return status


def _listed(checks: Sequence[Check]) -> str:
    lines = []
    for check in checks:
        lines += textwrap.wrap(
            check.meaning, width=118, initial_indent=f"  {check.name:<15} ", subsequent_indent=" " * 18
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
