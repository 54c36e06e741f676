"""Where studies of hyper-parameters are kept: a journal in the output folder, or a storage of Optuna's by its URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from illmrec.errors import InputError
from illmrec.network_folders import is_local


def import_optuna() -> Any:
    """Return Optuna, quiet.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("bench.tune needs Optuna: run 'python -m pip install optuna'") from None
    # Its warnings are of trials that fail, with tracebacks; the error itself ends the search.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_storage(url: str | None, out: Path) -> Any:
    """Return the storage of studies.

    Raises:
        InputError: If it cannot be reached.
    """
    optuna = import_optuna()
    try:
        if url is not None:
            _check_shared(url)
            return optuna.storages.get_storage(url)
        journal = out / "store" / "studies.journal"
        journal.parent.mkdir(parents=True, exist_ok=True)
        from bench.harness.study_journal import StudyJournal  # needs Optuna

        return optuna.storages.JournalStorage(StudyJournal(journal))
    except InputError:
        raise
    except Exception as error:  # each kind of storage has errors of its own
        where = out if url is None else url
        raise InputError(f"--storage {where}: cannot be reached ({str(error).splitlines()[0]})") from error


def _check_shared(url: str) -> None:
    """Refuse SQLite where its locks do not hold."""
    kind, _, path = url.partition(":///")
    if kind.startswith("sqlite") and path and not is_local(Path(path.partition("?")[0])):
        raise InputError(
            f"--storage {url}: SQLite loses trials on a file system that machines share; leave --storage out, and "
            "studies are kept in a journal below --out, or give the URL of a database server"
        )
