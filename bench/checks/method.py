"""One's own method, checked: what it is, how it is made, and which checks it has to pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from bench.checks.report import Check, FailedChecks, Report, Violation, raised, run_checks
from bench.checks.representations import REPRESENTATION_CHECKS, RepresentationCase
from bench.checks.scorers import SCORER_CHECKS, ScorerCase
from bench.checks.small_data import small_shop
from bench.harness.methods import REPRESENTATIONS
from bench.harness.own_recommenders import SCORER_PARTS, made, missing_parameter
from illmrec.assembly import import_named
from illmrec.data.dataset import Dataset
from illmrec.data.splits import Split

SEED = 0
_REPRESENTATION_PARTS = ("render", "slots", "columns")


def check_method(method: Any, *, dataset: Dataset | None = None) -> Report:
    """Check that a method keeps the contract, on small generated data.

    A representation is checked for what prompts need of it, a scorer for what the evaluation needs of its scores;
    ``python -m bench.checks --help`` lists the checks.

    Args:
        method: A representation, or a scorer, as an object, a class or a function that makes one; or where it is,
            ``package.module:Name``; or the name of a representation of the toolkit. A class or function is called with
            those of ``split``, ``dataset``, ``n_items`` and ``seed`` that it has as parameters: so two checks more can
            be made, for which a scorer is fitted again.
        dataset: What scorers are fitted to and score; None for 40 users and 60 items of the toyshop. A scorer that is
            given as an object knows one catalogue and needs its data set here.

    Returns:
        Which checks were passed, and which could not be made.

    Raises:
        FailedChecks: If it fails a check; the message has a line for each of them, with its name.
        InputError: If there is no such module or name.
    """
    report = checked(method, dataset=dataset)
    if report.failed:
        raise FailedChecks(report)
    return report


def checked(method: Any, *, dataset: Dataset | None = None) -> Report:
    """Return what came of a method's checks, those that failed included; see :func:`check_method`."""
    name = method if isinstance(method, str) else getattr(method, "__qualname__", type(method).__name__)
    if isinstance(method, str):
        method = import_named(REPRESENTATIONS.get(method, method))
    data = small_shop() if dataset is None else dataset
    fit = _fit_of(method)
    try:
        candidate = method if fit is None else fit(data)
    except Exception as error:
        problem = missing_parameter(method) or f"it cannot be made: {raised(error)}"
        return _not_made(name, problem)
    run = partial(run_checks, method=name)
    if _has(candidate, _REPRESENTATION_PARTS) and not _has(candidate, SCORER_PARTS):
        return run(REPRESENTATION_CHECKS, RepresentationCase(representation=candidate), kind="representation")
    if not _has(candidate, SCORER_PARTS):
        return _not_made(
            name,
            "is neither a representation nor a scorer: it lacks render(item, available), and score(histories) or "
            "score_users(users, histories)",
        )
    return run(SCORER_CHECKS, ScorerCase(scorer=candidate, dataset=data, fit=fit), kind="scorer")


def _has(made: Any, parts: Sequence[str]) -> bool:
    return any(hasattr(made, part) for part in parts)


def _fit_of(method: Any) -> Callable[[Dataset], Any] | None:
    """Return what makes the method for a data set; None if it is made already."""
    if not inspect.isclass(method) and (
        _has(method, (*_REPRESENTATION_PARTS, *SCORER_PARTS)) or not callable(method)
    ):
        return None

    def fit(dataset: Dataset) -> Any:
        return made(method, split=Split(dataset=dataset), dataset=dataset, seed=SEED)

    return fit


def _not_made(name: str, problem: str) -> Report:
    def contract(_: object) -> None:
        raise Violation(problem)

    return run_checks([Check(name="contract", run=contract)], None, method=name, kind="method")
