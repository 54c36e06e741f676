"""What the next recommendation costs after one more item: read on from what a session keeps, or anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import numpy as np

from bench.frames.serving import ABOUT, EXPERIMENT, VERSION, serving_frame, users_frame
from bench.harness.bench import Bench
from bench.harness.methods import check_llm_methods, representation_of
from bench.harness.plan import Work
from bench.harness.positions import costs_of, warn_of_dropped
from bench.harness.settings import Settings
from bench.harness.timed_methods import conditions, untrained_model
from bench.harness.timing import Timing, user_groups, usual_lengths
from bench.harness.workspace import Workspace
from bench.meters.append import Appends, summarised, time_appends
from bench.store.cell import Cell, Outcome
from illmrec.command_line import run
from illmrec.errors import InputError
from illmrec.model.illmrec import ILLMRec

METHODS = ("illmrec", "tallrec", "trsr", "title")


def main(
    settings: Settings,
    *,
    methods: tuple[str, ...] = METHODS,
    lengths: tuple[int, ...] | None = None,
    group_users: int | None = None,
    sessions: int | None = None,
    repeats: int | None = None,
) -> int:
    """Measure the next recommendation after one more item, read on from a session's keys and values, and anew.

    A user's history but its last item is read beforehand; then the item is appended and the ten best items of the
    catalogue are listed. Against that the whole history is read. Both ways take turns, users alone and several users
    together, models untrained: cost does not depend on their parameters. Scores of both ways are equal in float32.

    Writes tables/serving.csv (a user alone: tokens through the LLM, latency, and anew over the way) and
    tables/serving_users.csv (many sessions: users a second, megabytes that a session keeps) under --out.

    Args:
        settings: Data and model; the whole LLM unless --layers says otherwise.
        methods: LLM methods to measure.
        lengths: Items of history with the last one; "none": of 5,10,20, in preset smoke of 3,6, those that enough users
            have.
        group_users: Users, the same for all methods; "none": 20, in preset smoke 4.
        sessions: Users of them who are served together; "none": 16, in preset smoke 4.
        repeats: Times that everything is run, in an order drawn anew; "none": 3, in preset smoke 2.
    """
    names = check_llm_methods(methods, why="keep what the LLM has read")
    smoke = settings.preset == "smoke"
    usual = (3, 6) if smoke else (5, 10, 20)
    sessions = (4 if smoke else 16) if sessions is None else sessions
    if lengths and min(lengths) < 2:
        raise InputError(f"--lengths {min(lengths)}: give at least 2, an item to append and one before it")
    if sessions < 1:
        raise InputError(f"--sessions {sessions}: give at least 1")
    timing = Timing(group_users=group_users, repeats=repeats).resolved(settings.preset)
    bench = Bench(ABOUT, settings, whole_llm=True)
    lengths = lengths or tuple(usual_lengths(bench.workspace, usual, timing))
    groups = user_groups(bench.workspace, lengths, timing)
    cells = [
        _cell(bench.workspace, name, length, groups[length], sessions=sessions, timing=timing)
        for name in names
        for length in groups
    ]
    records = bench.run(cells, compute_serving(bench.workspace, longest=max(lengths)), work=expected_work)
    for table, name, title in (
        (serving_frame(records), None, "The next recommendation after one more item"),
        (users_frame(records), "serving_users", "Many sessions at once"),
    ):
        bench.write(table, name)
        bench.show(table, f"{title}, {bench.workspace.dataset.name}, {bench.workspace.backbone.name}")
    return bench.finish()


def _cell(
    workspace: Workspace, method: str, length: int, users: np.ndarray, *, sessions: int, timing: Timing
) -> Cell:
    return Cell(
        experiment=EXPERIMENT,
        version=VERSION,
        config={
            **conditions(workspace, method, length, users),
            **workspace.shown(representation_of(method)),
            "sessions": sessions,
            "repeats": timing.repeats,
        },
        method=method,
        seed=0,
        dataset=workspace.dataset.statistics(),
        label=f"{method} |S_u| = {length}",
    )


def expected_work(cell: Cell) -> Work:
    """Return what a cell takes: whole histories twice a repeat, once before an item is appended and once anew."""
    config = cell.config
    prompts = 2 * (1 + config["repeats"]) * (len(config["users"]) + config["sessions"])
    return Work(read=((cell.method, config["history_length"], prompts),))


def compute_serving(workspace: Workspace, *, longest: int) -> Callable[[Cell], Outcome]:
    """Return the function that computes a cell in this workspace.

    Args:
        workspace: Data, features and LLM.
        longest: Items of the longest history.
    """

    @cache
    def model(representation: str, scored: tuple[str, ...]) -> ILLMRec:
        return untrained_model(workspace, representation, heads=scored, history_length=longest)

    def compute(cell: Cell) -> Outcome:
        config, split = cell.config, workspace.split
        chosen = np.flatnonzero(np.isin(np.asarray(workspace.dataset.user_ids, dtype=str), config["users"]))
        appends = Appends(
            name=cell.label,
            model=model(config["representation"], tuple(config["heads"])),
            dataset=workspace.dataset,
            histories=[split.history(int(user), "test")[-config["history_length"] :] for user in chosen],
            sessions=config["sessions"],
        )
        warn_of_dropped(cell, costs_of(appends.model.prompts, appends.histories), workspace=workspace)
        timings = time_appends(appends, repeats=config["repeats"], progress=workspace.settings.progress)
        return Outcome(results=summarised(timings), frames={"timings": timings})

    return compute


if __name__ == "__main__":
    sys.exit(run(main, prog="python -m bench.serving"))
