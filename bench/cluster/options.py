"""Options of a command that say where its cells are computed."""

from __future__ import annotations

import math

from illmrec.errors import InputError
from illmrec.model import processes


def check_cluster(workers: int, scheduler: str | None) -> None:
    """Make sure that workers, a scheduler, or none of both is asked for.

    Raises:
        InputError: If not, or if a launcher has started several processes that compute each cell together.
    """
    if workers < 0:
        raise InputError(f"--workers {workers}: give 0 or more")
    if workers and scheduler is not None:
        raise InputError("--workers and --scheduler: give one; the scheduler has workers of its own")
    if (workers or scheduler is not None) and processes.count() > 1:
        raise InputError(
            "--workers and --scheduler compute cells side by side: start the command without a launcher"
        )


def parse_resources(text: str | None) -> dict[str, float]:
    """Return resources of dask written as ``GPU=1,memory=2``.

    Raises:
        InputError: If they are written otherwise.
    """
    found = {}
    for part in text.split(",") if text else ():
        name, _, amount = part.partition("=")
        try:
            number = float(amount)
        except ValueError:
            number = math.nan
        if not name.strip() or not 0 < number < math.inf:
            raise InputError(f"--resources {text}: write them as NAME=NUMBER, such as GPU=1")
        found[name.strip()] = number
    return found
