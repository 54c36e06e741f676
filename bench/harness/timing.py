"""Prompts that are timed in turns: how many, whose, by what model; what the experiments on cost share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from bench.frames.efficiency import ABOUT, LENGTHS, VERSION
from bench.harness.bench import Bench
from bench.harness.positions import costs_of, warn_of_dropped
from bench.harness.settings import Preset
from bench.harness.timed_methods import conditions, described, shared_model, timed_prompts, untrained
from bench.harness.workspace import Workspace
from bench.meters.energy import energy_meter
from bench.meters.time_and_memory import matmul_peak
from bench.meters.turns import AnyPrompts, Prompts, Session, UnreadPrompts
from bench.store.cell import Cell, Outcome, Record
from illmrec.errors import InputError, UnsupportedError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How prompts are timed.

    Attributes:
        group_users: Users whose prompts are timed, the same for every method and, where enough users have so long a
            history, for every length; "none" takes 20, and 4 with the preset smoke.
        batch_users: Of them in a batch, for throughput; "none" takes 4, and 2 with the preset smoke.
        repeats: Times that everything is run, in an order drawn anew each time; "none" takes 3, and 2 with the preset
            smoke.
    """

    group_users: int | None = None
    batch_users: int | None = None
    repeats: int | None = None

    def __post_init__(self) -> None:
        for name in ("group_users", "batch_users", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: give at least 1")

    def resolved(self, preset: Preset) -> Timing:
        """Return the timing with what was left open."""
        smoke = preset == "smoke"
        return replace(
            self,
            group_users=self.group_users or (4 if smoke else 20),
            batch_users=self.batch_users or (2 if smoke else 4),
            repeats=self.repeats or (2 if smoke else 3),
        )


def time_lengths(
    bench: Bench, methods: Sequence[str], groups: Mapping[int, np.ndarray], *, timing: Timing
) -> list[Record]:
    """Time methods at lengths of history in turns, or find them timed.

    Args:
        bench: Data, features and LLM, and the store.
        methods: Names of LLM methods.
        groups: By length, the users to read, int64 [users].
        timing: How.
    """
    cells = [
        efficiency_cell(bench.workspace, name, length, groups[length], timing=timing)
        for name in methods
        for length in groups
    ]
    return run_timed(bench, cells)


def run_timed(
    bench: Bench, cells: Sequence[Cell], place_of: Callable[[Cell], Workspace] | None = None
) -> list[Record]:
    """Run cells of prompts that are timed: those that the store lacks, in one session.

    Args:
        bench: The store, and what is overwritten.
        cells: What :func:`efficiency_cell` returned, whatever was made of it.
        place_of: Returns the workspace of a cell; by default the run's.
    """
    where = place_of or (lambda cell: bench.workspace)
    # The first cell that is computed times all that are to be; what is stored is known by then.
    return bench.run(cells, compute_cost(to_time(bench, cells), where), place_of=where)


def to_time(bench: Bench, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells that are timed now, and say so where others were timed before.

    Args:
        bench: The store, and what is overwritten.
        cells: What is wanted.
    """
    wanted = list({cell.key: cell for cell in cells}.values())
    overwrite = bench.settings.overwrite
    missing = [cell for cell in wanted if overwrite == "always" or bench.store.find(cell) is None]
    if missing and len(missing) < len(wanted) and overwrite == "only-missing":
        logger.warning(
            "%d of %d timings are there from before: ratios to them are not of one session; "
            "--overwrite always times all of them in turns",
            len(wanted) - len(missing),
            len(wanted),
        )
    return missing


def efficiency_cell(
    workspace: Workspace, method: str, length: int, users: np.ndarray, *, timing: Timing
) -> Cell:
    """Return the cell that measures a method at a length of history.

    Args:
        workspace: Data, features and LLM.
        method: Name of the method.
        length: Items of history that are read.
        users: Whose.
        timing: How.
    """
    return Cell(
        experiment=ABOUT.name,
        version=VERSION,
        config={
            **conditions(workspace, method, length, users),
            **described(workspace, method),
            "group_users": len(users),
            "batch_users": timing.batch_users,
            "repeats": timing.repeats,
        },
        method=method,
        seed=0,
        dataset=workspace.dataset.statistics(),
        label=f"{method} |S_u| = {length}",
    )


def user_groups(
    workspace: Workspace, lengths: Sequence[int], timing: Timing, *, option: str = "--lengths"
) -> dict[int, np.ndarray]:
    """Draw the users of each length of history, int64 [group_users]; a length that too few users have is an error.

    They are the same for all lengths where enough users have the longest, so that lengths are compared, not users.

    Args:
        workspace: Data.
        lengths: Items of history.
        timing: How many users.
        option: By which a user names lengths.
    """
    count = timing.group_users or 1
    history_lengths = workspace.split.history_lengths("test")
    ordered = sorted(set(lengths))
    enough = {length: np.flatnonzero(history_lengths >= length) for length in ordered}
    for length, users in enough.items():
        if len(users) < count:
            remedy = "leave that length out" if option == "--lengths" else "give a shorter one"
            raise InputError(
                f"{option} {length}: {len(users)} users of {workspace.dataset.name} have so long a history and "
                f"{count} are needed; {remedy}{' or lower --group-users' if len(users) else ''}"
            )
    drawn = np.sort(np.random.default_rng(0).choice(enough[ordered[-1]], count, replace=False))
    return dict.fromkeys(ordered, drawn)


def usual_lengths(
    workspace: Workspace, lengths: Sequence[int], timing: Timing, *, least: int = 1, fewest: int = 0
) -> list[int]:
    """Return those of an experiment's own lengths of history that enough users have; the log names the others.

    Args:
        workspace: Data.
        lengths: Items of history, of which the user gave none.
        timing: How many users are timed.
        least: Lengths that the experiment needs.
        fewest: Users that are needed among those that each seed evaluates.

    Raises:
        InputError: If too few are left.
    """
    everyone = workspace.split.history_lengths("test")
    asked = [(everyone, timing.group_users or 1, "--group-users")]
    if fewest:
        asked += [
            (everyone[workspace.users(seed)], fewest, "--min-users") for seed in workspace.settings.seeds
        ]
    short = {
        length: option
        for found, count, option in asked
        for length in lengths
        if int((found >= length).sum()) < count
    }
    left = [length for length in sorted(set(lengths)) if length not in short]
    if len(left) < least:
        raise InputError(
            f"{workspace.dataset.name}: too few users have histories of {','.join(map(str, sorted(short)))} items, the "
            f"lengths that are measured by default; give shorter --lengths or lower {short[min(short)]}"
        )
    if short:
        logger.info(
            "lengths of history left out, which too few users of %s have: %s; measured are %s",
            workspace.dataset.name,
            ", ".join(map(str, sorted(short))),
            ", ".join(map(str, left)),
        )
    return left


def efficiency_groups(
    workspace: Workspace, length: int, timing: Timing, *, option: str = "--lengths"
) -> dict[int, np.ndarray]:
    """Return the users that ``bench.efficiency`` draws for a length, by length: int64 [group_users].

    Where too few have a history of its longest length, users with as long a one as is wanted.
    """
    history_lengths = workspace.split.history_lengths("test")
    drawn = [other for other in LENGTHS if (history_lengths >= other).sum() >= (timing.group_users or 1)]
    return {length: user_groups(workspace, [*drawn, length], timing, option=option)[length]}


def cost_groups(workspace: Workspace, timing: Timing) -> dict[int, np.ndarray]:
    """Draw the users whose prompts are timed: with L items of history, or as many as that many users have."""
    longest = np.sort(workspace.split.history_lengths("test"))[::-1]
    count = min(timing.group_users or 1, len(longest))
    length = min(workspace.settings.history_length, int(longest[count - 1]))
    return user_groups(workspace, [length], replace(timing, group_users=count))


def compute_cost(cells: Sequence[Cell], place_of: Callable[[Cell], Workspace]) -> Callable[[Cell], Outcome]:
    """Return the function that measures a cell: the first one asked for times all of them, in turns.

    Args:
        cells: What the session is to time.
        place_of: Returns the workspace of a cell.
    """
    models: dict[tuple[Any, ...], Any] = {}
    refused: dict[str, UnsupportedError] = {}

    def prompts(cell: Cell) -> AnyPrompts:
        place = place_of(cell)
        at = shared_model(cell, place)
        if at not in models:
            longest = max(c.config["history_length"] for c in cells)
            models[at] = untrained(cell, place, history_length=longest)
        timed = timed_prompts(cell, place, models[at])
        if isinstance(timed, Prompts) and not isinstance(timed, UnreadPrompts):
            warn_of_dropped(cell, costs_of(timed.builder, timed.histories), workspace=place)
        return timed

    @cache
    def session() -> Session:
        found: dict[str, AnyPrompts] = {}
        for cell in cells:
            try:
                found[cell.key] = prompts(cell)
            except UnsupportedError as error:
                refused[cell.key] = error
        timed = Session(
            found,
            repeats=cells[0].config["repeats"],
            progress=place_of(cells[0]).settings.progress,
            energy=energy_meter(place_of(cells[0]).device),
        )
        timed.run()
        return timed

    def compute(cell: Cell) -> Outcome:
        timed = session()
        if cell.key in refused:
            raise refused[cell.key]
        backbone = place_of(cell).backbone
        results = timed.results(cell.key, peak_gflops=peak(backbone.dtype, backbone.device))
        results |= {"method": cell.method, "history_length": cell.config["history_length"]}
        shared = timed.timed_as[cell.key]
        if shared != cell.key:
            results["timed_as"] = timed.prompts[shared].name
        return Outcome(results=results, frames={"timings": timed.timings(cell.key)})

    return compute


@cache
def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Return the best rate of matrix products, GFLOP/s, measured once a process."""
    return matmul_peak(dtype, device)
