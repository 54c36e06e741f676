"""Named checks, run one after the other, and what came of them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class CheckError(AssertionError):
    """One check that a method fails.

    Args:
        message: What is wrong, in one line.
        check: The name of the check.
    """

    def __init__(self, message: str, *, check: str) -> None:
        super().__init__(f"{check}: {message}")
        self.check, self.message = check, message


class Violation(Exception):
    """Raised by a check whose subject does not keep the contract; the message is one line."""


class NotChecked(Exception):
    """Raised by a check that does not apply to its subject; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One part of the contract.

    Attributes:
        name: What it is called in reports and errors.
        run: Takes the subject; raises :class:`Violation` or :class:`NotChecked`. The first line of its docstring says
            what is checked.
        needs: Checks without which this one tells nothing.
    """

    name: str
    run: Callable[[Any], None]
    needs: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """What holds of a method that passes, in one sentence."""
        return " ".join((self.run.__doc__ or "").split("\n\n")[0].split())


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of a method's checks.

    Attributes:
        method: What was checked.
        kind: ``representation``, ``scorer``, or ``method`` where that cannot be told.
        passed: Names of the checks that it passes, in their order.
        failed: By name of the check, what is wrong, in one line.
        skipped: By name of the check, why it was not run.
    """

    method: str
    kind: str
    passed: tuple[str, ...]
    failed: Mapping[str, str]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        """Return a line for each check, and how many passed."""
        rows = [
            *(("passed", name, "") for name in self.passed),
            *(("skipped", name, why) for name, why in self.skipped.items()),
            *(("FAILED", name, why) for name, why in self.failed.items()),
        ]
        lines = [f"{self.method} ({self.kind})"]
        lines += [f"  {outcome:<8} {name:<15} {why}".rstrip() for outcome, name, why in rows]
        ran = len(self.passed) + len(self.failed)
        lines.append(f"  {len(self.passed)} of {ran} checks passed, {len(self.skipped)} not run")
        return "\n".join(lines)


class FailedChecks(AssertionError):
    """All that is wrong with a method: the message lists the checks that it fails, a line each.

    Args:
        report: Of the method; at least one check failed.

    Attributes:
        report: What else came of the checks.
        errors: One for each check that failed.
    """

    def __init__(self, report: Report) -> None:
        count = len(report.failed)
        lines = [f"{report.method} fails {count} check{'s' if count > 1 else ''}"]
        lines += [f"  {name}: {why}" for name, why in report.failed.items()]
        super().__init__("\n".join(lines))
        self.report = report
        self.errors = tuple(CheckError(why, check=name) for name, why in report.failed.items())


def run_checks(checks: Sequence[Check], subject: Any, *, method: str, kind: str) -> Report:
    """Run checks in their order and collect what came of them; a check whose needs are not met is skipped.

    Args:
        checks: Those that a check needs come before it.
        subject: What they are given.
        method: What it is called.
        kind: What it is.
    """
    passed: list[str] = []
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for check in checks:
        unmet = [name for name in check.needs if name not in passed]
        if unmet:
            skipped[check.name] = f"needs {unmet[0]}"
            continue
        try:
            check.run(subject)
        except NotChecked as reason:
            skipped[check.name] = str(reason)
        except Violation as problem:
            failed[check.name] = str(problem)
        except Exception as error:
            failed[check.name] = raised(error)
        else:
            passed.append(check.name)
    return Report(method=method, kind=kind, passed=tuple(passed), failed=failed, skipped=skipped)


def raised(error: Exception) -> str:
    """Return an error of a method in one line, with the file and line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split()) or "no message"
    return f"raised {type(error).__name__}: {said} ({Path(last.filename).name}, line {last.lineno})"
