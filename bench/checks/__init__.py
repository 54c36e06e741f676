"""The contract of a method as checks that can be run on one's own: ``from bench.checks import check_method``."""

from __future__ import annotations

from bench.checks.method import check_method
from bench.checks.report import Check, CheckError, FailedChecks, Report

__all__ = ["Check", "CheckError", "FailedChecks", "Report", "check_method"]
